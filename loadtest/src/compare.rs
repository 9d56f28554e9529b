//! Several servers under the same loads: started one at a time and afresh for every run, in turn,
//! each pinned to its CPUs and the generator to others, so that what the machine does meanwhile
//! meets all of them alike.

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use crate::options::{Common, Options};
use crate::process;
use crate::run;

mod affinity;
mod cell;
pub(crate) mod result;
mod server;
mod spec;
mod statistics;
mod table;

use affinity::Cpus;
use cell::{Cell, STANDARD};
use result::{Comparison, Machine, Named, Row};
use server::Running;
use spec::ServerSpec;

/// Runs the same loads against several servers in turn and compares what they cost.
///
/// The first server is compared with each of the others. Every run starts its server afresh. In each
/// pair the servers take turns, in the next one in the opposite order. What counts is processor time (user and system, of the process and its children,
/// from /proc) for each unit, and memory for each connection; times that a client sees are shown
/// beside it. The ratio is the median over all pairs, its interval the one that holds the true
/// median four times out of five, by the order of the pairs' ratios and nothing else assumed.
///
/// --secs, --warmup-secs, --threads, --tls-ca and --tls-insecure hold for all runs; --json names the
/// file for the result, which `plot` draws.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Compare {
    /// 'NAME URL [KEY=VALUE]... -- COMMAND': a server and the shell command that starts it.
    ///
    /// ready=connect (default: its port takes connections), ready=http://HOST:PORT/PATH (answers
    /// 200) or ready=log:WORD (its output has that word) say when it can be loaded; echo=PATH,
    /// topic=PATH and publish=PATH where requests go, with {topic} filled in; arg=--OPTION=VALUE is
    /// put behind every run's own options.
    #[arg(long = "server", required = true, value_name = "SPEC")]
    servers: Vec<ServerSpec>,
    /// '[LABEL: ]MODE [OPTION]...': a load, as on the command line; repeatable.
    /// [default: a standard set, see --list]
    #[arg(long = "run", value_name = "LOAD")]
    runs: Vec<String>,
    /// Print the loads that would run, and stop.
    #[arg(long)]
    list: bool,
    /// How often all servers run each load.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=999))]
    pairs: u16,
    /// CPUs of the servers, like 0 or 0-2,5. [default: the first that this process may use]
    #[arg(long, value_name = "CPUS")]
    server_cpus: Option<Cpus>,
    /// CPUs of the generator. [default: the others, up to one for each thread]
    #[arg(long, value_name = "CPUS")]
    generator_cpus: Option<Cpus>,
}

const EXAMPLE: &str = "\
Example:
  ringway-loadtest compare --json result.json --secs 3 \\
    --server 'ringway ws://127.0.0.1:9001 ready=http://127.0.0.1:9002/readyz --
              target/release/ringway run --config config/bench.toml' \\
    --server 'other ws://127.0.0.1:9101 echo=/ topic=/{topic} publish=/pub -- ./other 9101' \\
    --run 'echo 16 B: echo --connections 200 --depth 16' --run 'idle --connections 9000'
  ringway-loadtest plot result.json > result.svg";

/// What one run found.
struct Sample {
    report: serde_json::Value,
    is_faulty: bool,
}

impl Compare {
    /// Runs everything and prints the table; with `--json` also writes it.
    ///
    /// Exit code: 0; 1 when a run was faulty; 130 when interrupted.
    ///
    /// Errors: `InvalidInput` for what the command line asks; a server that does not start.
    pub(crate) fn run(&self, base: &Common, stop: &AtomicBool) -> io::Result<ExitCode> {
        let cells = self.cells(base)?;
        if self.list {
            cells.iter().try_for_each(|cell| writeln!(io::stdout(), "{}", cell.text))?;
            return Ok(ExitCode::SUCCESS);
        }
        let (server_cpus, generator_cpus) = self.cpus(base)?;
        let open_files_max = process::raise_open_files();
        for (cell, spec) in
            cells.iter().flat_map(|cell| self.servers.iter().map(move |s| (cell, s)))
        {
            let options = cell.options(spec, base).map_err(invalid)?;
            if let Some(why) = options.common.objection(options.mode, open_files_max) {
                return Err(invalid(format!("{}: {why}", cell.label)));
            }
        }
        generator_cpus.take()?;
        let mut comparison = Comparison {
            machine: Machine::this(&server_cpus, &generator_cpus),
            pairs: self.pairs,
            servers: self.servers.iter().map(Named::of).collect(),
            rows: Vec::new(),
        };
        let (mut faulty, mut interrupted) = (0, false);
        for cell in &cells {
            let samples = self.samples(cell, base, &server_cpus, stop)?;
            interrupted = stop.load(Ordering::Relaxed);
            faulty += samples.iter().flatten().filter(|sample| sample.is_faulty).count();
            let reports: Vec<Vec<_>> = samples
                .into_iter()
                .map(|samples| samples.into_iter().map(|sample| sample.report).collect())
                .collect();
            comparison.rows.extend(Row::all_of(cell, &comparison.servers, &reports));
            if interrupted {
                break;
            }
        }
        self.tell(&comparison, base)?;
        Ok(match (faulty, interrupted) {
            (1.., _) => ExitCode::from(crate::FAULTY),
            (0, true) => ExitCode::from(crate::INTERRUPTED),
            (0, false) => ExitCode::SUCCESS,
        })
    }

