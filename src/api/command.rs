//! What requests to the server API say.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::failure::Failure;
use crate::topic::history::{HistoryQuery, Order};
use crate::topic::name::{NameError, TopicName};
use crate::topic::publication::{Epoch, Payload, Position};

/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// Longest reason of a close, in bytes: RFC 6455 §5.5 leaves 123 after the code.
const REASON_BYTES_MAX: usize = 123;

/// `publish` and `broadcast`, which differ in what names the topics.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Publish<'a> {
    pub(super) channel: String,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    skip_history: bool,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    version: u64,
    version_epoch: Option<String>,
}

/// What is published, wherever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) payload: Payload,
    pub(super) tags: Option<Bytes>,
    pub(super) skip_history: bool,
    pub(super) key: Option<Box<str>>,
}

impl Publish<'_> {
    /// The topics that are named in a broadcast, 1 to `max`. Of more than that none is kept.
    ///
    /// Errors: [`Failure::Invalid`], [`Failure::TooManyChannels`].
    pub(super) fn names(&self, max: usize) -> Result<Vec<String>, Failure> {
        let json = self.channels.map_or("[]", RawValue::get);
        let names = serde_json::Deserializer::from_str(json).deserialize_seq(Names { max });
        let wrong = "`channels` must be a list of texts; name the topics in it";
        let names =
            names.map_err(|_| Failure::Invalid(wrong))?.ok_or(Failure::TooManyChannels(max))?;
        if names.is_empty() {
            return Err(Failure::Invalid("`channels` is missing or empty; name the topics"));
        }
        Ok(names)
    }

    /// What is published; at most `data_bytes_max` bytes.
    ///
    /// Errors: [`Failure::Invalid`], [`Failure::NotAvailable`], [`Failure::DataTooLarge`].
    pub(super) fn content(&self, data_bytes_max: usize) -> Result<Content, Failure> {
        if self.version != 0 || self.version_epoch.as_ref().is_some_and(|epoch| !epoch.is_empty()) {
            let cause = "publications have no versions here; leave `version` out";
            return Err(Failure::NotAvailable(cause));
        }
        let key = self.idempotency_key.as_deref().filter(|key| !key.is_empty());
        if key.is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(Failure::Invalid("`idempotency_key` may have 255 bytes; shorten it"));
        }
        let tags = match &self.tags {
            Some(tags) if !tags.is_empty() => Some(serde_json::to_vec(tags)?.into()),
            Some(_) | None => None,
        };
        let payload = self.payload()?;
        if payload.bytes().len() + tags.as_ref().map_or(0, Bytes::len) > data_bytes_max {
            return Err(Failure::DataTooLarge(data_bytes_max));
        }
        Ok(Content { payload, tags, skip_history: self.skip_history, key: key.map(Into::into) })
    }

    fn payload(&self) -> Result<Payload, Failure> {
        let base64 = self.b64data.as_ref().filter(|text| !text.is_empty());
        match (self.data, base64) {
            (Some(json), None) => Ok(Payload::from_valid_json(json.get().as_bytes())),
            (None, Some(base64)) => {
                let bytes = STANDARD.decode(base64);
                let bytes = bytes.map_err(|_| Failure::Invalid("`b64data` is not Base64"))?;
                Ok(Payload::Binary(bytes.into()))
            }
            (None, None) => Err(Failure::Invalid("`data` is missing or null; send any other JSON")),
            (Some(_), Some(_)) => Err(Failure::Invalid("send `data` or `b64data`, not both")),
        }
    }
}

/// Reads a list of at most `max` texts; of a longer one nothing is left.
struct Names {
    max: usize,
}

impl<'de> Visitor<'de> for Names {
    type Value = Option<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while names.len() < self.max {
            match list.next_element()? {
                Some(name) => names.push(name),
                None => return Ok(Some(names)),
            }
        }
        if list.next_element::<IgnoredAny>()?.is_none() {
            return Ok(Some(names));
        }
        drop(names);
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// `channels`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Channels {
    pub(super) pattern: Option<String>,
}

