//! Validation of text in pieces, beside `std`. Input: 64 KiB of ASCII, and of two- to four-byte
//! characters, whole and in pieces of 1,400 bytes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::ws::utf8::Utf8Validator;

const TEXT_BYTES: usize = 64 * 1024;

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("utf8");
    for (name, pattern) in [("ascii", "a plain sentence "), ("multibyte", "Zürich €5 𝄞 κόσμε ")]
    {
        let text = pattern.repeat(TEXT_BYTES / pattern.len());
        group.throughput(Throughput::Bytes(text.len() as u64));
        for piece_len in [text.len(), 1400] {
            group.bench_function(BenchmarkId::new(name, format!("pieces_of_{piece_len}")), |b| {
                b.iter(|| {
                    let mut validator = Utf8Validator::default();
                    for piece in black_box(text.as_bytes()).chunks(piece_len) {
                        validator.push(piece).expect("the text is valid");
                    }
                    validator.finish()
                });
            });
        }
        group.bench_function(BenchmarkId::new(name, "std"), |b| {
            b.iter(|| std::str::from_utf8(black_box(text.as_bytes())).is_ok());
        });
    }
    group.finish();
}

criterion_group!(utf8_benches, benches);
criterion_main!(utf8_benches);
