//! What the handlers of operator requests share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::closes::{Ends, Snapshots, Words};
use super::hub::Hub;
use super::method::Method;
use super::orders::Orders;
use super::pulse::Pulse;
use super::server::Secure;
use super::window::Window;
use crate::metrics::catalogue::{Counter, Gauge, LinkGauge};
use crate::metrics::{ControlWriter, LinkReader, Reader, Vocabulary};

/// Who may call the server API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Those who send this key.
    Key(String),
    /// Everybody but web pages.
    Open,
    /// Nobody.
    Closed,
}

/// Whether the gateway takes clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// No more.
    Draining,
}

/// This gateway, among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Different for every process.
    pub uid: String,
    /// What the operator calls it.
    pub name: String,
    /// Version of the daemon.
    pub version: String,
    /// When the process started.
    pub started: std::time::Instant,
}

impl NodeInfo {
    /// How long the process has run.
    pub(super) fn uptime(&self) -> Duration {
        Instant::now().into_std().saturating_duration_since(self.started)
    }
}

/// Bounds of operator requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time; more are answered with 503.
    pub connections_max: usize,
    /// How long a request's head may take, and how long a connection may idle.
    pub head_wait: Duration,
    /// How long a request's body may take.
    pub body_wait: Duration,
    /// How long a client may take none of its answer.
    pub write_wait: Duration,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Bytes of one publication.
    pub data_bytes_max: usize,
    /// Channels of one broadcast.
    pub broadcast_max: usize,
    /// Channels in one list.
    pub list_max: usize,
    /// Publications in one answer about history; more are asked for page by page.
    pub history_max: usize,
    /// Idempotency keys that are remembered; the oldest is forgotten for a new one.
    pub keys_max: usize,
    /// How long an idempotency key is remembered.
    pub keys_age: Duration,
    /// How long a shard may be silent before `/livez` fails.
    pub silence_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            head_wait: Duration::from_secs(10),
            body_wait: Duration::from_secs(10),
            write_wait: Duration::from_secs(30),
            body_bytes_max: 1 << 20,
            data_bytes_max: 256 << 10,
            broadcast_max: 1000,
            list_max: 100_000,
            history_max: 1000,
            keys_max: 16_384,
            keys_age: Duration::from_secs(300),
            silence_max: Duration::from_secs(10),
        }
    }
}

/// Numbers of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Upgraded connections.
    pub connections: u64,
    /// Subscriptions of connections to topics.
    pub subscriptions: u64,
    /// Topics that are alive.
    pub topics: u64,
    /// Publications since the start.
    pub publications: u64,
    /// Publications queued for subscribers since the start.
    pub deliveries: u64,
}

impl Figures {
    /// The sums over these shards.
    pub fn sum<V: Vocabulary>(shards: &[Reader<V>]) -> Self {
        let gauge = |gauge| shards.iter().map(|shard| shard.gauge(gauge)).sum();
        let counter = |counter| shards.iter().map(|shard| shard.counter(counter)).sum();
        Self {
            connections: shards.iter().map(Reader::connections).sum(),
            subscriptions: gauge(Gauge::Subscriptions),
            topics: gauge(Gauge::Topics),
            publications: counter(Counter::Publications),
            deliveries: counter(Counter::Deliveries),
        }
    }
}

/// What the daemon gives to the handlers.
pub struct Parts {
    /// The way to the shards.
    pub hub: Rc<Hub>,
    /// Who may call the server API; see [`State::renew`].
    pub access: RefCell<Access>,
    /// Writes all metrics in the text format of Prometheus.
    pub exporter: Box<dyn Fn() -> String>,
    /// How connections have ended; [`Ends::sum`] makes it.
    pub ends: Box<dyn Fn() -> Ends>,
    /// The words for that.
    pub words: Words,
    /// Numbers of now; [`Figures::sum`] makes them.
    pub figures: Box<dyn Fn() -> Figures>,
    /// Whether the shards turn.
    pub pulse: Rc<Pulse>,
    /// Whether the gateway takes clients; the daemon changes it.
    pub readiness: Rc<Cell<Readiness>>,
    /// Who we are.
    pub node: NodeInfo,
    /// Bounds; see [`State::renew`].
    pub limits: Cell<Limits>,
    /// How connections become TLS; `None`: they do not.
    pub secure: Option<Secure>,
    /// Where orders go.
    pub orders: Orders,
    /// Where requests are counted.
    pub numbers: Rc<ControlWriter<Method>>,
    /// How the links to engines do.
    pub links: Vec<LinkReader>,
}

/// What the handlers share.
pub struct State {
    pub(super) parts: Parts,
    pub(super) window: RefCell<Window>,
    pub(super) snapshots: RefCell<Snapshots>,
}

impl State {
    /// The state at the start.
    pub fn new(parts: Parts) -> Self {
        let limits = parts.limits.get();
        let window = Window::new(limits.keys_max, limits.keys_age);
        let snapshots = RefCell::new(Snapshots::new(Instant::now()));
        Self { parts, window: RefCell::new(window), snapshots }
    }

    /// The first engine without which some topics do nothing, and what is wrong with it.
    pub(super) fn lost_broker(&self) -> Option<(&'static str, &'static str)> {
        self.parts.links.iter().find_map(|link| {
            let what = match () {
                () if link.gauge(LinkGauge::Up) == 0 => "does not answer",
                () if link.gauge(LinkGauge::SilentShards) > 0 => "is not heard by every shard",
                () => return None,
            };
            Some((link.broker(), what))
        })
    }

    /// From the next request on these count. What is remembered of idempotency keys stays as it is.
    pub fn renew(&self, access: Access, limits: Limits) {
        self.parts.access.replace(access);
        self.parts.limits.set(limits);
    }

    /// The first shard that has shown no sign of life for longer than it may, and for how long.
    ///
    /// One that has drained and ended is not meant.
    pub fn silent_shard(&self) -> Option<(usize, Duration)> {
        self.parts.pulse.silent(self.parts.limits.get().silence_max, Instant::now())
    }
}
