//! What idle agents cost per second of their time. `cargo bench -p visavis-ice`; memory and the path of data as
//! well, `cargo xtask bench ice`.

#[path = "../examples/agent_cost/crowd.rs"]
#[allow(dead_code, reason = "the table uses more of it")]
mod crowd;

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use crowd::Crowd;

/// Virtual seconds per measurement: more than one consent interval, so that each agent has had its turn.
const SECONDS: u32 = 10;

fn agents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("idle agents, one second of each");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for count in [100, 10_000] {
        let mut crowd = Crowd::new(count);
        crowd.run(Duration::from_secs(30));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter_custom(|iterations| {
                let began = Instant::now();
                for _ in 0..iterations {
                    crowd.run(Duration::from_secs(SECONDS.into()));
                }
                began.elapsed() / SECONDS
            });
        });
    }
    group.finish();
}

criterion_group!(benches, agents);
criterion_main!(benches);
