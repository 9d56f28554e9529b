//! Centrifugo commands in, pushes out. Input: a `publish` command and a publication whose `data` is
//! an object of 108 bytes, or an array of numbers of 10 KB.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::dialect::centrifuge::command;
use ringway::dialect::payload;
use ringway::dialect::scratch::Scratch;
use ringway::dialect::variant::{self, Compression, Language, Variant};
use ringway::topic::name::TopicName;
use ringway::topic::publication::{Payload, Publication};
use ringway::ws::deflate::Codec;

const SMALL: &str = concat!(
    r#"{"user":"3f2b","text":"the quick brown fox jumps over the dog","#,
    r#""at":1732320000,"tags":["a","b"],"seen":true}"#
);

fn inputs() -> [(&'static str, String); 2] {
    let numbers: Vec<_> = (0..2000).map(|n| (n + 1000).to_string()).collect();
    [("108_bytes", SMALL.to_owned()), ("10_kilobytes", format!("[{}]", numbers.join(",")))]
}

fn parse_publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_publish");
    let mut scratch = Scratch::default();
    for (name, data) in inputs() {
        let line = format!(r#"{{"id":7,"publish":{{"channel":"chat:lobby","data":{data}}}}}"#);
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| command::parse(black_box(line.as_bytes()), &mut scratch));
        });
    }
    group.finish();
}

fn encode_push(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode_push");
    let mut scratch = Scratch::default();
    let mut codec = Codec::new(None, 0);
    let (plain, allowed) =
        (Variant { language: Language::Centrifuge, class: None }, Compression::Allowed);
    let is_wanted = |form| form == plain.form();
    for (name, data) in inputs() {
        let json = payload::from_json(data.as_bytes(), &mut scratch).expect("the input is JSON");
        let text = Payload::Text(json.bytes().clone());
        for (kind, payload) in [("json", json), ("text", text)] {
            let topic = TopicName::new("chat:lobby").expect("the name is valid");
            let offset = Some(8);
            let publication = Publication { topic, offset, payload, publisher: None, tags: None };
            group.throughput(Throughput::Bytes(data.len() as u64));
            group.bench_function(BenchmarkId::new(kind, name), |b| {
                b.iter(|| {
                    let publication = black_box(&publication);
                    variant::encode_all(publication, is_wanted, allowed, &mut codec, &mut scratch)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(command_benches, parse_publish, encode_push);
criterion_main!(command_benches);
