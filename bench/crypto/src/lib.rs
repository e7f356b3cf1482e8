//! A harness for work of well under a microsecond on a machine that does other things too.
//!
//! Each contestant does the same work in batches. A round lets each run one batch, in turn, and
//! takes the CPU time of the thread; what a contestant gets is the median of its rounds. So a
//! neighbour that wakes up, or a clock that slows down, hits all of them alike.

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};

/// Something that does the work of a row.
pub struct Contestant<'a> {
    name: &'static str,
    batch: u32,
    prepare: Box<dyn FnMut() + 'a>,
    work: Box<dyn FnMut() + 'a>,
}

impl<'a> Contestant<'a> {
    /// A contestant whose work needs no preparation; its batch takes 50 microseconds or more.
    pub fn new(name: &'static str, mut work: impl FnMut() + 'a) -> Self {
        let mut batch = 1;
        // The best of three, because the first call may meet cold caches or a page fault.
        let mut best_of_three = |batch| {
            (0..3)
                .map(|_| {
                    let start = cpu_nanoseconds();
                    (0..batch).for_each(|_| work());
                    cpu_nanoseconds() - start
                })
                .fold(f64::INFINITY, f64::min)
        };
        while best_of_three(batch) < 50_000.0 && batch < 1 << 20 {
            batch *= 2;
        }
        Self {
            name,
            batch,
            prepare: Box::new(|| ()),
            work: Box::new(move || (0..batch).for_each(|_| work())),
        }
    }

    /// A contestant that does `operations` in one call of `work`, and before each such call
    /// `prepare`, which is not measured.
    pub fn batch(
        name: &'static str,
        operations: u32,
        prepare: impl FnMut() + 'a,
        work: impl FnMut() + 'a,
    ) -> Self {
        Self {
            name,
            batch: operations,
            prepare: Box::new(prepare),
            work: Box::new(work),
        }
    }
}

/// Nanoseconds of CPU time per operation of each contestant, in their order: the median of
/// `rounds`.
pub fn compare(rounds: usize, mut contestants: Vec<Contestant<'_>>) -> Vec<(&'static str, f64)> {
    let mut samples = vec![Vec::with_capacity(rounds); contestants.len()];
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    let mut random = 1u64;
    for round in 0..rounds + 3 {
        // In a new order each time: caches remember who was before.
        for place in (1..order.len()).rev() {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            order.swap(place, (random >> 33) as usize % (place + 1));
        }
        for &place in &order {
            let (contestant, samples) = (&mut contestants[place], &mut samples[place]);
            (contestant.prepare)();
            let start = cpu_nanoseconds();
            black_box(&mut contestant.work)();
            let taken = cpu_nanoseconds() - start;
            // The first rounds warm caches and predictors up.
            if round >= 3 {
                samples.push(taken / f64::from(contestant.batch));
            }
        }
    }
    contestants
        .iter()
        .zip(samples)
        .map(|(contestant, mut samples)| {
            samples.sort_by(f64::total_cmp);
            (contestant.name, samples[samples.len() / 2])
        })
        .collect()
}

/// The processor's name, for the note under a table.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    format!(
        "{name}, {} threads, {}",
        std::thread::available_parallelism().map_or(0, |count| count.get()),
        std::env::consts::OS
    )
}

/// The CPU time of this thread so far.
pub fn cpu_nanoseconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
