//! Unmasking in place and in a copy, beside a copy alone. Input: one payload, 16 B to 64 KiB, that
//! begins at the start of a cache line or 6 bytes after it, as behind a short frame header.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::ws::mask::{unmask, unmask_copy};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("unmask");
    for len in [16, 128, 1024, 65536] {
        group.throughput(Throughput::Bytes(len as u64));
        for offset in [0, 6] {
            let mut memory = vec![0x5a_u8; len + 128];
            let start = memory.as_ptr().align_offset(64) + offset;
            let payload = &mut memory[start..start + len];
            let input = format!("{len}+{offset}");
            group.bench_function(BenchmarkId::new("in_place", &input), |b| {
                b.iter(|| unmask(black_box(payload), black_box(MASK), 0));
            });
            let mut out = Vec::with_capacity(len);
            group.bench_function(BenchmarkId::new("copy", &input), |b| {
                b.iter(|| {
                    out.clear();
                    unmask_copy(&mut out, black_box(payload), black_box(MASK), 0);
                    black_box(&mut out);
                });
            });
            group.bench_function(BenchmarkId::new("memcpy", &input), |b| {
                b.iter(|| {
                    out.clear();
                    out.extend_from_slice(black_box(payload));
                    black_box(&mut out);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(unmask_benches, benches);
criterion_main!(unmask_benches);
