//! The control thread: carries out the command, hears the shards, ends the process in order.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::hub::Hub;
use crate::api::state::Readiness;
use crate::config::Config;
use crate::mail::message::Request;
use crate::metrics::Reader;
use crate::ring::probe::probe;
use crate::ring::uring;
use crate::ring::wakes::Wakes;
use crate::shard::labels::Labels;

use super::cli::{Command, Source, Verb};
use super::exit::Failure;
use super::source::load;
use super::threads::Report;
use super::{limits, logs};

/// How long the end may take after the last connection was told to go, beyond its close timeout.
const END_GRACE: Duration = Duration::from_secs(2);

/// How long the last log lines may take to be written.
const LAST_LINES_WAIT: Duration = Duration::from_millis(100);

/// Carries out the command; returns when the process is to end.
///
/// Errors: [`Failure`], with its exit code.
pub fn run(command: Command) -> Result<(), Failure> {
    limits::refuse_huge_pages();
    // The control thread's own runtime needs a ring too, so this comes first.
    probe(&uring::Settings::default()).map_err(|error| Failure::Unfit(error.to_string()))?;
    match command.verb {
        None => tokio_uring::start(serve(command.source)),
        Some(Verb::Run(source)) => tokio_uring::start(serve(source)),
        Some(Verb::Check(source)) => tokio_uring::start(check(source)),
    }
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
    let (config, keeper) = load(&source).await?;
    let lines = logs::begin(config.log);
    let (end, ended) = oneshot::channel();
    let writing = tokio_uring::spawn(lines.write_all(ended));
    let served = match Gateway::start(config, keeper).await {
        Ok(gateway) => gateway.run().await,
        Err(failure) => Err(failure),
    };
    drop(end);
    let _ = tokio::time::timeout(LAST_LINES_WAIT, writing).await;
    served
}

/// The gateway, as the control thread sees it.
pub(super) struct Gateway {
    pub(super) config: Config,
    pub(super) hub: Rc<Hub>,
    pub(super) readiness: Rc<Cell<Readiness>>,
    /// Shards that have not ended.
    pub(super) shards: usize,
    pub(super) reports: UnboundedReceiver<Report>,
    pub(super) readers: Vec<Reader<Labels>>,
}

impl Gateway {
    /// Serves until a signal, then drains; a second signal ends at once.
    async fn run(mut self) -> Result<(), Failure> {
        let mut terminate = listen_for(SignalKind::terminate())?;
        let mut interrupt = listen_for(SignalKind::interrupt())?;
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            report = self.reports.recv() => return Err(unexpected(report)),
        };
        tracing::info!(
            signal = name,
            connections = self.connections(),
            window = ?self.config.drain.window,
            "draining; a second signal ends at once"
        );
        tokio::select! {
            drained = self.drain() => return drained,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("a second signal: ending at once");
        Ok(())
    }

    /// Says no to readiness checks, then closes the connections, then waits for the shards.
    async fn drain(&mut self) -> Result<(), Failure> {
        self.readiness.set(Readiness::Draining);
        let mut window = Duration::ZERO;
        if self.connections() > 0 {
            sleep(self.config.drain.grace).await;
            window = self.config.drain.window;
        }
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let deadline = Instant::now() + window + self.config.websocket.close_timeout + END_GRACE;
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
                Ok(Some(Report::Done)) => self.shards -= 1,
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
        Some(Report::Serving | Report::Done) | None => {
            Failure::Internal("a shard ended without being told to".to_owned())
        }
    }
}
