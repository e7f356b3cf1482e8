//! Processes that are measured.

/// Processor time of a process in seconds, and its resident memory in bytes.
pub fn usage(pid: u32) -> (f64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = pages
        .split_whitespace()
        .nth(1)
        .and_then(|f| f.parse::<u64>().ok());
    // Linux counts in hundredths of a second and pages of 4 KiB on every machine this runs on.
    ((ticks(11) + ticks(12)) / 100.0, pages.unwrap_or(0) * 4096)
}

/// A process that does not outlive the measurement.
pub struct Killed(pub std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
