//! From a checked configuration to a gateway that serves: listeners, shards, operators.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::api::closes::{Ends, Words};
use crate::api::hub::{self, Hub};
use crate::api::method::Method;
use crate::api::orders::Orders;
use crate::api::pulse::{self, Pulse};
use crate::api::server::{self, Secure};
use crate::api::state::{Access, Figures, Limits, NodeInfo, Parts, Readiness, State};
use crate::config::{ApiAccess, Config};
use crate::conn::tls::offer::Offer;
use crate::dialect::cause::{Cause, Initiator, Protocol};
use crate::mail::post::{self, Post};
use crate::metrics::catalogue::Counter;
use crate::metrics::export::Exporter;
use crate::metrics::{self, ControlWriter, LinkReader, ProcessReader, Reader};
use crate::ring::listen::{self, Listener};
use crate::ring::wakes::Wakes;
use crate::shard::labels::Labels;

use super::certificates::Keeper;
use super::control::{Gateway, listen_for};
use super::exit::Failure;
use super::handover::Handed;
use super::memory::{self, Budget};
use super::threads::{self, Job, Report, cannot_listen};
use super::{limits, links, operators, settings, systemd};

impl Gateway {
    /// Listens, starts the shards, and serves operators when all of them serve. What operators order
    /// goes to `orders`.
    ///
    /// Errors: [`Failure`]; nothing serves then.
    pub(super) async fn start(
        config: Config,
        keeper: Keeper,
        orders: Orders,
    ) -> Result<Self, Failure> {
        #[expect(clippy::disallowed_methods, reason = "told to operators, and nothing else")]
        let started = SystemTime::now();
        let cpus = limits::usable_cpus();
        let shards = config.shards.unwrap_or(cpus.len()).max(1);
        let connections_max = connections_max(&config, limits::raise_open_files());
        limits::widen_descriptor_table(connections_max);
        let links = links::wanted(&config);
        let wakes = Wakes::new(shards + 1 + links.len()).map_err(|errno| {
            Failure::Unfit(format!("no eventfd for {shards} shards: errno {}", errno.0))
        })?;
        let wakes = Arc::new(wakes);
        let mut posts = post::connect(shards + 1 + links.len(), config.lanes);
        let link_posts = posts.split_off(shards + 1);
        let control_post = posts.pop().expect("a post was made for the control thread");
        let mut handed = Handed::take()?;
        let listeners = listen(&config, shards, &mut handed)?;
        let door = operators_door(&config, &mut handed)?;
        handed.require_none()?;

        let (sender, reports) = unbounded_channel();
        let offers = &keeper.clients;
        let crew = Crew { config: &config, offers, shards, connections_max, cpus, wakes: &wakes };
        let readers = crew.start(posts, listeners, &sender)?;
        let links = links::start(&config, link_posts, &wakes, shards, &sender)?;
        let hub = {
            let wakes = Arc::clone(&wakes);
            let wake = Box::new(move |node| wakes.notify(node));
            Rc::new(Hub::new(control_post, shards, wake, hub::Limits::default()))
        };
        tokio_uring::spawn(super::control::listen_to_shards(wakes, shards, Rc::clone(&hub)));
        let mut gateway = Self::new(config, hub, shards, reports, links);
        gateway.await_shards().await?;
        gateway.watch_shards(&readers);
        let (numbers, process) = metrics::process();
        let budget = gateway.memory_budget().await;
        let hub = Rc::clone(&gateway.hub);
        tokio_uring::spawn(memory::watch(budget, readers.clone(), numbers, hub));
        gateway.serve_operators(door, readers, process, started, keeper, orders)?;
        gateway.readiness.set(Readiness::Ready);
        tracing::info!(shards, connections_max, version = env!("CARGO_PKG_VERSION"), "serving");
        Ok(gateway)
    }

    fn new(
        config: Config,
        hub: Rc<Hub>,
        shards: usize,
        reports: UnboundedReceiver<Report>,
        links: Vec<LinkReader>,
    ) -> Self {
        let readiness = Rc::new(std::cell::Cell::new(Readiness::Starting));
        let pulse = Rc::new(Pulse::new(shards, Instant::now()));
        Self { config, hub, pulse, readiness, shards, reports, readers: Vec::new(), links }
    }

