//! From a checked configuration to a gateway that serves: listeners, shards, operators.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::hub::{self, Hub};
use crate::api::orders::Orders;
use crate::api::pulse::{self, Pulse};
use crate::api::state::Readiness;
use crate::config::Config;
use crate::config::document::Document;
use crate::conn::tls::offer::Offer;
use crate::mail::post::{self, Post};
use crate::metrics::catalogue::Counter;
use crate::metrics::{self, ProcessReader, Reader};
use crate::ring::listen::Listener;
use crate::ring::wakes::Wakes;
use crate::shard;
use crate::shard::board::Board;
use crate::shard::labels::Labels;

use super::certificates::Keeper;
use super::cli::Source;
use super::control::Gateway;
use super::exit::Failure;
use super::handover::Handed;
use super::logs::Verbosity;
use super::threads::{self, Job, Report};
use super::{limits, links, memory, operators, settings, systemd};

/// What a gateway is started from.
pub(super) struct Origin {
    /// Where its configuration is read again.
    pub(super) source: Source,
    /// What that said at first.
    pub(super) document: Document,
    /// The files of certificates that it names.
    pub(super) keeper: Keeper,
    /// What is logged.
    pub(super) verbosity: Verbosity,
}

impl Gateway {
    /// Listens, starts the shards, and serves operators when all of them serve. What operators order
    /// goes to `orders`.
    ///
    /// Errors: [`Failure`]; nothing serves then.
    pub(super) async fn start(origin: Origin, orders: Orders) -> Result<Self, Failure> {
        #[expect(clippy::disallowed_methods, reason = "told to operators, and nothing else")]
        let started = SystemTime::now();
        let Origin { source, document, keeper, verbosity } = origin;
        let config = document.config();
        let cpus = limits::usable_cpus();
        let shards = config.shards.unwrap_or(cpus.len()).max(1);
        let connections_max = connections_max(config, limits::raise_open_files());
        limits::widen_descriptor_table(connections_max);
        let links = links::wanted(config);
        let wakes = Wakes::new(shards + 1 + links.len()).map_err(|errno| {
            Failure::Unfit(format!("no eventfd for {shards} shards: errno {}", errno.0))
        })?;
        let wakes = Arc::new(wakes);
        let mut posts = post::connect(shards + 1 + links.len(), config.lanes);
        let link_posts = posts.split_off(shards + 1);
        let control_post = posts.pop().expect("a post was made for the control thread");
        let mut handed = Handed::take()?;
        let listeners = listen(config, shards, &mut handed)?;
        let door = operators::door(config, &mut handed)?;
        handed.require_none()?;

        let (sender, reports) = unbounded_channel();
        let offers = &keeper.clients;
        let board = Arc::new(Board::new(first_settings(config, offers, shards, connections_max)));
        let crew = Crew { config, board: &board, shards, cpus, wakes: &wakes };
        let readers = crew.start(posts, listeners, &sender)?;
        let links = links::start(config, link_posts, &wakes, shards, &sender)?;
        let hub = {
            let wakes = Arc::clone(&wakes);
            let wake = Box::new(move |node| wakes.notify(node));
            Rc::new(Hub::new(control_post, shards, wake, hub::Limits::default()))
        };
        tokio_uring::spawn(super::control::listen_to_shards(wakes, shards, Rc::clone(&hub)));
        let (numbers, control_reader) = metrics::control();
        let memory = watch::Sender::new(config.memory);
        let mut gateway = Self {
            document,
            source,
            keeper,
            verbosity,
            hub,
            board,
            memory,
            pulse: Rc::new(Pulse::new(shards, Instant::now())),
            readiness: Rc::new(Cell::new(Readiness::Starting)),
            shards,
            reports,
            readers,
            numbers: Rc::new(numbers),
            links,
            operators: None,
        };
        gateway.await_shards().await?;
        gateway.watch_shards();
        let process = gateway.watch_memory();
        gateway.keeper.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        gateway.keeper.publish_expiries(&gateway.numbers);
        gateway.show_reload(0);
        if let Some(listener) = door {
            gateway.serve_operators(listener, control_reader, process, started, orders);
        }
        gateway.readiness.set(Readiness::Ready);
        tracing::info!(shards, connections_max, version = env!("CARGO_PKG_VERSION"), "serving");
        Ok(gateway)
    }

