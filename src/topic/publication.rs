//! One published message and its place in the order of its topic.

use std::sync::Arc;

use bytes::Bytes;

use super::name::TopicName;

/// Names one life of a topic: offsets of different epochs never compare.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The epoch that is written as `text`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As clients see it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A place in the order of a topic: everything up to and including `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the last publication, 0 before the first.
    pub offset: u64,
    /// The life of the topic that the offset belongs to.
    pub epoch: Epoch,
}

/// What the publisher sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// One JSON text without line breaks, already validated.
    Json(Bytes),
    /// Valid UTF-8.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

impl Payload {
    /// The payload that is the JSON text `json`, which was validated: its bytes, with spaces for the
    /// line breaks, which can only stand between tokens.
    pub fn from_valid_json(json: &[u8]) -> Self {
        if memchr::memchr2(b'\r', b'\n', json).is_none() {
            return Self::Json(Bytes::copy_from_slice(json));
        }
        let space = |&byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
        Self::Json(json.iter().map(space).collect())
    }

    /// The published bytes.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// Who published, as shown to subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The connection's id.
    pub client: Box<str>,
    /// The user's id, empty for anonymous ones.
    pub user: Box<str>,
}

/// One publication; immutable once the home has numbered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it was published.
    pub topic: TopicName,
    /// Its number in the topic, from 1; `None` on topics without positions (mode `live`).
    pub offset: Option<u64>,
    /// What was published.
    pub payload: Payload,
    /// The client that published it; `None` for the server API and raw clients.
    pub publisher: Option<Arc<Publisher>>,
    /// A JSON object of strings that came with it, `None` without tags.
    pub tags: Option<Bytes>,
}
