//! Memory of a process that runs for long: what was freed goes back to the system.

/// What is worth it, in bytes, and as a share of what there was.
const WORTH: u64 = 2 << 20;
const SHARE: u64 = 32;

/// Gives freed memory back where the C library keeps it. glibc keeps what lies between pieces that are in use, in each thread's arena
/// on its own: a process stays as large as its largest moments were, added up.
#[derive(Debug)]
pub struct HeapTrim {
    /// The fewest resident bytes that were seen since the last time.
    floor: u64,
    /// The most bytes in use that were seen since then.
    most_used: u64,
}

impl Default for HeapTrim {
    fn default() -> Self {
        Self::new()
    }
}

impl HeapTrim {
    /// Begins with what the process is now.
    pub fn new() -> Self {
        Self {
            floor: resident().unwrap_or(0),
            most_used: used(),
        }
    }

    /// Looks how large the process is, and gives back what it can if it grew by a thirty-second or if so much less is in use, and 2 MiB
    /// at least. To be called
    /// every now and then, off the threads that must not wait: it takes milliseconds, during which others may wait for memory, not
    /// for anything else. Answers the resident bytes given back; always 0 where the C library is not glibc.
    pub fn look(&mut self) -> u64 {
        let Some(before) = resident() else { return 0 };
        let used = used();
        self.floor = self.floor.min(before);
        self.most_used = self.most_used.max(used);
        let worth = WORTH.max(self.floor / SHARE);
        if before < self.floor + worth && self.most_used < used + worth {
            return 0;
        }
        self.most_used = used;
        trim();
        let after = resident().unwrap_or(before);
        self.floor = after;
        before.saturating_sub(after)
    }
}

/// Resident bytes of this process, where the system tells (proc_pid_status(5)).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}

/// Bytes that are in use on the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn used() -> u64 {
    // SAFETY: mallinfo2(3) may be called at any time from any thread, and only counts.
    let counts = unsafe { libc::mallinfo2() };
    (counts.uordblks + counts.hblkhd) as u64
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn used() -> u64 {
    0
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: malloc_trim(3) may be called at any time from any thread, and touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_between_what_is_used_goes_back() {
        const MIB: u64 = 1 << 20;
        let mut heap = HeapTrim::new();
        let (mut kept, mut freed) = (Vec::new(), Vec::new());
        for _ in 0..1024 {
            kept.push(vec![1_u8; 1024]);
            freed.push(vec![1_u8; 64 << 10]);
        }
        let full = resident().unwrap();
        // It grew, and all of it is in use; from here on it does not grow.
        heap.look();
        drop(freed);
        let given = heap.look();
        assert!(given > 48 * MIB, "{given} of {full} bytes");
        assert!(kept.iter().all(|kept| kept.iter().all(|byte| *byte == 1)));
    }
}
