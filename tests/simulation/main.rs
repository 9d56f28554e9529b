//! Shards on simulated rings among model clients, from a seed: everything that happens is decided by
//! the seed, and everything that clients see is compared with what may be true.
//!
//! `RINGWAY_SIM_SEEDS=N` runs the seeds 0 to N - 1, all of them unless `RINGWAY_SIM_FAIL_FAST` is set;
//! `RINGWAY_SIM_SEED=S` runs one and shows its events.

use std::panic::{AssertUnwindSafe, catch_unwind};

mod client;
mod codec;
mod control;
#[path = "../peer/deflate.rs"]
mod deflate;
mod dialogue;
mod ending;
mod journal;
mod plan;
mod raw;
mod stage;
mod truth;

use stage::{Sights, Stage};

/// Seeds of a run that names no number.
const SEEDS: u64 = 256;

/// Runs one seed; returns the hash of its events.
fn run(seed: u64) -> Result<(u64, Sights), String> {
    journal::begin();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut stage = Stage::new(seed);
        stage.run();
        stage.sights()
    }));
    match result {
        Ok(sights) => Ok((journal::hash(), sights)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            Err(format!(
                "{}seed {seed} failed: {text}\nagain: RINGWAY_SIM_SEED={seed} cargo test --test simulation",
                journal::tail()
            ))
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn simulated_shards_keep_their_promises() {
    if let Some(seed) = number("RINGWAY_SIM_SEED") {
        let result = run(seed);
        println!("{}", journal::tail());
        println!("{result:?}");
        assert!(result.is_ok());
        return;
    }
    let seeds = number("RINGWAY_SIM_SEEDS").unwrap_or(SEEDS);
    let mut all = Sights::default();
    let mut failed = Vec::new();
    for seed in 0..seeds {
        match run(seed) {
            Ok((_, sights)) => all.add(&sights),
            Err(failure) => {
                println!("{failure}\n");
                failed.push(seed);
                if number("RINGWAY_SIM_FAIL_FAST").is_some() {
                    break;
                }
            }
        }
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds failed: {failed:?}", failed.len());
    println!("{seeds} seeds: {all:?}");
    all.assert_not_dull(seeds);
}

#[test]
fn a_simulation_is_determined_by_its_seed() {
    for seed in [1, 2, 3] {
        let (first, _) = run(seed).unwrap_or_else(|failure| panic!("\n{failure}"));
        let (second, _) = run(seed).unwrap_or_else(|failure| panic!("\n{failure}"));
        assert_eq!(first, second, "seed {seed}");
    }
    let hashes = [1, 2].map(|seed| run(seed).map(|(hash, _)| hash));
    assert_ne!(hashes[0], hashes[1]);
}
