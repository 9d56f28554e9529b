//! One run: starts the workers, moves them through the stages, adds up what they found.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mio::{Poll, Waker};

use crate::clock::Clock;
use crate::link::Server;
use crate::mode::churn::Churn;
use crate::mode::echo::Echo;
use crate::mode::fanout::{Fanout, Listening, Pace, Shape};
use crate::mode::idle::Idle;
use crate::mode::stalled::Stalled;
use crate::options::{Mode, Options};
use crate::process::{self, KernelMemory, Usage};
use crate::report::{Faults, Report};
use crate::sequence::Arrivals;
use crate::shared::{Shared, Stage};
use crate::tls::{Tls, Trust};
use crate::worker::{Driver, Findings, WAKER, Worker};

/// How often the main thread looks.
const TICK: Duration = Duration::from_millis(20);
/// Connections must be up by then.
const OPENING_NANOS_MAX: u64 = 120_000_000_000;
/// Draining is over when nothing has arrived for this long.
const QUIET_NANOS: u64 = 1_500_000_000;
/// Draining is over then in any case.
const DRAINING_NANOS_MAX: u64 = 15_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// How a run came out.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// All figures.
    pub(crate) report: Report,
    /// What was wrong.
    pub(crate) faults: Faults,
    /// Somebody pressed Ctrl-C.
    pub(crate) interrupted: bool,
}

/// Runs from the first connection to the last close. `stop` is set by Ctrl-C.
///
/// Errors: a poll, waker or thread could not be made, or a worker failed.
pub(crate) fn run(options: &Options, stop: &AtomicBool) -> io::Result<Outcome> {
    let threads = usize::from(options.common.threads);
    let target = options.common.addr.clone();
    let tls = Tls::of(&target, &options.common.trust().unwrap_or(Trust::Anybody))?;
    let server = Server { target, tls };
    let shape = shape(options);
    let mut polls = Vec::new();
    let mut wakers = Vec::new();
    for _ in 0..threads {
        let poll = Poll::new()?;
        wakers.push(Waker::new(poll.registry(), WAKER)?);
        polls.push(poll);
    }
    let topics = shape.map_or_else(Vec::new, |shape| shape.receivers());
    let connections = u64::from(options.mode.connections());
    let count = options.common.count;
    let shared = Arc::new(Shared::new(Clock::start(), connections, count, topics, wakers));
    let mut progress = Progress::new(options, Arc::clone(&shared), stop);
    let (sender, receiver) = mpsc::channel();
    for (number, poll) in polls.into_iter().enumerate() {
        let worker = Worker {
            poll,
            driver: driver(options, shape),
            shared: Arc::clone(&shared),
            server: server.clone(),
            protocol: options.common.protocol,
            burst: usize::from(options.common.burst),
            indices: indices(options.mode.connections(), number, threads),
        };
        let sender = sender.clone();
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // Nobody listens any more only when the run has failed already.
            _ = sender.send(worker.run());
        })?;
    }
    drop(sender);
    progress.stages(&receiver)?;
    let mut findings = Vec::new();
    for _ in 0..threads {
        let one = receiver.recv().map_err(|_| io::Error::other("a worker has panicked"))?;
        findings.push(one?);
    }
    Ok(progress.outcome(findings, shape))
}

fn shape(options: &Options) -> Option<Shape> {
    let Mode::Fanout { subscribers, topics, publishers, rate, rate_to_all, window, size } =
        options.mode
    else {
        return None;
    };
    let pace = match rate {
        Some(rate) => Pace::Interval(SECOND * u64::from(publishers) / rate),
        None => Pace::Window(window),
    };
    let (size, run) = (bytes(size), fastrand::u32(..));
    let to_all = rate_to_all.map(|rate| SECOND / rate);
    let are_apart = options.common.publish_path.is_some();
    let listening = if are_apart { Listening::Subscribers } else { Listening::Everybody };
    Some(Shape { subscribers, topics, publishers, listening, to_all, pace, size, run })
}