    fn cells(&self, base: &Common) -> io::Result<Vec<Cell>> {
        let standard = || STANDARD.iter().map(|text| (*text).to_owned()).collect();
        let texts: Vec<String> = if self.runs.is_empty() { standard() } else { self.runs.clone() };
        let cells = texts.iter().map(|text| Cell::new(text, base));
        cells.collect::<Result<_, _>>().map_err(invalid)
    }

    fn cpus(&self, base: &Common) -> io::Result<(Cpus, Cpus)> {
        let allowed = Cpus::allowed()?;
        let server = self.server_cpus.clone().unwrap_or_else(|| allowed.first());
        let others = || allowed.without(&server).truncated(usize::from(base.threads));
        let generator = self.generator_cpus.clone().unwrap_or_else(others);
        if generator.is_empty() {
            let why = "no CPU is left for the generator: say --server-cpus and --generator-cpus";
            return Err(invalid(why.to_owned()));
        }
        Ok((server, generator))
    }

    /// Runs one load on all servers, pair after pair; what was found, by server.
    fn samples(
        &self,
        cell: &Cell,
        base: &Common,
        cpus: &Cpus,
        stop: &AtomicBool,
    ) -> io::Result<Vec<Vec<Sample>>> {
        let mut samples: Vec<Vec<Sample>> = self.servers.iter().map(|_| Vec::new()).collect();
        for pair in 0..self.pairs {
            let mut order: Vec<usize> = (0..self.servers.len()).collect();
            if pair % 2 == 1 {
                order.reverse();
            }
            let mut round = Vec::new();
            for &one in &order {
                let sample = sample(cell, &self.servers[one], base, cpus, stop)?;
                if stop.load(Ordering::Relaxed) {
                    return Ok(samples); // only whole pairs count
                }
                round.push((one, sample));
            }
            if !base.quiet {
                let line = format!("{}: pair {} of {}\n", cell.label, pair + 1, self.pairs);
                // Progress is a courtesy: a closed stderr does not end the run.
                _ = io::stderr().write_all(line.as_bytes());
            }
            round.into_iter().for_each(|(one, sample)| samples[one].push(sample));
        }
        Ok(samples)
    }

    fn tell(&self, comparison: &Comparison, base: &Common) -> io::Result<()> {
        io::stdout().write_all(table::of(comparison).as_bytes())?;
        let Some(file) = &base.json else { return Ok(()) };
        let json = serde_json::to_string_pretty(comparison).map_err(io::Error::other)?;
        fs::write(file, json + "\n")
    }
}

/// Starts a server, loads it once and stops it.
fn sample(
    cell: &Cell,
    spec: &ServerSpec,
    base: &Common,
    cpus: &Cpus,
    stop: &AtomicBool,
) -> io::Result<Sample> {
    let server = Running::start(spec, cpus)?;
    let Options { mode, mut common } = cell.options(spec, base).map_err(invalid)?;
    common.server_pid = Some(server.pid());
    let outcome = run::run(&Options { mode, common }, stop)?;
    server.stop()?;
    let is_faulty = outcome.faults.any() && !outcome.interrupted;
    if is_faulty {
        let line = format!("{} of {} is faulty: {:?}\n", cell.label, spec.name, outcome.faults);
        _ = io::stderr().write_all(line.as_bytes());
    }
    Ok(Sample { report: outcome.report.json(), is_faulty })
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
