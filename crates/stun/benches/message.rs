//! What a connectivity check costs to read and to write. `cargo bench -p visavis-stun`; beside another
//! implementation, `cargo xtask bench stun`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use visavis_stun::attributes::{IceControlling, Priority, Username};
use visavis_stun::{Class, IntegrityKey, Message, MessageBuilder, Method, TransactionId, Verdict};

fn write(key: &IntegrityKey, buffer: &mut [u8]) -> usize {
    let id = TransactionId([7; 12]);
    MessageBuilder::new(buffer, Class::Request, Method::BINDING, id)
        .add(&Username("sw7YvCSbcVex3bhi:AYeZ"))
        .add(&Priority(0x6e00_01ff))
        .add(&IceControlling(1))
        .integrity(key)
        .fingerprint()
        .finish()
        .expect("fits")
}

fn message(criterion: &mut Criterion) {
    let key = IntegrityKey::short_term("VOkJxbRl1RmTxUk/WvJxBt");
    let mut buffer = [0; 200];
    let length = write(&key, &mut buffer);
    let check = buffer[..length].to_vec();
    let mut group = criterion.benchmark_group("check");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            let message = Message::parse(black_box(&check)).expect("a message");
            black_box(message.get::<Username<'_>>());
        });
    });
    group.bench_function("parse, fingerprint and integrity", |bencher| {
        bencher.iter(|| {
            let message = Message::parse(black_box(&check)).expect("a message");
            assert_eq!(message.check_fingerprint(), Verdict::Valid);
            assert_eq!(message.check_integrity(&key), Verdict::Valid);
        });
    });
    group.bench_function("write", |bencher| {
        bencher.iter(|| black_box(write(&key, black_box(&mut buffer))));
    });
    group.finish();
}

criterion_group!(benches, message);
criterion_main!(benches);