    async fn memory_budget(&self) -> Budget {
        let memory = self.config.memory;
        Budget::find(memory.budget, memory.share.into()).await
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
    fn watch_shards(&self, readers: &[Reader<Labels>]) {
        for (shard, reader) in readers.iter().cloned().enumerate() {
            let (pulse, hub) = (Rc::clone(&self.pulse), Rc::clone(&self.hub));
            tokio_uring::spawn(pulse::keep(Rc::clone(&pulse), hub, shard, PULSE));
            let turns = move || reader.counter(Counter::Turns);
            tokio_uring::spawn(pulse::count(pulse, turns, shard, PULSE));
        }
        tokio_uring::spawn(systemd::feed_watchdog(Rc::clone(&self.pulse)));
    }

    /// Serves operators, if there is a port for them.
    fn serve_operators(
        &mut self,
        door: Option<TcpListener>,
        readers: Vec<Reader<Labels>>,
        process: ProcessReader,
        started: SystemTime,
        keeper: Keeper,
        orders: Orders,
    ) -> Result<(), Failure> {
        self.readers.clone_from(&readers);
        let (numbers, control_reader) = metrics::control();
        let numbers = Rc::new(numbers);
        keeper.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let hangup = listen_for(SignalKind::hangup())?;
        let interval = self.config.tls.reload_interval.filter(|_| keeper.is_needed());
        let secure = keeper.operator.clone().map(operators::secure);
        tokio_uring::spawn(keeper.watch(interval, hangup, Rc::clone(&numbers)));
        let Some(listener) = door else { return Ok(()) };
        let bound = listener.local_addr().ok();
        let version = env!("CARGO_PKG_VERSION");
        let links = self.links.clone();
        let exporter = Exporter::new(readers, control_reader, process, links, version, started);
        let state = Rc::new(State::new(self.operator_parts(exporter, numbers, secure, orders)));
        tokio_uring::spawn(server::serve(listener, state));
        if let Some(address) = bound {
            tracing::info!(%address, "operators may connect");
        }
        Ok(())
    }

    fn operator_parts(
        &self,
        exporter: Exporter<Labels, Method>,
        numbers: Rc<ControlWriter<Method>>,
        secure: Option<Secure>,
        orders: Orders,
    ) -> Parts {
        let operator = &self.config.operator;
        let (readers, ended) = (self.readers.clone(), self.readers.clone());
        Parts {
            hub: Rc::clone(&self.hub),
            access: match &operator.api {
                ApiAccess::Refused => Access::Closed,
                ApiAccess::Key(key) => Access::Key(key.secret().to_owned()),
                ApiAccess::Insecure => Access::Open,
            },
            exporter: Box::new(move || exporter.render()),
            ends: Box::new(move || Ends::sum(&ended)),
            words: Words {
                causes: Cause::ALL.iter().map(|cause| (cause.label(), cause.meaning())).collect(),
                initiators: Initiator::ALL.iter().map(|initiator| initiator.label()).collect(),
                protocols: Protocol::ALL.iter().map(|protocol| protocol.label()).collect(),
            },
            figures: Box::new(move || Figures::sum(&readers)),
            pulse: Rc::clone(&self.pulse),
            readiness: Rc::clone(&self.readiness),
            node: NodeInfo {
                uid: format!("{:016x}", fastrand::u64(..)),
                name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: Instant::now().into_std(),
            },
            limits: Limits {
                body_bytes_max: operator.body_bytes_max,
                body_wait: operator.body_timeout,
                data_bytes_max: self.config.websocket.message_bytes_max,
                ..Limits::default()
            },
            secure,
            orders,
            numbers,
            links: self.links.clone(),
        }
    }
}

/// Time between two questions to a shard whether it turns.
const PULSE: Duration = Duration::from_millis(500);

/// What all shards' threads are made from.
struct Crew<'a> {
    config: &'a Config,
    offers: &'a [Option<Arc<Offer>>],
    shards: usize,
    connections_max: usize,
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
        let now = Instant::now().into_std();
        let conn = Arc::new(settings::of_connections(self.config, self.shards, now));
        let nonce = format!("{:x}.", fastrand::u64(..));
        let mut shard =
            settings::of_shards(self.config, self.shards, self.connections_max, nonce, conn);
        shard.tls.offers = self.offers.to_vec();
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
                settings: shard.clone(),
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

/// The operators' listening socket, if there is to be one.
fn operators_door(config: &Config, handed: &mut Handed) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = config.operator.address else { return Ok(None) };
    let mut listen = || {
        let listener = match handed.for_operators(address) {
            Some(socket) => listen::adopt(socket, settings::of_listeners(config))?,
            None => std::net::TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().map(Some).map_err(|error| cannot_listen(address, &error))
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