/// `history`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub(super) channel: String,
    limit: i64,
    since: Option<Since>,
    reverse: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Since {
    offset: u64,
    epoch: String,
}

impl History {
    /// Which part is asked for. A negative limit asks for as much as one answer may hold.
    pub(super) fn query(&self, history_max: usize) -> HistoryQuery {
        let since = self.since.as_ref();
        HistoryQuery {
            limit: usize::try_from(self.limit).map_or(history_max, |n| n.min(history_max)),
            since: since.map(|s| Position { offset: s.offset, epoch: Epoch::new(&s.epoch) }),
            order: if self.reverse { Order::Reverse } else { Order::Forward },
        }
    }
}

/// `disconnect`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disconnect {
    user: String,
    client: String,
    session: String,
    whitelist: Vec<String>,
    disconnect: Option<Close>,
}

/// The close that a disconnected client sees.
#[derive(Debug, Deserialize)]
struct Close {
    code: u16,
    #[serde(default)]
    reason: String,
}

impl Disconnect {
    /// Which client is told to go, with which code and reason.
    ///
    /// Errors: [`Failure::Invalid`], [`Failure::NotAvailable`].
    pub(super) fn order(self) -> Result<(String, u16, String), Failure> {
        if !self.session.is_empty() || !self.whitelist.is_empty() {
            let cause = "`session` and `whitelist` are not known here; name a `client`";
            return Err(Failure::NotAvailable(cause));
        }
        if !self.user.is_empty() {
            let cause = "clients are anonymous, nobody is a user; name a `client`";
            return Err(Failure::NotAvailable(cause));
        }
        if self.client.is_empty() {
            return Err(Failure::Invalid("name a `client`"));
        }
        let (code, reason) = match self.disconnect {
            // Centrifugo's code and text; its clients do not come back after it.
            None => (3503, String::from("force disconnect")),
            Some(close) => (close.code, close.reason),
        };
        if !(3000..=4999).contains(&code) {
            return Err(Failure::Invalid("`disconnect.code` must lie between 3000 and 4999"));
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(Failure::Invalid("`disconnect.reason` may have 123 bytes; shorten it"));
        }
        Ok((
            self.client,
            code,
            if reason.is_empty() { String::from("disconnected") } else { reason },
        ))
    }
}

