//! The control thread: starts the shards, answers operators, ends the process in order.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::hub::Hub;
use crate::api::server::{self, Readiness, State};
use crate::config::{self, Config};
use crate::mail::message::Request;
use crate::mail::post;
use crate::metrics::export::Exporter;
use crate::metrics::{self, Reader};
use crate::ring::probe::probe;
use crate::ring::uring;
use crate::ring::wakes::Wakes;
use crate::shard::labels::Labels;

use super::cli::{Command, Source, Verb};
use super::exit::Failure;
use super::threads::{Job, Report};
use super::{limits, logs, settings, threads};

/// How long the end may take after the last connection was told to go, beyond its close timeout.
const END_GRACE: Duration = Duration::from_secs(2);

/// Carries out the command; returns when the process is to end.
///
/// Errors: [`Failure`], with its exit code.
pub fn run(command: Command) -> Result<(), Failure> {
    // The control thread's own runtime needs a ring too, so this comes first.
    probe(&uring::Settings::default()).map_err(|error| Failure::Unfit(error.to_string()))?;
    match command.verb {
        None => tokio_uring::start(serve(command.source)),
        Some(Verb::Run(source)) => tokio_uring::start(serve(source)),
        Some(Verb::Check(source)) => tokio_uring::start(check(source)),
    }
}

/// Reads and checks a configuration, and says that it is good.
async fn check(source: Source) -> Result<(), Failure> {
    load(&source).await?;
    #[expect(clippy::print_stdout, reason = "the answer to `ringway check`")]
    {
        println!("the configuration is good");
    }
    Ok(())
}

async fn load(source: &Source) -> Result<Config, Failure> {
    let (text, origin) = match &source.config {
        Some(path) => (read_text(path).await?, path.display().to_string()),
        None => (String::new(), "defaults".to_owned()),
    };
    config::parse(&text, &origin, &source.overrides)
        .map_err(|violations| Failure::Unfit(format!("bad configuration\n{violations}")))
}

async fn read_text(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::Unfit(format!("cannot read {}: {error}; name another --config", path.display()))
    };
    let file = tokio_uring::fs::File::open(path).await.map_err(unreadable)?;
    let mut text = Vec::new();
    loop {
        let position = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let (read, chunk) = file.read_at(vec![0; 64 * 1024], position).await;
        let read = read.map_err(unreadable)?;
        if read == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..read]);
    }
    file.close().await.map_err(unreadable)?;
    String::from_utf8(text)
        .map_err(|_| Failure::Unfit(format!("{} is not UTF-8 text", path.display())))
}

/// The gateway, as the control thread sees it.
struct Gateway {
    config: Config,
    hub: Rc<Hub>,
    readiness: Rc<Readiness>,
    shards: usize,
    reports: UnboundedReceiver<Report>,
}

async fn serve(source: Source) -> Result<(), Failure> {
    let config = load(&source).await?;
    let lines = logs::begin(config.log);
    let writing = tokio_uring::spawn(lines.write_all());
    let served = match Gateway::start(config).await {
        Ok(gateway) => gateway.run().await,
        Err(failure) => Err(failure),
    };
    // The last lines go out before the process ends.
    sleep(Duration::from_millis(20)).await;
    writing.abort();
    served
}

