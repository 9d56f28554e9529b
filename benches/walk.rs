//! The walk over the subscribers of one topic: a reference to the frame into each outbox. Input:
//! 10,000 subscribers in the order of their slots, or in the order that years of coming and going
//! leave behind; empty outboxes; a frame of 130 bytes.

use std::hint::black_box;
use std::rc::Rc;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::conn::outbox::{Outbox, Piece, Settings};
use ringway::topic::name::TopicName;
use ringway::topic::subscribers::{TopicId, Topics};

const SUBSCRIBERS: u32 = 10_000;

const LIMITS: Settings = Settings {
    bytes_max: 1 << 20,
    soft_bytes_max: 1 << 18,
    soft_timeout: std::time::Duration::from_secs(10),
    stall_timeout: std::time::Duration::from_secs(10),
};

/// One topic with a subscriber in each of these slots.
fn topics(slots: &[u32]) -> (Topics, TopicId) {
    let name = TopicName::new("demo").expect("the name is valid");
    let mut topics = Topics::default();
    let ids: Vec<_> = slots
        .iter()
        .map(|&slot| {
            let id = topics.expect(&name);
            topics.join(id, 0, slot);
            id
        })
        .collect();
    (topics, ids[0])
}

fn walk(topics: &Topics, id: TopicId, frame: &Rc<Bytes>, outboxes: &mut [Outbox]) {
    for &slot in topics.members(id, 0) {
        let piece = Piece::Frame(Rc::clone(frame));
        let _ = black_box(outboxes[slot as usize].push(piece, &[], &LIMITS));
    }
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(u64::from(SUBSCRIBERS)));
    let frame = Rc::new(Bytes::from(vec![b'x'; 130]));
    let ordered: Vec<u32> = (0..SUBSCRIBERS).collect();
    let mut shuffled = ordered.clone();
    fastrand::Rng::with_seed(1).shuffle(&mut shuffled);
    for (name, slots) in [("in_order", ordered), ("shuffled", shuffled)] {
        let (topics, id) = topics(&slots);
        let empty = || (0..SUBSCRIBERS).map(|_| Outbox::default()).collect::<Vec<_>>();
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_batched_ref(
                empty,
                |outboxes| walk(black_box(&topics), id, &frame, outboxes),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(walk_benches, benches);
criterion_main!(walk_benches);
