//! A publication as it is written into engines.
//!
//! ```text
//! kind       1 byte: j (JSON), t (text), b (binary)
//! parts      1 byte: bit 0 publisher, bit 1 tags
//! publisher  client and user, each: length (2 bytes, big endian), UTF-8
//! tags       length (4 bytes, big endian), a JSON object of strings
//! payload    the rest
//! ```
//!
//! On a channel a header stands in front: `r1:OFFSET:EPOCH:`, on topics without positions `r1:0::`.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::topic::home::Draft;
use crate::topic::name::TopicName;
use crate::topic::publication::{Epoch, Payload, Publication, Publisher};

const PUBLISHER: u8 = 1;
const TAGS: u8 = 2;

/// What every message on a channel begins with.
pub const HEADER: &str = "r1:";

/// The header of a message without a position.
pub const UNNUMBERED: &str = "r1:0::";

/// Writes what `draft` says, behind `header`.
pub fn encode(header: &str, draft: &Draft) -> Vec<u8> {
    let (kind, payload) = match &draft.payload {
        Payload::Json(bytes) => (b'j', bytes),
        Payload::Text(bytes) => (b't', bytes),
        Payload::Binary(bytes) => (b'b', bytes),
    };
    let tags = draft.tags.as_deref();
    let publisher = draft.publisher.as_deref();
    let parts = publisher.map_or(0, |_| PUBLISHER) | tags.map_or(0, |_| TAGS);
    let mut out = Vec::with_capacity(header.len() + payload.len() + 64);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&[kind, parts]);
    if let Some(publisher) = publisher {
        for text in [&publisher.client, &publisher.user] {
            // Ids are cut nowhere else, and none is this long.
            let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
        }
    }
    if let Some(tags) = tags {
        let len = u32::try_from(tags.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(tags);
    }
    out.extend_from_slice(payload);
    out
}

/// Reads the publication at `offset` of `topic`; `None`: nobody like us has written this.
pub fn decode(topic: &TopicName, offset: Option<u64>, mut body: Bytes) -> Option<Publication> {
    if body.len() < 2 {
        return None;
    }
    let (kind, parts) = (body.get_u8(), body.get_u8());
    if parts & !(PUBLISHER | TAGS) != 0 {
        return None;
    }
    let mut publisher = None;
    if parts & PUBLISHER != 0 {
        let client = take_text(&mut body)?;
        let user = take_text(&mut body)?;
        publisher = Some(Arc::new(Publisher { client, user }));
    }
    let mut tags = None;
    if parts & TAGS != 0 {
        let len = usize::try_from(body.try_get_u32().ok()?).ok()?;
        tags = Some(take(&mut body, len)?).filter(|tags| is_json(tags));
    }
    let payload = match kind {
        b'j' if is_json(&body) => Payload::Json(body),
        b't' if std::str::from_utf8(&body).is_ok() => Payload::Text(body),
        b'b' => Payload::Binary(body),
        _ => return None,
    };
    Some(Publication { topic: topic.clone(), offset, payload, publisher, tags })
}

/// Reads a message of the channel of `topic`: the life that its offset belongs to, if it has one, and
/// the publication. `None`: nobody like us has written this.
pub fn decode_message(topic: &TopicName, message: &Bytes) -> Option<(Option<Epoch>, Publication)> {
    let rest = message.strip_prefix(HEADER.as_bytes())?;
    let first = memchr::memchr(b':', rest)?;
    let second = first + 1 + memchr::memchr(b':', &rest[first + 1..])?;
    let offset: u64 = std::str::from_utf8(&rest[..first]).ok()?.parse().ok()?;
    let epoch = std::str::from_utf8(&rest[first + 1..second]).ok()?;
    let epoch = (!epoch.is_empty()).then(|| Epoch::new(epoch));
    let body = message.slice(HEADER.len() + second + 1..);
    let publication = decode(topic, epoch.as_ref().map(|_| offset), body)?;
    Some((epoch, publication))
}

/// Whether this is one JSON text without line breaks.
fn is_json(bytes: &[u8]) -> bool {
    // What is skipped inside of strings is not looked at by the parser.
    std::str::from_utf8(bytes).is_ok()
        && memchr::memchr2(b'\r', b'\n', bytes).is_none()
        && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

fn take(body: &mut Bytes, len: usize) -> Option<Bytes> {
    (body.len() >= len).then(|| body.split_to(len))
}

fn take_text(body: &mut Bytes) -> Option<Box<str>> {
    let len = usize::from(body.try_get_u16().ok()?);
    let text = take(body, len)?;
    std::str::from_utf8(&text).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic() -> TopicName {
        TopicName::new("t").unwrap()
    }

    fn draft(payload: Payload) -> Draft {
        Draft { topic: topic(), payload, publisher: None, tags: None, skip_history: false }
    }

    #[test]
    fn bodies_are_written_as_documented() {
        let plain = draft(Payload::Text(Bytes::from_static(b"hi")));
        assert_eq!(encode(UNNUMBERED, &plain), b"r1:0::t\x00hi");
        let publisher = Publisher { client: "c1".into(), user: "".into() };
        let all = Draft {
            publisher: Some(Arc::new(publisher)),
            tags: Some(Bytes::from_static(br#"{"a":"b"}"#)),
            ..draft(Payload::Json(Bytes::from_static(b"[1]")))
        };
        let expected = b"j\x03\x00\x02c1\x00\x00\x00\x00\x00\x09{\"a\":\"b\"}[1]";
        assert_eq!(encode("", &all), expected);
        let read = decode(&topic(), Some(7), Bytes::from_static(expected)).unwrap();
        assert_eq!((read.payload, read.publisher), (all.payload, all.publisher));
        assert_eq!((read.tags, read.offset), (all.tags, Some(7)));
    }

    #[test]
    fn messages_carry_their_place() {
        let read = |text: &'static [u8]| decode_message(&topic(), &Bytes::from_static(text));
        let (epoch, publication) = read(b"r1:12:ab.3:b\x00\xff:").unwrap();
        assert_eq!((epoch, publication.offset), (Some(Epoch::new("ab.3")), Some(12)));
        assert_eq!(publication.payload, Payload::Binary(Bytes::from_static(b"\xff:")));
        let (epoch, publication) = read(b"r1:0::t\x00x").unwrap();
        assert_eq!((epoch, publication.offset), (None, None));
    }

    #[test]
    fn what_is_not_ours_is_no_publication() {
        let bad: [&[u8]; 10] = [
            b"",
            b"r2:1:e:t\0x",
            b"r1:1:e",
            b"r1:x:e:t\0x",
            b"r1:1:e:t",
            b"r1:1:e:q\0x",
            b"r1:1:e:t\0\xff",
            b"r1:1:e:j\0{",
            b"r1:1:e:j\0\"\xff\"",
            b"r1:1:e:t\x01\x00\x05ab",
        ];
        for bad in bad {
            assert!(decode_message(&topic(), &Bytes::copy_from_slice(bad)).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_panics(message in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&topic(), None, Bytes::from(message.clone()));
            let mut framed = b"r1:3:e:".to_vec();
            framed.extend(message);
            let _ = decode_message(&topic(), &Bytes::from(framed));
        }
    }
}