impl Gateway {
    async fn start(config: Config) -> Result<Self, Failure> {
        let cpus = limits::usable_cpus();
        let shards = config.shards.unwrap_or(cpus.len()).max(1);
        let open_files = limits::raise_open_files();
        let connections_max = connections_max(&config, open_files);
        let wakes = Wakes::new(shards + 1).map_err(|errno| {
            Failure::Unfit(format!("no eventfd for {shards} shards: errno {}", errno.0))
        })?;
        let wakes = Arc::new(wakes);
        let mut posts = post::connect(shards + 1, config.lanes);
        let Some(control_post) = posts.pop() else {
            return Err(Failure::Internal("there are no lanes".to_owned()));
        };
        let mut listeners: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
        for listener in &config.listeners {
            let options = settings::of_listeners(&config);
            let sockets = threads::listen_all(listener.address, shards, options)?;
            for (shard, socket) in sockets.into_iter().enumerate() {
                listeners[shard].push(socket);
            }
        }
        let (sender, reports) = unbounded_channel();
        let conn = Arc::new(settings::of_connections(&config));
        let nonce = format!("{:x}", fastrand::u64(..));
        let mut readers = Vec::with_capacity(shards);
        for (node, (post, listeners)) in posts.into_iter().zip(listeners).enumerate() {
            let (numbers, reader) = metrics::shard();
            readers.push(reader);
            let job = Job {
                node,
                cpu: config.pin_threads.then(|| cpus[node % cpus.len()]),
                listeners,
                ring: settings::of_ring(&config),
                wakes: Arc::clone(&wakes),
                post,
                numbers,
                settings: settings::of_shard(
                    &config,
                    shards,
                    connections_max,
                    format!("{nonce}."),
                    Arc::clone(&conn),
                ),
            };
            threads::spawn(job, sender.clone())?;
        }
        let hub = {
            let wakes = Arc::clone(&wakes);
            Rc::new(Hub::new(control_post, shards, Box::new(move |node| wakes.notify(node))))
        };
        tokio_uring::spawn(listen_to_shards(Arc::clone(&wakes), shards, Rc::clone(&hub)));
        let mut gateway = Self { config, hub, readiness: Rc::default(), shards, reports };
        gateway.await_shards().await?;
        drop(readers);
        gateway.readiness.set_ready();
        tracing::info!(shards, connections_max, version = env!("CARGO_PKG_VERSION"), "serving");
        Ok(gateway)
    }

    /// Waits until every shard accepts connections.
    async fn await_shards(&mut self) -> Result<(), Failure> {
        for _ in 0..self.shards {
            match self.reports.recv().await {
                Some(Report::Serving) => {}
                Some(Report::Failed(failure)) => return Err(failure),
                Some(Report::Done) | None => {
                    return Err(Failure::Internal("a shard ended before it began".to_owned()));
                }
            }
        }
        Ok(())
    }

    async fn run(mut self) -> Result<(), Failure> {
        let mut terminate = listen_for(SignalKind::terminate())?;
        let mut interrupt = listen_for(SignalKind::interrupt())?;
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            report = self.reports.recv() => return Err(unexpected(report)),
        };
        tracing::info!(signal = name, window = ?self.config.drain.window, "draining");
        tokio::select! {
            drained = self.drain() => drained,
            _ = terminate.recv() => Ok(tracing::warn!("a second signal: ending at once")),
            _ = interrupt.recv() => Ok(tracing::warn!("a second signal: ending at once")),
        }
    }

    /// Says no to readiness checks, then closes the connections, then waits for the shards.
    async fn drain(&mut self) -> Result<(), Failure> {
        self.readiness.set_draining();
        let window = self.config.drain.window;
        if self.hub.connections() > 0 {
            sleep(self.config.drain.grace).await;
        }
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        for shard in 0..self.shards {
            self.hub.tell(shard, Request::Drain { window_ms });
        }
        let deadline = Instant::now() + window + self.config.websocket.close_timeout + END_GRACE;
        if !self.await_ends(deadline).await? {
            tracing::warn!("some connections did not end in time: resetting them");
            for shard in 0..self.shards {
                self.hub.tell(shard, Request::Stop);
            }
            self.await_ends(Instant::now() + END_GRACE).await?;
        }
        tracing::info!("all connections have ended");
        Ok(())
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
}

/// The limit of connections: the configured one, or what the limit of open files allows.
fn connections_max(config: &Config, open_files: u64) -> usize {
    let possible = limits::connections_possible(open_files);
    let Some(wanted) = config.limits.connections_max else { return possible };
    if u64::try_from(wanted).is_ok_and(|wanted| wanted > open_files) {
        tracing::warn!(
            wanted,
            open_files,
            "limits.connections_max is above the limit of open files: raise LimitNOFILE or ulimit -n"
        );
    }
    wanted
}

/// Takes in what the shards send to the control thread, for as long as the process lives.
async fn listen_to_shards(wakes: Arc<Wakes>, node: usize, hub: Rc<Hub>) {
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

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
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
