//! Load generator for WebSocket servers that checks everything it receives.
//!
//! `echo`, `fanout`, `idle` and `churn`, over raw topics or the Centrifugo v2 JSON protocol. The
//! main thread moves the run through its stages ([`run`]); workers poll the connections
//! ([`worker`]); what they do with them is one file per mode ([`mode`]). `compare` makes such runs
//! against several servers in turn ([`compare`]), `plot` draws what came of it ([`plot`]).

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser as _;
use options::{Command, CommandLine, Options};
use signal_hook::consts::SIGINT;

mod clock;
mod compare;
mod frame;
mod histogram;
mod language;
mod link;
mod mode;
mod options;
mod plot;
mod process;
mod report;
mod run;
mod sequence;
mod shared;
mod target;
mod tls;
mod transport;
mod worker;

/// Something was wrong with the server, or with the run.
const FAULTY: u8 = 1;
/// The command line asks for something that is not allowed or not possible.
const USAGE: u8 = 2;
/// Ctrl-C, and nothing was wrong until then.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let CommandLine { command, common } = CommandLine::parse();
    let done = match command {
        Command::Load(mode) => load(&Options { mode, common }),
        Command::Compare(compare) => with_stop(|stop| compare.run(&common, stop)),
        Command::Plot(plot) => plot.draw(),
    };
    done.unwrap_or_else(|error| {
        complain(&error.to_string());
        let is_usage = error.kind() == io::ErrorKind::InvalidInput;
        ExitCode::from(if is_usage { USAGE } else { FAULTY })
    })
}

fn load(options: &Options) -> io::Result<ExitCode> {
    if let Some(why) = options.common.objection(options.mode, process::raise_open_files()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    with_stop(|stop| {
        let outcome = run::run(options, stop)?;
        io::stdout().write_all(outcome.report.table().as_bytes())?;
        if let Some(file) = &options.common.json {
            fs::write(file, format!("{}\n", outcome.report.json()))?;
        }
        Ok(match (outcome.faults.any(), outcome.interrupted) {
            (true, _) => ExitCode::from(FAULTY),
            (false, true) => ExitCode::from(INTERRUPTED),
            (false, false) => ExitCode::SUCCESS,
        })
    })
}

/// Does something that the first Ctrl-C asks to stop; the second one ends the process.
fn with_stop<T>(work: impl FnOnce(&AtomicBool) -> io::Result<T>) -> io::Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(
        SIGINT,
        INTERRUPTED.into(),
        Arc::clone(&stop),
    )?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    work(&stop)
}

fn complain(what: &str) {
    // With stderr closed there is nobody left to tell.
    _ = writeln!(io::stderr(), "ringway-loadtest: {what}");
}
