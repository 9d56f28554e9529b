//! What topics may do and keep, by the part of their name before `:`.

use std::time::Duration;

use hashbrown::HashMap;

use super::name::TopicName;

/// How a topic treats its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every publication has an offset; a bounded history allows recovery.
    Stream,
    /// Only the newest publication matters: it is sent on recovery, and takes the place of older ones
    /// in the queue of a client that lags.
    Latest,
    /// Nothing is kept and nothing is numbered.
    Live,
}

/// What numbers and keeps the publications of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// This process.
    Embedded,
    /// A Redis server, which several gateways share.
    Redis,
}

/// Which clients may publish. The server API may always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRight {
    /// None.
    Deny,
    /// Those that are subscribed to the topic.
    Subscribers,
    /// All.
    Allow,
}

/// Settings of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The part of topic names before `:`; empty for names without one.
    pub name: String,
    /// How its topics treat their past.
    pub mode: Mode,
    /// What numbers and keeps its publications.
    pub broker: Broker,
    /// Publications kept for each topic (mode `latest` keeps 1).
    pub history_size: usize,
    /// How long publications are kept.
    pub history_age: Duration,
    /// Bytes of publications kept for each topic.
    pub history_bytes_max: usize,
    /// Whether clients may recover what they missed.
    pub recovery: bool,
    /// Which clients may publish.
    pub publish: PublishRight,
    /// Whether its publications may be compressed.
    pub compress: bool,
}

/// All namespaces by name.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(HashMap<String, Namespace>);

impl Namespaces {
    /// The table of `namespaces`; of two with one name the later counts.
    pub fn new(namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        Self(namespaces.into_iter().map(|n| (n.name.clone(), n)).collect())
    }

    /// The namespace of `topic`; `None` when it is not configured.
    pub fn of(&self, topic: &TopicName) -> Option<&Namespace> {
        self.0.get(topic.namespace())
    }
}
