//! Load generator for WebSocket servers that checks everything it receives.
//!
//! `echo`, `fanout`, `idle` and `churn`, over raw topics or the Centrifugo v2 JSON protocol. The
//! main thread moves the run through its stages ([`run`]); workers poll the connections
//! ([`worker`]); what they do with them is one file per mode ([`mode`]).

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser as _;
use signal_hook::consts::SIGINT;

mod clock;
mod frame;
mod histogram;
mod language;
mod link;
mod mode;
mod options;
mod process;
mod report;
mod run;
mod sequence;
mod shared;
mod worker;

/// Something was wrong with the server, or with the run.
const FAULTY: u8 = 1;
/// The command line asks for something that is not allowed or not possible.
const USAGE: u8 = 2;
/// Ctrl-C, and nothing was wrong until then.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = options::Options::parse();
    if let Some(why) = options.common.objection(options.mode, process::raise_open_files()) {
        complain(&why);
        return ExitCode::from(USAGE);
    }
    match load(&options) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAULTY)
        }
    }
}

fn load(options: &options::Options) -> io::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    // The first Ctrl-C asks for the partial result, the second one ends the process.
    signal_hook::flag::register_conditional_shutdown(
        SIGINT,
        INTERRUPTED.into(),
        Arc::clone(&stop),
    )?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    let outcome = run::run(options, &stop)?;
    io::stdout().write_all(outcome.report.table().as_bytes())?;
    if let Some(file) = &options.common.json {
        fs::write(file, format!("{}\n", outcome.report.json()))?;
    }
    Ok(match (outcome.faults.any(), outcome.interrupted) {
        (true, _) => ExitCode::from(FAULTY),
        (false, true) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn complain(what: &str) {
    // With stderr closed there is nobody left to tell.
    _ = writeln!(io::stderr(), "ringway-loadtest: {what}");
}