    /// Watches the memory of the process for as long as it lives; returns how to read its numbers.
    fn watch_memory(&self) -> ProcessReader {
        let (numbers, process) = metrics::process();
        let (readers, hub) = (self.readers.clone(), Rc::clone(&self.hub));
        tokio_uring::spawn(memory::watch(self.memory.subscribe(), readers, numbers, hub));
        process
    }

    /// Waits until every shard accepts connections.
    async fn await_shards(&mut self) -> Result<(), Failure> {
        for _ in 0..self.shards {
            match self.reports.recv().await {
                Some(Report::Serving) => {}
                Some(Report::Failed(failure)) => return Err(failure),
                Some(Report::Done(_)) | None => {
                    return Err(Failure::Internal("a shard ended before it began".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Asks all shards whether they turn, for as long as they do, and tells the service manager.
    fn watch_shards(&self) {
        for (shard, reader) in self.readers.iter().cloned().enumerate() {
            let (pulse, hub) = (Rc::clone(&self.pulse), Rc::clone(&self.hub));
            tokio_uring::spawn(pulse::keep(Rc::clone(&pulse), hub, shard, PULSE));
            let turns = move || reader.counter(Counter::Turns);
            tokio_uring::spawn(pulse::count(pulse, turns, shard, PULSE));
        }
        tokio_uring::spawn(systemd::feed_watchdog(Rc::clone(&self.pulse)));
    }
}

/// Time between two questions to a shard whether it turns.
const PULSE: Duration = Duration::from_millis(500);

/// The settings that shards begin with.
fn first_settings(
    config: &Config,
    offers: &[Option<Arc<Offer>>],
    shards: usize,
    connections_max: usize,
) -> shard::Settings {
    let now = Instant::now().into_std();
    let conn = Arc::new(settings::of_connections(config, shards, now));
    let nonce = format!("{:x}.", fastrand::u64(..));
    let mut settings = settings::of_shards(config, shards, connections_max, nonce, conn);
    settings.tls.offers = offers.to_vec();
    settings
}

/// What all shards' threads are made from.
struct Crew<'a> {
    config: &'a Config,
    board: &'a Arc<Board>,
    shards: usize,
    cpus: Vec<usize>,
    wakes: &'a Arc<Wakes>,
}

impl Crew<'_> {
    /// Starts the threads; returns how to read their numbers.
    fn start(
        &self,
        posts: Vec<Post>,
        listeners: Vec<Vec<Listener>>,
        reports: &UnboundedSender<Report>,
    ) -> Result<Vec<Reader<Labels>>, Failure> {
        let mut readers = Vec::with_capacity(self.shards);
        for (node, (post, listeners)) in posts.into_iter().zip(listeners).enumerate() {
            let (numbers, reader) = metrics::shard();
            readers.push(reader);
            let job = Job {
                node,
                cpu: self.config.pin_threads.then(|| self.cpus[node % self.cpus.len()]),
                listeners,
                ring: settings::of_ring(self.config),
                wakes: Arc::clone(self.wakes),
                post,
                numbers,
                board: Arc::clone(self.board),
            };
            threads::spawn(job, reports.clone())?;
        }
        Ok(readers)
    }
}

/// Listening sockets for each shard, one for each configured address: those of the service manager
/// where it has opened them.
fn listen(
    config: &Config,
    shards: usize,
    handed: &mut Handed,
) -> Result<Vec<Vec<Listener>>, Failure> {
    let mut listeners: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let (address, options) = (listener.address, settings::of_listeners(config));
        let sockets = match handed.for_clients(address) {
            Some(socket) => threads::share(socket, address, shards, options)?,
            None => threads::listen_all(address, shards, options)?,
        };
        for (shard, socket) in sockets.into_iter().enumerate() {
            listeners[shard].push(socket);
        }
    }
    Ok(listeners)
}

/// The limit of connections: the configured one, or what the limit of open files allows.
pub(super) fn connections_max(config: &Config, open_files: u64) -> usize {
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