fn driver(options: &Options, shape: Option<Shape>) -> Box<dyn Driver + Send> {
    let (common, mode) = (&options.common, options.mode);
    match (mode, shape) {
        (Mode::Fanout { .. }, Some(shape)) => Box::new(Fanout::new(common, mode, shape)),
        (Mode::Echo { depth, size, rate, .. }, _) => {
            let interval = rate.map(|rate| SECOND * u64::from(common.threads) / rate);
            Box::new(Echo::new(common, mode, depth, bytes(size), interval))
        }
        (Mode::Churn { size, .. }, _) => Box::new(Churn::new(common, mode, bytes(size))),
        (Mode::Stalled { topics, subscriptions, .. }, _) => {
            Box::new(Stalled::new(common, mode, topics, subscriptions))
        }
        (Mode::Idle { expect_close, .. }, _) => Box::new(Idle::new(common, mode, expect_close)),
        (Mode::Fanout { .. }, None) => unreachable!("a fan-out has a shape"),
    }
}

fn bytes(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Every `threads`-th connection, from `first`.
fn indices(connections: u32, first: usize, threads: usize) -> VecDeque<u64> {
    (0..u64::from(connections)).skip(first).step_by(threads).collect()
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    nanos: u64,
    arrived: u64,
    client_micros: u64,
    server: Option<Usage>,
    kernel: KernelMemory,
}

struct Progress<'a> {
    options: &'a Options,
    shared: Arc<Shared>,
    stop: &'a AtomicBool,
    shown: (u64, u64),
    interrupted: bool,
    opening: (Moment, Moment),
    measuring: (Moment, Moment),
}

impl<'a> Progress<'a> {
    fn new(options: &'a Options, shared: Arc<Shared>, stop: &'a AtomicBool) -> Self {
        let mut progress = Self {
            options,
            shared,
            stop,
            shown: (0, 0),
            interrupted: false,
            opening: Default::default(),
            measuring: Default::default(),
        };
        let now = progress.moment();
        progress.opening = (now, now);
        progress.measuring = (now, now);
        progress
    }

    /// Moves through all stages up to [`Stage::Closing`].
    fn stages(&mut self, workers: &Receiver<io::Result<Findings>>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let (warmup, measured) = self.options.common.durations();
        let wanted = u64::from(self.options.mode.connections());
        let up = || {
            shared.opened.load(Ordering::Relaxed) + shared.failed.load(Ordering::Relaxed) >= wanted
        };
        self.wait(workers, OPENING_NANOS_MAX, up)?;
        self.opening.1 = self.moment();
        self.measuring = (self.opening.1, self.opening.1);
        let all_up = shared.failed.load(Ordering::Relaxed) == 0 && up();
        if all_up && !self.interrupted {
            // A dead server must not be knocked at for the rest of the time.
            let over = || {
                shared.spent()
                    || shared.failed.load(Ordering::Relaxed) > wanted
                    || shared.told.load(Ordering::Relaxed) >= wanted
            };
            shared.enter(Stage::Warmup)?;
            self.wait(workers, nanos(warmup), over)?;
            self.measuring.0 = self.moment();
            shared.enter(Stage::Measuring)?;
            self.wait(workers, nanos(measured), over)?;
            self.measuring.1 = self.moment();
        }
        shared.enter(Stage::Draining)?;
        self.drain(workers)?;
        shared.enter(Stage::Closing)
    }

    /// Waits for `over`, at most `nanos_max`, or until Ctrl-C.
    fn wait(
        &mut self,
        workers: &Receiver<io::Result<Findings>>,
        nanos_max: u64,
        over: impl Fn() -> bool,
    ) -> io::Result<()> {
        let end = self.shared.clock.nanos() + nanos_max;
        while !self.interrupted && !over() {
            let left = end.saturating_sub(self.shared.clock.nanos());
            if left == 0 {
                break;
            }
            self.tick(workers, TICK.min(Duration::from_nanos(left)))?;
            self.interrupted |= self.stop.load(Ordering::Relaxed);
        }
        Ok(())
    }

