//! Text in, checked settings out; everything that is wrong is told at once.
//!
//! [`keys::SECTIONS`] lists every setting with its type, limits and default. [`parse`] holds a text
//! against that list, then builds a [`Config`] and looks for settings that do not go together.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::network::Networks;
use crate::auth::origin::OriginRule;
use crate::auth::rate::Rate;
use crate::conn::outbox::Settings as OutboxSettings;
use crate::dialect::keepalive::Settings as PingSettings;
use crate::mail::post::Settings as LaneSettings;
use crate::ring::probe::Feature;
use crate::topic::namespace::Namespace;
use crate::ws::deflate::Settings as DeflateSettings;

mod build;
mod conflict;
pub mod document;
pub mod keys;
mod quantity;
mod reader;
pub mod redis;
pub mod tls;
mod tree;
pub mod violation;

use violation::Violations;

/// All settings, each within its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Threads that serve clients; `None`: one for each usable CPU.
    pub shards: Option<usize>,
    /// Whether each of them is bound to a CPU.
    pub pin_threads: bool,
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// TLS of those listeners that have it.
    pub tls: tls::Tls,
    /// The operators' side.
    pub operator: Operator,
    /// Request heads.
    pub http: Http,
    /// What is taken from clients after the upgrade.
    pub websocket: Websocket,
    /// Compression of messages.
    pub deflate: Deflate,
    /// What is queued for clients.
    pub outbox: OutboxSettings,
    /// How many there may be.
    pub limits: Limits,
    /// How much memory.
    pub memory: Memory,
    /// What is served.
    pub routes: Routes,
    /// The Centrifugo protocol.
    pub centrifuge: Centrifuge,
    /// What topics may do; no two with one name.
    pub namespaces: Vec<Namespace>,
    /// The broker redis.
    pub redis: redis::Redis,
    /// io_uring.
    pub ring: Ring,
    /// Options of sockets.
    pub socket: Socket,
    /// Capacities between threads.
    pub lanes: LaneSettings,
    /// The orderly end.
    pub drain: Drain,
    /// Ended connections of each kind that each shard remembers.
    pub closes_kept: usize,
    /// What is logged.
    pub log: Log,
}

/// One place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// Which web pages may connect.
    pub origins: OriginRule,
    /// What is asked of clients in the TLS handshake; `None`: there is no TLS.
    pub tls: Option<tls::ClientAuth>,
    /// Connections; `None`: no limit of its own.
    pub connections_max: Option<usize>,
    /// Whether every connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Whose word counts for the addresses of others.
    pub trusted_proxies: Networks,
}

/// The operators' side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Address and port; `None`: there is none.
    pub address: Option<SocketAddr>,
    /// Who may call the server API.
    pub api: ApiAccess,
    /// What is asked of callers in the TLS handshake; `None`: there is no TLS.
    pub tls: Option<tls::ClientAuth>,
    /// Most bytes in the body of a request.
    pub body_bytes_max: usize,
    /// Longest time that the body of a request may take.
    pub body_timeout: Duration,
}

/// Who may call the server API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAccess {
    /// Nobody.
    Refused,
    /// Those who present this key.
    Key(ApiKey),
    /// All who reach the address, which is a loopback one.
    Insecure,
}

/// A secret: shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Limits of request heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// Most bytes in a head.
    pub head_bytes_max: usize,
    /// Most headers in a head.
    pub headers_max: usize,
    /// Longest time from the connection to the end of its head.
    pub head_timeout: Duration,
}

/// Limits of what clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Websocket {
    /// Most payload bytes in a message.
    pub message_bytes_max: usize,
    /// Most frames in a message.
    pub fragments_max: usize,
    /// Longest time from the first frame of a message to its last.
    pub message_timeout: Duration,
    /// Pings on raw and echo connections.
    pub ping: PingSettings,
    /// Longest time for the client's half of a close.
    pub close_timeout: Duration,
    /// Longest time without a message; `None`: any.
    pub idle_timeout: Option<Duration>,
    /// Pings, pongs and closes.
    pub control_frames: Rate,
}

/// Compression of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// How; `None`: not at all.
    pub messages: Option<DeflateSettings>,
    /// Clients in all that may keep their context.
    pub contexts_max: usize,
}

/// How many there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all; `None`: what the limit of open files allows.
    pub connections_max: Option<usize>,
    /// Connections in all that have not been upgraded.
    pub handshakes_max: usize,
    /// Connections of one address; `None`: any number.
    pub address_connections_max: Option<u16>,
    /// How often one address may connect; `None`: at any pace.
    pub address_rate: Option<Rate>,
    /// To whom the limits for addresses do not apply.
    pub address_exempt: Networks,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Commands of one client; `None`: any number.
    pub commands: Option<Rate>,
    /// Topics in all.
    pub topics_max: usize,
}

/// How much memory the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// In bytes; `None`: a share of what there is.
    pub budget: Option<u64>,
    /// That share, in percent.
    pub share: u8,
}

/// What is served on the client listeners; at least one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routes {
    /// `/topic/{topic}`.
    pub raw: bool,
    /// `/echo`.
    pub echo: bool,
    /// `/`, a page for trying things out.
    pub demo: bool,
    /// `/connection/websocket`.
    pub centrifuge: bool,
}

/// Settings of the Centrifugo protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Centrifuge {
    /// Pings of the protocol.
    pub ping: PingSettings,
    /// Longest time from the upgrade to the connect command.
    pub connect_timeout: Duration,
}

/// Sizes and switches of io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Entries of each submission queue; a power of two.
    pub entries: u32,
    /// Receive buffers of each shard; a power of two.
    pub buffers: u16,
    /// Bytes in each of them.
    pub buffer_bytes: u32,
    /// What is not to be used.
    pub disable: Vec<Feature>,
}

/// Options of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// SO_SNDBUF of clients, in bytes.
    pub send_buffer: u32,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// TCP_NOTSENT_LOWAT of clients, in bytes.
    pub notsent_lowat: u32,
}

/// The orderly end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// From the failing readiness check to the first close.
    pub grace: Duration,
    /// The closes are spread over this.
    pub window: Duration,
    /// Close code on raw connections: 1012 or 1001.
    pub code: u16,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important.
    pub level: tracing::Level,
    /// The same for single rooms of the code.
    pub levels: Vec<(String, tracing::Level)>,
    /// Abnormal ends of connections in one second.
    pub closes_rate: u32,
    /// Every end of a connection.
    pub access: bool,
    /// For whom.
    pub format: LogFormat,
}

/// For whom log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Text,
    /// Machines: one JSON object in each line.
    Json,
}

impl ApiKey {
    /// The secret itself, to compare with.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl Default for Config {
    /// What an empty text means.
    fn default() -> Self {
        parse("", "defaults", &[]).unwrap_or_else(|violations| panic!("{violations}"))
    }
}

/// The settings that `text` and then `overrides` (each `key.path=value`) make. `origin` names the
/// text in messages.
///
/// Errors: everything that is wrong, in the order of the text. Where it is not TOML at all, only
/// that: the rest would be guesses.
pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Config, Violations> {
    document::Document::parse(text, origin, overrides).map(|document| document.config().clone())
}

#[cfg(test)]
mod tests;
