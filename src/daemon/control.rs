//! The control thread: carries out the command, hears the shards, ends the process in order.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::hub::Hub;
use crate::api::method::Method;
use crate::api::orders::{self, Order};
use crate::api::pulse::Pulse;
use crate::api::state::{Readiness, State};
use crate::config::document::Document;
use crate::config::{Config, Memory};
use crate::mail::message::Request;
use crate::metrics::{ControlWriter, LinkReader, Reader};
use crate::ring::probe::probe;
use crate::ring::uring;
use crate::ring::wakes::Wakes;
use crate::shard::board::Board;
use crate::shard::labels::Labels;

use super::certificates::Keeper;
use super::cli::{Command, ConfigVerb, Source, Verb};
use super::exit::Failure;
use super::logs::Verbosity;
use super::source::load;
use super::start::Origin;
use super::threads::Report;
use super::{doctor, limits, logs, paper, remote, systemd};

/// How long the end may take after the last connection was told to go, beyond its close timeout.
const END_GRACE: Duration = Duration::from_secs(2);

/// Who began a drain, when it was no signal.
const BY_ORDER: &str = "an order";

/// How long the last log lines may take to be written.
const LAST_LINES_WAIT: Duration = Duration::from_millis(100);

/// Carries out the command; returns when the process is to end.
///
/// Errors: [`Failure`], with its exit code.
pub fn run(command: Command) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Run(command.source)) {
        Verb::Run(source) => on_ring(serve(source)),
        Verb::Check(source) => on_ring(check(source)),
        Verb::Doctor(source) => doctor::examine(&source),
        Verb::Health(health) => off_ring(remote::health(health)),
        Verb::Drain(drain) => off_ring(remote::drain(drain)),
        Verb::Reload(target) => off_ring(remote::reload(target)),
        Verb::Config(ConfigVerb::Diff(diff)) => off_ring(remote::diff(diff)),
        Verb::Man { folder } => paper::write_manual(&folder),
        Verb::Completions { shell } => paper::print_completions(shell),
    }
}

fn on_ring(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    limits::refuse_huge_pages();
    // The control thread's own runtime needs a ring too, so this comes first.
    probe(&uring::Settings::default()).map_err(|error| Failure::Unfit(error.to_string()))?;
    tokio_uring::start(work)
}

/// For commands that only ask another process: cheap, and possible where io_uring is not.
fn off_ring(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Internal(format!("no runtime: {error}")))?;
    runtime.block_on(work)
}

async fn check(source: Source) -> Result<(), Failure> {
    let (_, keeper) = load(&source).await?;
    #[expect(clippy::print_stdout, reason = "the answer to `ringway check`")]
    {
        keeper.warnings().iter().for_each(|warning| println!("warning: {warning}"));
        println!("the configuration is good");
    }
    Ok(())
}

async fn serve(source: Source) -> Result<(), Failure> {
    let (document, keeper) = load(&source).await?;
    let (lines, verbosity) = logs::begin(&document.config().log);
    let (end, ended) = oneshot::channel();
    let writing = tokio_uring::spawn(lines.write_all(ended));
    let origin = Origin { source, document, keeper, verbosity };
    let (orders, ordered) = unbounded_channel();
    let served = match Gateway::start(origin, orders).await {
        Ok(gateway) => gateway.run(ordered).await,
        Err(failure) => Err(failure),
    };
    drop(end);
    let _ = tokio::time::timeout(LAST_LINES_WAIT, writing).await;
    served
}

/// The gateway, as the control thread sees it.
pub(super) struct Gateway {
    /// The configuration that counts.
    pub(super) document: Document,
    pub(super) source: Source,
    pub(super) keeper: Keeper,
    pub(super) verbosity: Verbosity,
    pub(super) hub: Rc<Hub>,
    /// Where the settings of the shards stand.
    pub(super) board: Arc<Board>,
    /// The way to whoever watches the memory.
    pub(super) memory: watch::Sender<Memory>,
    pub(super) pulse: Rc<Pulse>,
    pub(super) readiness: Rc<Cell<Readiness>>,
    /// Shards that have not ended.
    pub(super) shards: usize,
    pub(super) reports: UnboundedReceiver<Report>,
    pub(super) readers: Vec<Reader<Labels>>,
    pub(super) links: Vec<LinkReader>,
    pub(super) numbers: Rc<ControlWriter<Method>>,
    /// What operators see; `None`: there is no port for them.
    pub(super) operators: Option<Rc<State>>,
}

