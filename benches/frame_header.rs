//! Frame headers and whole small messages. Input: one client frame for each length form; 64 masked
//! text messages of 16 bytes in one buffer.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::ws::header::{Fin, Opcode, Rsv, decode_header, encode_header};
use ringway::ws::receiver::{Limits, Receiver};

const SHORT: &[u8] = b"\x81\x90mask";
const MEDIUM: &[u8] = b"\x82\xfe\x04\x00mask";
const LONG: &[u8] = b"\x82\xff\0\0\0\0\0\x01\0\0mask";
const MESSAGES: u64 = 64;

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame_header");
    group.throughput(Throughput::Elements(1));
    for (form, bytes) in [("7_bit", SHORT), ("16_bit", MEDIUM), ("64_bit", LONG)] {
        group.bench_function(BenchmarkId::new("decode", form), |b| {
            b.iter(|| decode_header(black_box(bytes), Rsv::NONE));
        });
    }
    for (form, len) in [("7_bit", 16), ("16_bit", 1024), ("64_bit", 65536)] {
        let mut out = Vec::with_capacity(16);
        group.bench_function(BenchmarkId::new("encode", form), |b| {
            b.iter(|| {
                out.clear();
                encode_header(Opcode::Text, Fin::Last, Rsv::NONE, black_box(len), &mut out);
                black_box(&mut out);
            });
        });
    }
    group.finish();
}

fn messages(c: &mut Criterion) {
    let mut frame = SHORT.to_vec();
    frame.extend(b"sixteen bytes...".iter().zip(b"mask".iter().cycle()).map(|(b, m)| b ^ m));
    let mut stream = Vec::new();
    for _ in 0..MESSAGES {
        stream.extend_from_slice(&frame);
    }
    let mut group = c.benchmark_group("receive");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("64_texts_of_16_bytes", |b| {
        let mut receiver = Receiver::default();
        b.iter_batched_ref(
            || stream.clone(),
            |input| {
                let mut at = 0;
                loop {
                    let received = receiver.receive(&mut input[at..], &Limits::default());
                    let received = received.expect("the stream is valid");
                    at += received.consumed;
                    if black_box(received.event).is_none() {
                        break;
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(frame_benches, headers, messages);
criterion_main!(frame_benches);
