//! Publications, as pushes and inside replies.

use crate::dialect::json::{self, Object, Sink};
use crate::dialect::scratch::Scratch;
use crate::topic::name::TopicName;
use crate::topic::publication::{Payload, Publication};

/// How a payload stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Data<'a> {
    /// As it is, on one line.
    Json(&'a [u8]),
    /// As a string.
    Text(&'a [u8]),
    /// As a string of Base64.
    Base64(&'a [u8]),
}

impl<'a> Data<'a> {
    /// Text that happens to be JSON stands as JSON: raw clients cannot say what they send.
    pub(in crate::dialect) fn of(payload: &'a Payload, scratch: &mut Scratch) -> Self {
        match payload {
            Payload::Json(json) => Self::Json(json),
            Payload::Text(text) if scratch.parse(text, |_| ()).is_ok() => Self::Json(text),
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Base64(bytes),
        }
    }
}

/// Writes the push that delivers `publication`, whose payload is `data`.
pub(in crate::dialect) fn write(out: &mut impl Sink, publication: &Publication, data: Data<'_>) {
    let mut reply = Object::open(out);
    let mut push = Object::open(reply.member("push"));
    push.nonempty("channel", publication.topic.as_str());
    write_publication(push.member("pub"), publication, data);
    push.close();
    reply.close();
}

/// Writes the push that ends the subscription to `topic`; after codes from 2500 on clients subscribe
/// again.
pub(super) fn write_unsubscribe(out: &mut impl Sink, topic: &TopicName, code: u16, reason: &str) {
    let mut reply = Object::open(out);
    let mut push = Object::open(reply.member("push"));
    push.nonempty("channel", topic.as_str());
    let mut unsubscribe = Object::open(push.member("unsubscribe"));
    unsubscribe.nonzero("code", code.into());
    unsubscribe.nonempty("reason", reason);
    unsubscribe.close();
    push.close();
    reply.close();
}

/// Writes `publication`, whose payload is `data`, without its channel.
pub(super) fn write_publication(out: &mut impl Sink, publication: &Publication, data: Data<'_>) {
    let mut object = Object::open(out);
    let member = object.member("data");
    match data {
        Data::Json(line) => json::one_line(member, line),
        Data::Text(text) => json::string(member, text),
        Data::Base64(bytes) => {
            member.put(b"\"");
            member.put_base64(bytes);
            member.put(b"\"");
        }
    }
    object.nonzero("offset", publication.offset.unwrap_or(0));
    if let Some(publisher) = &publication.publisher {
        let mut info = Object::open(object.member("info"));
        info.nonempty("user", &publisher.user);
        info.nonempty("client", &publisher.client);
        info.close();
    }
    if let Some(tags) = &publication.tags {
        json::one_line(object.member("tags"), tags);
    }
    object.close();
}