    fn drain(&mut self, workers: &Receiver<io::Result<Findings>>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let begun = shared.clock.nanos();
        let (mut arrived, mut since) = (0, begun);
        loop {
            self.tick(workers, TICK)?;
            let seen = shared.arrived.load(Ordering::Acquire);
            let now = shared.clock.nanos();
            if seen != arrived {
                (arrived, since) = (seen, now);
            }
            let settled = shared.draining_workers.load(Ordering::Acquire)
                == u32::from(self.options.common.threads);
            let complete = settled && seen >= shared.expected.load(Ordering::Acquire);
            if complete || now - since > QUIET_NANOS || now - begun > DRAINING_NANOS_MAX {
                return Ok(());
            }
        }
    }

    /// Waits a moment and shows how it goes; a worker that ends early ends the run.
    fn tick(&mut self, workers: &Receiver<io::Result<Findings>>, time: Duration) -> io::Result<()> {
        match workers.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("a worker has panicked"));
            }
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => return Err(io::Error::other("a worker has ended too early")),
        }
        let now = self.shared.clock.nanos();
        if now - self.shown.0 >= SECOND && !self.options.common.quiet {
            self.show(now);
        }
        Ok(())
    }

    fn show(&mut self, now: u64) {
        let arrived = self.shared.arrived.load(Ordering::Acquire);
        let (before, counted) = std::mem::replace(&mut self.shown, (now, arrived));
        let rate = (arrived - counted) * 1000 / ((now - before) / 1_000_000).max(1);
        let expected = self.shared.expected.load(Ordering::Acquire);
        let line = format!(
            "{:4}s {:9} {} open, {} failed, {} lost; {arrived} ({rate}/s), {} under way\n",
            now / SECOND,
            format!("{:?}", self.shared.stage()).to_lowercase(),
            self.shared.opened.load(Ordering::Relaxed),
            self.shared.failed.load(Ordering::Relaxed),
            self.shared.lost.load(Ordering::Relaxed),
            expected.saturating_sub(arrived),
        );
        // Progress is a courtesy: a closed stderr does not end the run.
        _ = io::stderr().write_all(line.as_bytes());
    }

    fn moment(&self) -> Moment {
        let pid = self.options.common.server_pid;
        Moment {
            nanos: self.shared.clock.nanos(),
            arrived: self.shared.arrived.load(Ordering::Acquire),
            client_micros: process::own_processor_micros(),
            server: pid.and_then(process::usage),
            kernel: process::kernel_memory(),
        }
    }

    fn outcome(&self, all: Vec<Findings>, shape: Option<Shape>) -> Outcome {
        let mut sum = Findings::none(all.first().map_or(0, |one| one.sent.len()));
        for one in all {
            sum.latency.merge(&one.latency);
            sum.handshake.merge(&one.handshake);
            sum.faults.add(&one.faults);
            for (total, part) in sum.arrivals.iter_mut().zip(one.arrivals) {
                total.add(part);
            }
            for (total, part) in sum.sent.iter_mut().zip(one.sent) {
                *total += part;
            }
        }
        let due = match shape {
            Some(shape) => shape.deliveries(&self.shared.topics, &sum.sent),
            None => sum.sent.clone(),
        };
        sum.faults.add(&sequence_faults(&due, &sum.arrivals));
        let report = self.report(&sum);
        Outcome { report, faults: sum.faults, interrupted: self.interrupted }
    }

    fn report(&self, sum: &Findings) -> Report {
        let (mode, common) = (self.options.mode, &self.options.common);
        let mut report = Report::default();
        report.put("mode", mode.name());
        report.put("protocol", format!("{:?}", common.protocol).to_lowercase());
        report.put("connections", mode.connections());
        report.put("threads", common.threads);
        report.put("interrupted", self.interrupted);
        let (from, to) = match mode {
            Mode::Idle { .. } | Mode::Stalled { .. } => self.opening,
            Mode::Echo { .. } | Mode::Fanout { .. } | Mode::Churn { .. } => self.measuring,
        };
        let nanos = (to.nanos - from.nanos) as f64;
        let units = (to.arrived - from.arrived) as f64;
        let unit = mode.unit();
        report.put_ratio("seconds", nanos, 1e9);
        report.put("unit", unit);
        report.put("units", to.arrived - from.arrived);
        report.put_ratio("units_per_s", units * 1e9, nanos);
        report.put("sent", sum.sent.iter().sum::<u64>());
        report.put_latency("latency", &sum.latency);
        report.put_latency("handshake", &sum.handshake);
        let client = to.client_micros - from.client_micros;
        report.put_ratio("client_cpu_us_per_unit", client as f64, units);
        if let (Some(before), Some(after)) = (from.server, to.server) {
            let server = after.processor_micros.saturating_sub(before.processor_micros) as f64;
            report.put_ratio("server_cpu_us_per_unit", server, units);
            report.put_ratio("server_cpu_percent", server * 1e5, nanos);
        }
        self.report_memory(&mut report);
        report.put_faults(&sum.faults);
        report
    }

    /// Memory for each connection and, of those that only stay, the time that staying takes.
    fn report_memory(&self, report: &mut Report) {
        let connections = f64::from(self.options.mode.connections());
        let (opening, staying, end) = (&self.opening.0, &self.measuring.0, &self.measuring.1);
        let grown = |before: u64, after: u64| after as f64 - before as f64;
        if let (Some(before), Some(after)) = (opening.server, end.server) {
            let resident = grown(before.resident_bytes, after.resident_bytes);
            report.put("server_rss_bytes", after.resident_bytes);
            report.put_ratio("server_rss_bytes_per_connection", resident, connections);
        }
        if !matches!(self.options.mode, Mode::Idle { .. }) {
            return;
        }
        let (before, after) = (opening.kernel, end.kernel);
        let slab = grown(before.slab_bytes, after.slab_bytes);
        report.put_ratio("kernel_slab_bytes_per_connection", slab, connections);
        let tcp = grown(before.tcp_bytes, after.tcp_bytes);
        report.put_ratio("kernel_tcp_bytes_per_connection", tcp, connections);
        if let (Some(before), Some(after)) = (staying.server, end.server) {
            let seconds = (end.nanos - staying.nanos) as f64 / 1e9;
            let micros = grown(before.processor_micros, after.processor_micros);
            report.put_ratio("server_cpu_us_per_connection_second", micros, connections * seconds);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is missing, repeated or out of order when `due` numbers of each publisher had to come.
fn sequence_faults(due: &[u64], arrivals: &[Arrivals]) -> Faults {
    let mut faults = Faults::default();
    for (due, seen) in due.iter().zip(arrivals) {
        faults.missing += due.saturating_sub(seen.distinct);
        faults.wrong += seen.distinct.saturating_sub(*due);
        faults.duplicated += seen.duplicated;
        faults.out_of_order += seen.out_of_order;
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_to_workers() {
        assert_eq!(indices(5, 0, 2), [0, 2, 4]);
        assert_eq!(indices(5, 1, 2), [1, 3]);
        assert_eq!(indices(1, 1, 2), [0_u64; 0]);
    }

    #[test]
    fn what_came_is_held_against_what_was_sent() {
        let seen = |distinct| Arrivals { distinct, duplicated: 1, out_of_order: 2 };
        let faults = sequence_faults(&[10, 10], &[seen(7), seen(12)]);
        let expected =
            Faults { missing: 3, wrong: 2, duplicated: 2, out_of_order: 4, ..Faults::default() };
        assert_eq!(faults, expected);
    }
}
