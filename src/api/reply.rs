//! What the server API answers, in Centrifugo's shapes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::failure::Failure;
use super::publish;
use super::state::{Figures, NodeInfo};
use crate::topic::publication::{Payload, Position, Publication};

/// The JSON text of a result.
pub(super) fn success(result: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Success<'a, T> {
        result: &'a T,
    }
    json(&Success { result })
}

/// The JSON text of an error.
pub(super) fn error(failure: Failure) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body {
        error: Error,
    }
    json(&Body { error: Error::of(failure) })
}

/// The JSON text of a complaint about a parameter.
pub(super) fn wrong(message: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body {
        error: Error,
    }
    json(&Body { error: Error { code: 107, message: format!("bad request: {message}").into() } })
}

/// The JSON text of `value`.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let text = serde_json::to_vec(value);
    assert!(text.is_ok(), "what we answer can be written as JSON");
    text.unwrap_or_default()
}

/// An error of Centrifugo.
#[derive(Serialize)]
pub(super) struct Error {
    code: u32,
    message: Cow<'static, str>,
}

impl Error {
    fn of(failure: Failure) -> Self {
        let (_, code, message) = failure.answer();
        Self { code, message }
    }
}

/// A result that says nothing but that it was done.
#[derive(Serialize)]
pub(super) struct Nothing {}

/// The result of `publish`.
#[derive(Serialize)]
pub(super) struct Published<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
}

impl<'a> Published<'a> {
    /// Published at `position`.
    pub(super) fn at(position: Option<&'a Position>) -> Self {
        Self { offset: position.map(|p| p.offset), epoch: position.map(|p| p.epoch.as_str()) }
    }
}

/// The result of `broadcast`.
#[derive(Serialize)]
pub(super) struct Broadcast<'a> {
    responses: Vec<Response<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response<'a> {
    Result(Published<'a>),
    Error(Error),
}

impl<'a> Broadcast<'a> {
    /// What became of each publication.
    pub(super) fn of(published: &'a [publish::Published]) -> Self {
        let responses = published.iter().map(|published| match published {
            Ok(position) => Response::Result(Published::at(position.as_ref())),
            Err(failure) => Response::Error(Error::of(*failure)),
        });
        Self { responses: responses.collect() }
    }
}

/// The result of `info`. Users are not counted: `num_users` is left out.
#[derive(Serialize)]
pub(super) struct Info<'a> {
    nodes: [Node<'a>; 1],
}

#[derive(Serialize)]
struct Node<'a> {
    uid: &'a str,
    name: &'a str,
    version: &'a str,
    num_clients: u64,
    num_subs: u64,
    num_channels: u64,
    /// In seconds.
    uptime: u64,
}

impl<'a> Info<'a> {
    /// This process, alone.
    pub(super) fn of(node: &'a NodeInfo, figures: &Figures) -> Self {
        let node = Node {
            uid: &node.uid,
            name: &node.name,
            version: &node.version,
            num_clients: figures.connections,
            num_subs: figures.subscriptions,
            num_channels: figures.topics,
            uptime: node.uptime().as_secs(),
        };
        Self { nodes: [node] }
    }
}

/// The result of `channels`.
#[derive(Serialize)]
pub(super) struct Channels {
    pub(super) channels: BTreeMap<String, Count>,
}

/// The subscribers of a channel.
#[derive(Serialize)]
pub(super) struct Count {
    pub(super) num_clients: u64,
}

/// The result of `history`.
#[derive(Serialize)]
pub(super) struct History<'a> {
    publications: Vec<Kept<'a>>,
    epoch: &'a str,
    offset: u64,
}

#[derive(Serialize)]
struct Kept<'a> {
    data: Data<'a>,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Client<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Client<'a> {
    user: &'a str,
    client: &'a str,
}

/// Data as subscribers see it: text that is JSON stands as JSON, bytes stand as Base64.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

impl<'a> History<'a> {
    /// These publications, of a topic that has come to `position`.
    pub(super) fn of(publications: &'a [Arc<Publication>], position: &'a Position) -> Self {
        let publications = publications.iter().map(|publication| Kept {
            data: Data::of(&publication.payload),
            offset: publication.offset.unwrap_or(0),
            info: publication
                .publisher
                .as_ref()
                .map(|publisher| Client { user: &publisher.user, client: &publisher.client }),
            tags: publication.tags.as_ref().and_then(|tags| serde_json::from_slice(tags).ok()),
        });
        Self {
            publications: publications.collect(),
            epoch: position.epoch.as_str(),
            offset: position.offset,
        }
    }
}

impl<'a> Data<'a> {
    fn of(payload: &'a Payload) -> Self {
        match payload {
            Payload::Json(bytes) | Payload::Text(bytes) => serde_json::from_slice(bytes)
                .map_or_else(|_| Self::Text(String::from_utf8_lossy(bytes)), Self::Json),
            Payload::Binary(bytes) => Self::Text(STANDARD.encode(bytes).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::topic::name::TopicName;
    use crate::topic::publication::{Epoch, Publisher};

    fn text(json: Vec<u8>) -> String {
        String::from_utf8(json).unwrap()
    }

    fn position() -> Position {
        Position { offset: 7, epoch: Epoch::new("e1") }
    }

    #[test]
    fn a_publication_has_a_position_or_nothing_is_said_of_it() {
        let position = position();
        let numbered = success(&Published::at(Some(&position)));
        assert_eq!(text(numbered), r#"{"result":{"offset":7,"epoch":"e1"}}"#);
        assert_eq!(text(success(&Published::at(None))), r#"{"result":{}}"#);
        assert_eq!(text(success(&Nothing {})), r#"{"result":{}}"#);
    }

    #[test]
    fn a_broadcast_tells_results_and_errors_in_order() {
        let published = [Ok(Some(position())), Err(Failure::Invalid("why")), Ok(None)];
        assert_eq!(
            text(success(&Broadcast::of(&published))),
            "{\"result\":{\"responses\":[{\"result\":{\"offset\":7,\"epoch\":\"e1\"}},\
             {\"error\":{\"code\":107,\"message\":\"bad request: why\"}},{\"result\":{}}]}}"
        );
    }

    #[test]
    fn history_shows_data_as_subscribers_see_it() {
        let publication = |offset, payload| Publication {
            topic: TopicName::new("t").unwrap(),
            offset: Some(offset),
            payload,
            publisher: None,
            tags: None,
        };
        let publications = [
            Arc::new(Publication {
                publisher: Some(Arc::new(Publisher { client: "c".into(), user: "u".into() })),
                tags: Some(Bytes::from_static(br#"{"k":"v"}"#)),
                ..publication(4, Payload::Json(Bytes::from_static(b"[1.50]")))
            }),
            Arc::new(publication(5, Payload::Text(Bytes::from_static(b"a\"b")))),
            Arc::new(publication(6, Payload::Text(Bytes::from_static(b"17")))),
            Arc::new(publication(7, Payload::Binary(Bytes::from_static(&[0, 255])))),
        ];
        let expected = "{\"result\":{\"publications\":[\
            {\"data\":[1.50],\"offset\":4,\"info\":{\"user\":\"u\",\"client\":\"c\"},\
             \"tags\":{\"k\":\"v\"}},\
            {\"data\":\"a\\\"b\",\"offset\":5},{\"data\":17,\"offset\":6},\
            {\"data\":\"AP8=\",\"offset\":7}],\"epoch\":\"e1\",\"offset\":7}}";
        assert_eq!(text(success(&History::of(&publications, &position()))), expected);
    }
}