impl Gateway {
    /// Serves until a signal or an order, then drains; a second signal ends at once.
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let mut hangup = listen_for(SignalKind::hangup())?;
        systemd::ready("serving");
        let by = loop {
            let interval = self.keeper.interval(self.config());
            tokio::select! {
                name = signals.recv() => break name,
                report = self.reports.recv() => return Err(unexpected(report)),
                // What comes of it is in the log.
                _ = hangup.recv() => drop(self.reload().await),
                Some(order) = orders.recv() => if self.carry_out(order).await {
                    break BY_ORDER;
                },
                () = pause(interval) => self.keeper.look(&self.numbers).await,
            }
        };
        let prospect = self.prospect();
        let (connections, window) = (prospect.connections, self.config().drain.window);
        tracing::info!(by, connections, ?window, "draining; a second signal ends at once");
        let status = format!("draining {connections} connections");
        systemd::stopping(&status, Duration::from_secs_f64(prospect.seconds_max));
        // The signal that follows an order, as from Kubernetes, only joins its drain.
        let mut signals_left = if by == BY_ORDER { 2 } else { 1 };
        let mut draining = pin!(self.drain());
        while signals_left > 0 {
            tokio::select! {
                drained = &mut draining => return drained,
                _ = signals.recv() => signals_left -= 1,
                Some(Order::Drain(answer)) = orders.recv() => {
                    let _ = answer.send(prospect);
                }
            }
        }
        tracing::warn!("a second signal: ending at once");
        Ok(())
    }

    /// Carries out an order; whether it is to drain. Whoever gave it may have gone meanwhile.
    async fn carry_out(&mut self, order: Order) -> bool {
        match order {
            Order::Drain(answer) => {
                let _ = answer.send(self.prospect());
                return true;
            }
            Order::Reload(answer) => _ = answer.send(self.reload().await),
            Order::Compare { text, answer } => _ = answer.send(self.compare(&text)),
        }
        false
    }

    pub(super) fn config(&self) -> &Config {
        self.document.config()
    }

    /// How a drain that begins now will go.
    fn prospect(&self) -> orders::Drain {
        let drain = &self.config().drain;
        let connections = self.connections();
        let spread = if connections > 0 { drain.grace + drain.window } else { Duration::ZERO };
        let longest = spread + self.config().websocket.close_timeout + 2 * END_GRACE;
        orders::Drain { connections, seconds_max: longest.as_secs_f64() }
    }

    /// Says no to readiness checks, then closes the connections, then waits for the shards.
    async fn drain(&mut self) -> Result<(), Failure> {
        self.readiness.set(Readiness::Draining);
        let mut window = Duration::ZERO;
        if self.connections() > 0 {
            sleep(self.config().drain.grace).await;
            window = self.config().drain.window;
        }
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let deadline = Instant::now() + window + self.config().websocket.close_timeout + END_GRACE;
        self.tell_shards(&Request::Drain { window_ms }, deadline).await;
        if !self.await_ends(deadline).await? {
            tracing::warn!(left = self.connections(), "connections did not end in time: resetting");
            let deadline = Instant::now() + END_GRACE;
            self.tell_shards(&Request::Stop, deadline).await;
            self.await_ends(deadline).await?;
        }
        tracing::info!("all connections have ended");
        Ok(())
    }

    /// Posts the request to every shard; one that takes none in time is left out.
    async fn tell_shards(&self, request: &Request, deadline: Instant) {
        for shard in 0..self.hub.shards() {
            let posted = timeout_at(deadline, self.hub.post(shard, request.clone())).await;
            if posted.is_err() {
                tracing::warn!(shard, "a shard takes no more requests");
            }
        }
    }

    /// Waits until every shard is done; `false`: not all were by the deadline.
    async fn await_ends(&mut self, deadline: Instant) -> Result<bool, Failure> {
        while self.shards > 0 {
            match timeout_at(deadline, self.reports.recv()).await {
                Ok(Some(Report::Done(shard))) => {
                    self.pulse.end(shard);
                    self.shards -= 1;
                }
                Ok(report @ (Some(Report::Serving | Report::Failed(_)) | None)) => {
                    return Err(unexpected(report));
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn connections(&self) -> u64 {
        self.readers.iter().map(Reader::connections).sum()
    }
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let terminate = listen_for(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen_for(SignalKind::interrupt())? })
    }

    /// Waits for one; returns its name.
    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn pause(interval: Option<Duration>) {
    match interval {
        Some(interval) => sleep(interval).await,
        None => std::future::pending().await,
    }
}

/// Takes in what the shards send to the control thread, for as long as the process lives.
pub(super) async fn listen_to_shards(wakes: Arc<Wakes>, node: usize, hub: Rc<Hub>) {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that lie; this is none"
    )]
    let eventfd = AsyncFd::with_interest(wakes.eventfd(node), Interest::READABLE);
    let Ok(eventfd) = eventfd else {
        tracing::error!("the control thread cannot hear the shards: no room in epoll");
        return;
    };
    loop {
        let Ok(mut ready) = eventfd.readable().await else { return };
        let mut count = [0; 8];
        // Nothing to read means that the wake was taken in already.
        let _ = rustix::io::read(eventfd.get_ref(), &mut count);
        ready.clear_ready();
        hub.dispatch();
    }
}

pub(super) fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Internal(format!("no handler for signals: {error}")))
}

fn unexpected(report: Option<Report>) -> Failure {
    match report {
        Some(Report::Failed(failure)) => failure,
        Some(Report::Serving | Report::Done(_)) | None => {
            Failure::Internal("a shard ended without being told to".to_owned())
        }
    }
}