/// The topic of this name.
///
/// Errors: [`Failure::Invalid`].
pub(super) fn topic(name: &str) -> Result<TopicName, Failure> {
    TopicName::new(name).map_err(|error| {
        Failure::Invalid(match error {
            NameError::Empty => "`channel` is missing or empty; name the topic",
            NameError::TooLong => "the name of the channel has more than 255 bytes; shorten it",
            NameError::ControlCharacter => "the name of the channel has a control character",
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &str) -> Result<Content, Failure> {
        serde_json::from_str::<Publish<'_>>(json).unwrap().content(64)
    }

    fn order(json: &str) -> Result<(String, u16, String), Failure> {
        serde_json::from_str::<Disconnect>(json).unwrap().order()
    }

    #[test]
    fn data_is_kept_byte_for_byte_but_on_one_line() {
        let read = content("{\"data\": {\"b\":1.50,\r\n\"a\":\"\\u00e9\"} }").unwrap();
        let line = b"{\"b\":1.50,  \"a\":\"\\u00e9\"}";
        assert_eq!(read.payload, Payload::Json(Bytes::from_static(line)));
        assert_eq!((read.tags, read.skip_history, read.key), (None, false, None));
    }

    #[test]
    fn a_broadcast_names_as_many_topics_as_it_may_and_all_of_them_are_texts() {
        let names = |json: &str| serde_json::from_str::<Publish<'_>>(json).unwrap().names(2);
        assert_eq!(names(r#"{"channels":["a","b"]}"#), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(r#"{"channels":["a","b","c"]}"#), Err(Failure::TooManyChannels(2)));
        assert_eq!(names(r#"{"channels":["a","b",1,"d"]}"#), Err(Failure::TooManyChannels(2)));
        for bad in ["{}", r#"{"channels":null}"#, r#"{"channels":[]}"#, r#"{"channels":"a"}"#] {
            assert!(matches!(names(bad), Err(Failure::Invalid(_))), "{bad}");
        }
        assert!(matches!(names(r#"{"channels":["a",1]}"#), Err(Failure::Invalid(_))));
    }

    #[test]
    fn base64_is_binary_and_members_without_content_are_absent() {
        let read = content(r#"{"b64data":"AP8=","tags":{},"idempotency_key":"","delta":true}"#);
        let read = read.unwrap();
        assert_eq!(read.payload, Payload::Binary(Bytes::from_static(&[0, 255])));
        assert_eq!((read.tags, read.key), (None, None));
        let read = content(r#"{"data":1,"tags":{"k":"v\n"},"skip_history":true}"#).unwrap();
        assert_eq!(read.tags.as_deref(), Some(br#"{"k":"v\n"}"#.as_slice()));
        assert!(read.skip_history);
    }

    #[test]
    fn what_cannot_be_published_is_refused_with_a_cause() {
        assert!(matches!(content("{}"), Err(Failure::Invalid(_))));
        assert!(matches!(content(r#"{"data":null}"#), Err(Failure::Invalid(_))));
        assert!(matches!(content(r#"{"b64data":"%"}"#), Err(Failure::Invalid(_))));
        assert!(matches!(content(r#"{"data":1,"b64data":"AA=="}"#), Err(Failure::Invalid(_))));
        assert!(matches!(content(r#"{"data":1,"version":2}"#), Err(Failure::NotAvailable(_))));
        let long = format!("{{\"data\":\"{}\"}}", "x".repeat(63));
        assert_eq!(content(&long), Err(Failure::DataTooLarge(64)));
        let long = format!("{{\"data\":1,\"idempotency_key\":\"{}\"}}", "x".repeat(256));
        assert!(matches!(content(&long), Err(Failure::Invalid(_))));
    }

    #[test]
    fn a_disconnect_names_one_client_and_a_code_that_may_be_sent() {
        let (client, code, reason) = order(r#"{"client":"c1"}"#).unwrap();
        assert_eq!(client, "c1");
        assert_eq!((code, reason.as_str()), (3503, "force disconnect"));
        let named = r#"{"client":"c","disconnect":{"code":4000,"reason":"bye"}}"#;
        assert_eq!(order(named), Ok(("c".into(), 4000, "bye".into())));
        for bad in [1000, 2999, 5000] {
            let json = format!("{{\"client\":\"c\",\"disconnect\":{{\"code\":{bad}}}}}");
            assert!(matches!(order(&json), Err(Failure::Invalid(_))), "{bad}");
        }
        assert!(matches!(order("{}"), Err(Failure::Invalid(_))));
        assert!(matches!(order(r#"{"user":"u"}"#), Err(Failure::NotAvailable(_))));
        assert!(matches!(order(r#"{"client":"c","session":"s"}"#), Err(Failure::NotAvailable(_))));
    }

    #[test]
    fn a_history_limit_is_bounded_and_none_asks_for_the_position() {
        let query = |json: &str| serde_json::from_str::<History>(json).unwrap().query(100);
        assert_eq!(query("{}").limit, 0);
        assert_eq!(query(r#"{"limit":-1}"#).limit, 100);
        assert_eq!(query(r#"{"limit":7}"#).limit, 7);
        assert_eq!(query(r#"{"limit":1000}"#).limit, 100);
        let query = query(r#"{"since":{"offset":3,"epoch":"e"},"reverse":true}"#);
        assert_eq!(query.since, Some(Position { offset: 3, epoch: Epoch::new("e") }));
        assert_eq!(query.order, Order::Reverse);
    }
}
