//! The properties of `fuzz/properties`, on arbitrary bytes and on all seeds of the fuzz targets.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

use proptest::prelude::*;

#[path = "../fuzz/properties/config.rs"]
mod config;
#[path = "../fuzz/properties/connection.rs"]
mod connection;
#[path = "../fuzz/properties/frame_writer.rs"]
mod frame_writer;
#[path = "../fuzz/properties/history.rs"]
mod history;
#[path = "../fuzz/properties/names.rs"]
mod names;

/// What must hold of any bytes.
type Property = fn(&[u8]);

const PROPERTIES: [(&str, Property); 5] = [
    ("config", config::check),
    ("connection", connection::check),
    ("frame_writer", frame_writer::check),
    ("history", history::check),
    ("names", names::check),
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = folder.read_dir().unwrap();
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_seed_has_the_property_of_its_target() {
    for (target, check) in PROPERTIES {
        let seeds = seeds(target);
        assert!(seeds.len() >= 3, "{target} has {} seeds", seeds.len());
        seeds.iter().for_each(|seed| check(seed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn connections_bear_any_steps(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        connection::check(&data);
    }

    #[test]
    fn connections_bear_any_steps_behind_an_upgrade(
        path in any::<u8>(),
        data in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        connection::check(&[&[0, 0, path], &data[..]].concat());
    }

    #[test]
    fn histories_are_those_of_a_list(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        history::check(&data);
    }

    #[test]
    fn frames_read_back(data in proptest::collection::vec(any::<u8>(), 2..300)) {
        frame_writer::check(&data);
    }

    #[test]
    fn names_mean_one_thing(text in "(/topic/|/echo|/)?[a:%0-9+/é\u{1}]{0,20}") {
        names::check(text.as_bytes());
    }

    #[test]
    fn configurations_are_taken_or_refused_as_a_whole(
        lines in proptest::collection::vec("(\\[\\[?[a-z]{0,9}\\]?\\]|[a-z_]{1,9} = [\"0-9a-z ]{0,9})?", 0..6),
        seed in any::<proptest::sample::Index>(),
        cut in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        config::check(&[&[1], lines.join("\n").as_bytes()].concat());
        // A good one with one byte changed.
        let seeds = seeds("config");
        let mut text = seeds[seed.index(seeds.len())].clone();
        let at = cut.index(text.len());
        text[at] = byte;
        config::check(&text);
    }
}
