//! Compressing and inflating messages that stand alone, as topics send them. Input: a list of quotes
//! in JSON, cut to several lengths; each level; windows of 32 KiB.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::ws::deflate::{Codec, Settings};
use ringway::ws::receiver::Kind;

const LENGTHS: [usize; 7] = [64, 128, 256, 512, 1024, 4096, 16 * 1024];
const LEVELS: [u8; 4] = [1, 3, 6, 9];

fn quotes(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = String::from("{\"quotes\":[");
    while text.len() < len {
        let (price, volume) = (random.u32(1000..99_999), random.u32(1..5000));
        let symbol: String = (0..4).map(|_| random.uppercase()).collect();
        text += &format!("{{\"symbol\":\"{symbol}\",\"price\":{price},\"volume\":{volume}}},");
    }
    text.truncate(len);
    text.into_bytes()
}

fn codec(level: u8) -> Codec {
    Codec::new(Some(Settings { level, bytes_min: 0, client_window_bits: None }), 0)
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    for len in LENGTHS {
        let message = quotes(len);
        group.throughput(Throughput::Bytes(message.len() as u64));
        for level in LEVELS {
            let mut codec = codec(level);
            let compressed = codec.compress(&message, 15).map_or(len, <[u8]>::len);
            let name = format!("compress_{level}_to_{}%", compressed * 100 / len);
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| codec.compress(black_box(&message), 15).map(<[u8]>::len));
            });
        }
        let mut codec = codec(6);
        let Some(compressed) = codec.compress(&message, 15).map(<[u8]>::to_vec) else { continue };
        group.bench_function(BenchmarkId::new("inflate", len), |b| {
            b.iter(|| {
                let inflated = codec.inflate(Kind::Text, black_box(&compressed), None, 1 << 16);
                let inflated = inflated.expect("it was compressed just now");
                let len = inflated.bytes().len();
                codec.recycle(inflated);
                len
            });
        });
    }
    group.finish();
}

criterion_group!(deflate_benches, benches);
criterion_main!(deflate_benches);
