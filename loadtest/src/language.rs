//! What clients say and hear inside messages: raw payloads, or Centrifugo v2 JSON.

use serde::Deserialize;

use crate::options::Protocol;

/// The language of one connection and what it remembers.
#[derive(Debug)]
pub(crate) enum Language {
    /// A message is a payload.
    Raw,
    /// Commands and replies in JSON, one per line.
    Centrifuge {
        /// The topic that is subscribed and published to.
        channel: String,
        /// Topics that are subscribed to as well.
        also: Vec<String>,
        /// Id of the last command.
        last_id: u32,
        /// Id of the last command of the opening exchange.
        last_subscribe: u32,
        /// The server wants its pings answered.
        pong: bool,
    },
}

/// What a message means to the run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// The opening exchange is over: deliveries follow.
    Joined,
    /// A delivery.
    Payload(&'a [u8]),
    /// This must be sent back.
    Reply(&'static [u8]),
    /// The server would not do what a command asked.
    Refused,
    /// Not what a server may say.
    Nonsense,
}

/// Ids of the two commands that open a connection.
const CONNECT_ID: u32 = 1;
const SUBSCRIBE_ID: u32 = 2;

impl Language {
    /// For a connection to `topic`, and with [`Protocol::Centrifuge`] to other topics `also`.
    pub(crate) fn new(protocol: Protocol, topic: String, also: Vec<String>) -> Self {
        match protocol {
            Protocol::Raw => Self::Raw,
            Protocol::Centrifuge => {
                let others = u32::try_from(also.len()).unwrap_or(u32::MAX);
                let last_id = SUBSCRIBE_ID + others;
                Self::Centrifuge {
                    channel: topic,
                    also,
                    last_id,
                    last_subscribe: last_id,
                    pong: false,
                }
            }
        }
    }

    /// The message that opens the exchange; `None`: the upgrade was all.
    pub(crate) fn opening(&self) -> Option<Vec<u8>> {
        let Self::Centrifuge { channel, also, .. } = self else { return None };
        let mut text = format!(r#"{{"id":{CONNECT_ID},"connect":{{"name":"ringway-loadtest"}}}}"#);
        for (id, channel) in (SUBSCRIBE_ID..).zip(std::iter::once(channel).chain(also)) {
            text += &format!("\n{{\"id\":{id},\"subscribe\":{{\"channel\":\"{channel}\"}}}}");
        }
        Some(text.into_bytes())
    }

    /// Appends the message that publishes `payload`, which holds nothing that JSON must escape.
    pub(crate) fn publish(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let Self::Centrifuge { channel, last_id, last_subscribe, .. } = self else {
            out.extend_from_slice(payload);
            return;
        };
        *last_id = last_id.checked_add(1).unwrap_or(*last_subscribe + 1);
        let head = format!(r#"{{"id":{last_id},"publish":{{"channel":"{channel}","data":""#);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(br#""}}"#);
    }

    /// Calls `heard` for everything in one message.
    pub(crate) fn listen<'a>(&mut self, message: &'a [u8], mut heard: impl FnMut(Heard<'a>)) {
        let Self::Centrifuge { pong, last_subscribe, .. } = self else {
            return heard(Heard::Payload(message));
        };
        for line in message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if line == b"{}" {
                if *pong {
                    heard(Heard::Reply(b"{}"));
                }
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(reply) => interpret(reply, *last_subscribe, pong, &mut heard),
                Err(_) => heard(Heard::Nonsense),
            }
        }
    }
}

fn interpret<'a>(
    reply: Reply<'a>,
    last_subscribe: u32,
    pong: &mut bool,
    heard: &mut impl FnMut(Heard<'a>),
) {
    if let Some(connect) = reply.connect {
        *pong = connect.pong;
    }
    if reply.error.is_some() {
        return heard(Heard::Refused);
    }
    if reply.id == last_subscribe {
        heard(Heard::Joined);
    }
    match reply.push {
        Some(Push { publication: Some(publication), .. }) => {
            heard(Heard::Payload(publication.data.as_bytes()));
        }
        Some(Push { unsubscribe: Some(_), .. }) => heard(Heard::Refused),
        _ => {}
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u32,
    error: Option<serde::de::IgnoredAny>,
    connect: Option<Connect>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Deserialize)]
struct Connect {
    #[serde(default)]
    pong: bool,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
    unsubscribe: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    data: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn centrifuge() -> Language {
        Language::new(Protocol::Centrifuge, "t".to_owned(), Vec::new())
    }

    fn hear(language: &mut Language, message: &'static str) -> Vec<Heard<'static>> {
        let mut all = Vec::new();
        language.listen(message.as_bytes(), |heard| all.push(heard));
        all
    }

    #[test]
    fn a_raw_message_is_a_payload() {
        let mut raw = Language::new(Protocol::Raw, "t".to_owned(), Vec::new());
        assert_eq!(raw.opening(), None);
        assert_eq!(hear(&mut raw, "{}\n"), [Heard::Payload(b"{}\n")]);
        let mut out = Vec::new();
        raw.publish(b"abc", &mut out);
        assert_eq!(out, b"abc");
    }

    #[test]
    fn commands_are_numbered() {
        let mut language = centrifuge();
        assert_eq!(
            language.opening().unwrap(),
            b"{\"id\":1,\"connect\":{\"name\":\"ringway-loadtest\"}}\n\
              {\"id\":2,\"subscribe\":{\"channel\":\"t\"}}"
        );
        let mut out = Vec::new();
        language.publish(b"abc", &mut out);
        assert_eq!(out, br#"{"id":3,"publish":{"channel":"t","data":"abc"}}"#);
    }

    #[test]
    fn joining_ends_with_the_answer_to_subscribe() {
        let mut language = centrifuge();
        let connected = r#"{"id":1,"connect":{"client":"u","ping":25,"pong":true}}"#;
        assert_eq!(hear(&mut language, connected), []);
        let both = "{\"id\":2,\"subscribe\":{}}\n{\"push\":{\"channel\":\"t\",\"pub\":{\"data\":\"x\",\"offset\":4}}}";
        assert_eq!(hear(&mut language, both), [Heard::Joined, Heard::Payload(b"x")]);
        assert_eq!(hear(&mut language, "{}"), [Heard::Reply(b"{}")]);
    }

    #[test]
    fn several_topics_are_joined_before_a_connection_is_up() {
        let mut language =
            Language::new(Protocol::Centrifuge, "t".to_owned(), vec!["u".to_owned()]);
        let opening = String::from_utf8(language.opening().unwrap()).unwrap();
        assert!(opening.ends_with("\n{\"id\":3,\"subscribe\":{\"channel\":\"u\"}}"), "{opening}");
        assert_eq!(hear(&mut language, r#"{"id":2,"subscribe":{}}"#), []);
        assert_eq!(hear(&mut language, r#"{"id":3,"subscribe":{}}"#), [Heard::Joined]);
        let mut out = Vec::new();
        language.publish(b"abc", &mut out);
        assert_eq!(out, br#"{"id":4,"publish":{"channel":"t","data":"abc"}}"#);
    }

    #[test]
    fn a_ping_is_left_alone_unless_a_pong_is_wanted() {
        let mut language = centrifuge();
        hear(&mut language, r#"{"id":1,"connect":{"ping":25}}"#);
        assert_eq!(hear(&mut language, "{}"), []);
    }

    #[test]
    fn errors_and_nonsense_are_told_apart() {
        let mut language = centrifuge();
        let error = r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(hear(&mut language, error), [Heard::Refused]);
        let left = r#"{"push":{"channel":"t","unsubscribe":{"code":2500}}}"#;
        assert_eq!(hear(&mut language, left), [Heard::Refused]);
        assert_eq!(hear(&mut language, "{\"push\":"), [Heard::Nonsense]);
        assert_eq!(hear(&mut language, r#"{"id":3,"publish":{}}"#), []);
    }
}
