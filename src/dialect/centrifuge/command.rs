//! What a client asks for: one line of JSON.

use simd_json::prelude::*;
use simd_json::tape::{Object, Value};

use super::scan;
use crate::dialect::scratch::{NotJson, Scratch};
use crate::topic::name::{NameError, TopicName};
use crate::topic::publication::{Epoch, Payload, Position};

/// The line breaks the protocol: it is not JSON, not a command, names something twice or has a
/// value of a wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl From<NotJson> for Malformed {
    fn from(_: NotJson) -> Self {
        Self
    }
}

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `{}`: the answer to a ping.
    Pong,
    /// A message for the server that wants no reply.
    Send,
    /// A command that wants a reply.
    Command {
        /// Carried back by the reply; never 0.
        id: u32,
        /// What is wanted.
        method: Method,
    },
}

/// What a command wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// To be let in.
    Connect(Token),
    /// To hear a channel.
    Subscribe(Subscribe),
    /// No longer to hear a channel.
    Unsubscribe(Channel),
    /// To publish.
    Publish(Publish),
    /// To read the history of a channel.
    History(History),
    /// Something that Centrifugo knows and this gateway does not offer.
    Unavailable,
}

/// A channel, not empty, and whether it can be a topic.
pub type Channel = Result<TopicName, NameError>;

/// Whether a token came along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// None, or an empty one.
    #[default]
    Absent,
    /// Some token.
    Present,
}

/// The kind of a subscription or publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A stream of publications.
    #[default]
    Stream,
    /// A map, a shared poll or something newer.
    Other,
}

/// Which publications of a channel are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    #[default]
    Absent,
    /// Those whose tags pass a filter.
    Present,
}

/// What becomes of a subscription whose position cannot be recovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unrecovered {
    /// It starts at the newest publication.
    #[default]
    Accept,
    /// It is refused.
    Reject,
}

/// The parameters of `subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Which channel.
    pub channel: Channel,
    /// Whether a subscription token came along.
    pub token: Token,
    /// Whether a filter of tags came along.
    pub filter: Filter,
    /// Deliver what came after this position first. An empty epoch stands for the topic's own.
    pub since: Option<Position>,
    /// What to do when that fails.
    pub unrecovered: Unrecovered,
    /// What is subscribed to.
    pub kind: Kind,
}

/// The parameters of `publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Which channel.
    pub channel: Channel,
    /// The value of `data`, byte for byte.
    pub data: Option<Payload>,
    /// What is published to.
    pub kind: Kind,
}

/// The parameters of `history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Which channel.
    pub channel: Channel,
    /// Most publications; negative: as many as there may be.
    pub limit: i32,
    /// Only those after (in reverse: before) this position.
    pub since: Option<Position>,
    /// Newest first.
    pub reverse: bool,
}

/// Reads one line.
///
/// Errors: [`Malformed`].
pub fn parse(line: &[u8], scratch: &mut Scratch) -> Result<Line, Malformed> {
    scratch.parse(line, |value| envelope(&value.as_object().ok_or(Malformed)?, line))?
}

fn envelope(members: &Object<'_, '_>, line: &[u8]) -> Result<Line, Malformed> {
    let mut id = None;
    let mut method = None;
    for (index, (name, value)) in members.iter().enumerate() {
        match name {
            "id" => set(&mut id, unsigned(value)?)?,
            "connect" | "subscribe" | "unsubscribe" | "publish" | "history" | "presence"
            | "presence_stats" | "rpc" | "refresh" | "sub_refresh" | "send" => {
                set(&mut method, (index, name, value.as_object().ok_or(Malformed)?))?;
            }
            // Newer clients may say more, but they must say something known.
            _ => {}
        }
    }
    let id = id.unwrap_or(0);
    let Some((index, name, parameters)) = method else {
        return if id == 0 && members.len() == usize::from(members.get("id").is_some()) {
            Ok(Line::Pong)
        } else {
            Err(Malformed)
        };
    };
    if name == "send" {
        return Ok(Line::Send);
    }
    if id == 0 {
        return Err(Malformed);
    }
    let method = match name {
        "connect" => connect(&parameters)?,
        "subscribe" => subscribe(&parameters)?,
        "unsubscribe" => unsubscribe(&parameters)?,
        "publish" => publish(&parameters, line, index)?,
        "history" => history(&parameters)?,
        _ => Method::Unavailable,
    };
    Ok(Line::Command { id, method })
}

fn connect(parameters: &Object<'_, '_>) -> Result<Method, Malformed> {
    let (mut credentials, mut name, mut version) = (None, None, None);
    for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
        match key {
            "token" => set(&mut credentials, token(value)?)?,
            "name" => set(&mut name, text(value)?)?,
            "version" => set(&mut version, text(value)?)?,
            "headers" | "subs" => _ = value.as_object().ok_or(Malformed)?,
            "flag" => _ = unsigned::<u64>(value)?,
            _ => {}
        }
    }
    Ok(Method::Connect(credentials.unwrap_or_default()))
}

fn subscribe(parameters: &Object<'_, '_>) -> Result<Method, Malformed> {
    const REJECT_UNRECOVERED: u64 = 2;
    let (mut channel, mut credentials, mut recover) = (None, None, None);
    let (mut offset, mut epoch, mut flag) = (None, None, None);
    let (mut kind, mut filter) = (None, None);
    for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
        match key {
            "channel" => set(&mut channel, self::channel(value)?)?,
            "token" => set(&mut credentials, token(value)?)?,
            "recover" => set(&mut recover, boolean(value)?)?,
            "offset" => set(&mut offset, unsigned::<u64>(value)?)?,
            "epoch" => set(&mut epoch, text(value)?)?,
            "flag" => set(&mut flag, unsigned::<u64>(value)?)?,
            "type" => set(&mut kind, self::kind(value)?)?,
            "tf" => {
                value.as_object().ok_or(Malformed)?;
                set(&mut filter, Filter::Present)?;
            }
            "positioned" | "recoverable" | "join_leave" => _ = boolean(value)?,
            "delta" => _ = text(value)?,
            _ => {}
        }
    }
    let since = recover.unwrap_or(false).then(|| position(offset, epoch));
    let rejects = flag.unwrap_or(0) & REJECT_UNRECOVERED != 0;
    Ok(Method::Subscribe(Subscribe {
        channel: channel.ok_or(Malformed)?,
        token: credentials.unwrap_or_default(),
        filter: filter.unwrap_or_default(),
        since,
        unrecovered: if rejects { Unrecovered::Reject } else { Unrecovered::Accept },
        kind: kind.unwrap_or_default(),
    }))
}

fn unsubscribe(parameters: &Object<'_, '_>) -> Result<Method, Malformed> {
    let mut channel = None;
    for (key, value) in parameters.iter() {
        if key == "channel" {
            set(&mut channel, self::channel(value)?)?;
        }
    }
    Ok(Method::Unsubscribe(channel.ok_or(Malformed)?))
}

fn publish(parameters: &Object<'_, '_>, line: &[u8], outer: usize) -> Result<Method, Malformed> {
    let (mut channel, mut data, mut kind) = (None, None, None);
    for (index, (key, value)) in parameters.iter().enumerate() {
        match key {
            "channel" => set(&mut channel, self::channel(value)?)?,
            "data" => set(&mut data, index)?,
            "type" if !value.is_null() => set(&mut kind, self::kind(value)?)?,
            _ => {}
        }
    }
    let data = data.map(|inner| scan::nested(line, [outer, inner]).ok_or(Malformed)).transpose()?;
    Ok(Method::Publish(Publish {
        channel: channel.ok_or(Malformed)?,
        data: data.map(|span| Payload::from_valid_json(&line[span])),
        kind: kind.unwrap_or_default(),
    }))
}

fn history(parameters: &Object<'_, '_>) -> Result<Method, Malformed> {
    let (mut channel, mut limit, mut since, mut reverse) = (None, None, None, None);
    for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
        match key {
            "channel" => set(&mut channel, self::channel(value)?)?,
            "limit" => {
                let number = value.as_i64().ok_or(Malformed)?;
                set(&mut limit, i32::try_from(number).map_err(|_| Malformed)?)?;
            }
            "since" => set(&mut since, stream_position(&value.as_object().ok_or(Malformed)?)?)?,
            "reverse" => set(&mut reverse, boolean(value)?)?,
            _ => {}
        }
    }
    Ok(Method::History(History {
        channel: channel.ok_or(Malformed)?,
        limit: limit.unwrap_or(0),
        since,
        reverse: reverse.unwrap_or(false),
    }))
}

fn stream_position(parameters: &Object<'_, '_>) -> Result<Position, Malformed> {
    let (mut offset, mut epoch) = (None, None);
    for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
        match key {
            "offset" => set(&mut offset, unsigned::<u64>(value)?)?,
            "epoch" => set(&mut epoch, text(value)?)?,
            _ => {}
        }
    }
    Ok(position(offset, epoch))
}

fn position(offset: Option<u64>, epoch: Option<&str>) -> Position {
    Position { offset: offset.unwrap_or(0), epoch: Epoch::new(epoch.unwrap_or_default()) }
}

/// Fills `slot`, which a member named twice would do twice.
fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if slot.is_some() {
        return Err(Malformed);
    }
    *slot = Some(value);
    Ok(())
}

fn text<'input>(value: Value<'_, 'input>) -> Result<&'input str, Malformed> {
    value.into_string().ok_or(Malformed)
}

fn token(value: Value<'_, '_>) -> Result<Token, Malformed> {
    Ok(if text(value)?.is_empty() { Token::Absent } else { Token::Present })
}

fn channel(value: Value<'_, '_>) -> Result<Channel, Malformed> {
    match TopicName::new(text(value)?) {
        Err(NameError::Empty) => Err(Malformed),
        channel => Ok(channel),
    }
}

fn boolean(value: Value<'_, '_>) -> Result<bool, Malformed> {
    value.as_bool().ok_or(Malformed)
}

fn unsigned<T: TryFrom<u64>>(value: Value<'_, '_>) -> Result<T, Malformed> {
    value.as_u64().and_then(|number| T::try_from(number).ok()).ok_or(Malformed)
}

fn kind(value: Value<'_, '_>) -> Result<Kind, Malformed> {
    Ok(if unsigned::<u32>(value)? == 0 { Kind::Stream } else { Kind::Other })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Line, Malformed> {
        parse(line.as_bytes(), &mut Scratch::default())
    }

    fn topic(name: &str) -> Channel {
        Ok(TopicName::new(name).unwrap())
    }

    #[test]
    fn parameters_are_read() {
        let subscribe = concat!(
            r#"{"id":4294967295,"subscribe":{"channel":"c","token":"t","data":{"channel":"x"},"#,
            r#""positioned":true,"recoverable":true,"join_leave":false,"recover":true,"#,
            r#""offset":18446744073709551615,"epoch":"e","flag":3,"type":1,"delta":"fossil","#,
            r#""tf":{"key":"k"},"something":"new"}}"#
        );
        let method = Method::Subscribe(Subscribe {
            channel: topic("c"),
            token: Token::Present,
            filter: Filter::Present,
            since: Some(Position { offset: u64::MAX, epoch: Epoch::new("e") }),
            unrecovered: Unrecovered::Reject,
            kind: Kind::Other,
        });
        assert_eq!(read(subscribe), Ok(Line::Command { id: u32::MAX, method }));
    }

    #[test]
    fn null_stands_for_nothing() {
        let history = concat!(
            r#"{"id":1,"history":{"channel":"c","limit":null,"since":{"offset":null,"epoch":null},"#,
            r#""reverse":null}}"#
        );
        let method = Method::History(History {
            channel: topic("c"),
            limit: 0,
            since: Some(Position { offset: 0, epoch: Epoch::new("") }),
            reverse: false,
        });
        assert_eq!(read(history), Ok(Line::Command { id: 1, method }));
        let connect = r#"{"id":1,"connect":{"token":null,"data":null,"subs":null,"headers":null}}"#;
        let method = Method::Connect(Token::Absent);
        assert_eq!(read(connect), Ok(Line::Command { id: 1, method }));
    }

    #[test]
    fn escaped_names_mean_the_same() {
        let line = r#"{"id":1,"p\u0075blish":{"ch\u0061nnel":"\u0063","d\u0061ta":"\u0064"}}"#;
        let method = Method::Publish(Publish {
            channel: topic("c"),
            data: Some(Payload::Json(br#""\u0064""#.as_slice().into())),
            kind: Kind::Stream,
        });
        assert_eq!(read(line), Ok(Line::Command { id: 1, method }));
    }

    #[test]
    fn a_carriage_return_in_data_becomes_a_space() {
        let line = "{\"id\":1,\"publish\":{\"channel\":\"c\",\"data\":[\r1]}}\r";
        let Ok(Line::Command { method: Method::Publish(publish), .. }) = read(line) else {
            panic!()
        };
        assert_eq!(publish.data, Some(Payload::Json(b"[ 1]".as_slice().into())));
    }

    #[test]
    fn pongs_and_sends_need_no_id() {
        for pong in ["{}", " { } ", r#"{"id":0}"#] {
            assert_eq!(read(pong), Ok(Line::Pong), "{pong}");
        }
        assert_eq!(read(r#"{"send":{}}"#), Ok(Line::Send));
        assert_eq!(read(r#"{"id":3,"send":{"data":1}}"#), Ok(Line::Send));
    }

    #[test]
    fn names_must_not_come_twice() {
        let lines = [
            r#"{"id":1,"id":1,"rpc":{}}"#,
            r#"{"id":1,"rpc":{},"rpc":{}}"#,
            r#"{"id":1,"publish":{"channel":"c","data":1},"subscribe":{"channel":"c"}}"#,
            r#"{"id":1,"publish":{"channel":"c","channel":"c","data":1}}"#,
            r#"{"id":1,"publish":{"channel":"c","data":1,"data":1}}"#,
            r#"{"id":1,"publish":{"channel":"c","data":1,"d\u0061ta":1}}"#,
            r#"{"id":1,"connect":{"token":"","token":""}}"#,
            r#"{"id":1,"subscribe":{"channel":"c","offset":1,"offset":1}}"#,
            r#"{"id":1,"history":{"channel":"c","since":{"epoch":"e","epoch":"e"}}}"#,
        ];
        for line in lines {
            assert_eq!(read(line), Err(Malformed), "{line}");
        }
    }

    #[test]
    fn every_value_must_be_of_its_type() {
        let values =
            ["7", "-7", "7.5", "4294967296", "99999999999999999999", "\"7\"", "[]", "{}", "true"];
        // Where a value of each type may stand; `#` is its place, and the digits number the values
        // of the list above that are right there.
        let places = [
            (r#"{"id":#,"rpc":{}}"#, "0"),
            (r#"{"id":1,"connect":#}"#, "7"),
            (r#"{"id":1,"rpc":#}"#, "7"),
            (r#"{"send":#}"#, "7"),
            (r#"{"id":1,"connect":{"token":#}}"#, "5"),
            (r#"{"id":1,"connect":{"name":#}}"#, "5"),
            (r#"{"id":1,"connect":{"version":#}}"#, "5"),
            (r#"{"id":1,"connect":{"subs":#}}"#, "7"),
            (r#"{"id":1,"connect":{"headers":#}}"#, "7"),
            (r#"{"id":1,"connect":{"flag":#}}"#, "03"),
            (r#"{"id":1,"connect":{"data":#}}"#, "012345678"),
            (r#"{"id":1,"subscribe":{"channel":#}}"#, "5"),
            (r#"{"id":1,"subscribe":{"channel":"c","token":#}}"#, "5"),
            (r#"{"id":1,"subscribe":{"channel":"c","recover":#}}"#, "8"),
            (r#"{"id":1,"subscribe":{"channel":"c","offset":#}}"#, "03"),
            (r#"{"id":1,"subscribe":{"channel":"c","epoch":#}}"#, "5"),
            (r#"{"id":1,"subscribe":{"channel":"c","flag":#}}"#, "03"),
            (r#"{"id":1,"subscribe":{"channel":"c","type":#}}"#, "0"),
            (r#"{"id":1,"subscribe":{"channel":"c","positioned":#}}"#, "8"),
            (r#"{"id":1,"subscribe":{"channel":"c","recoverable":#}}"#, "8"),
            (r#"{"id":1,"subscribe":{"channel":"c","join_leave":#}}"#, "8"),
            (r#"{"id":1,"subscribe":{"channel":"c","delta":#}}"#, "5"),
            (r#"{"id":1,"subscribe":{"channel":"c","tf":#}}"#, "7"),
            (r#"{"id":1,"unsubscribe":{"channel":#}}"#, "5"),
            (r#"{"id":1,"publish":{"channel":#}}"#, "5"),
            (r#"{"id":1,"publish":{"channel":"c","type":#}}"#, "0"),
            (r#"{"id":1,"publish":{"channel":"c","data":#}}"#, "012345678"),
            (r#"{"id":1,"history":{"channel":#}}"#, "5"),
            (r#"{"id":1,"history":{"channel":"c","limit":#}}"#, "01"),
            (r#"{"id":1,"history":{"channel":"c","reverse":#}}"#, "8"),
            (r#"{"id":1,"history":{"channel":"c","since":#}}"#, "7"),
            (r#"{"id":1,"history":{"channel":"c","since":{"offset":#}}}"#, "03"),
            (r#"{"id":1,"history":{"channel":"c","since":{"epoch":#}}}"#, "5"),
        ];
        for (place, right) in places {
            for (number, value) in values.iter().enumerate() {
                let line = place.replace('#', value);
                assert_eq!(read(&line).is_ok(), right.contains(&number.to_string()), "{line}");
            }
        }
    }

    #[test]
    fn large_and_deep_lines_are_answered_not_trusted() {
        let deep = |depth: usize| {
            let data = ["[".repeat(depth), "]".repeat(depth)].concat();
            format!(r#"{{"id":1,"publish":{{"channel":"c","data":{data}}}}}"#)
        };
        assert!(read(&deep(30)).is_ok());
        assert_eq!(read(&deep(31)), Err(Malformed));
        let members: String = (0..5000).map(|i| format!("\"k{i}\":0,")).collect();
        assert!(read(&format!(r#"{{{members}"id":1,"rpc":{{}}}}"#)).is_ok());
        assert_eq!(
            read(r#"{"id":1,"history":{"channel":"c","limit":2147483648}}"#),
            Err(Malformed)
        );
    }

    fn commands() -> impl Strategy<Value = Vec<u8>> {
        let seeds = prop::sample::select(vec![
            r#"{"id":1,"connect":{"token":"","name":"js","subs":{}}}"#,
            r#"{"id":2,"subscribe":{"channel":"c","recover":true,"offset":5,"epoch":"é"}}"#,
            r#"{"id":3,"publish":{"channel":"c","data":{"a":[1.5e3,"\n\ud83d\ude00",null]}}}"#,
            r#"{"id":4,"history":{"channel":"c","limit":-1,"since":{"offset":0},"reverse":false}}"#,
        ]);
        let alphabet = prop::sample::select(b"\"\\{}[],:0e.-u \r\n\x01\xFF".to_vec());
        let change = (any::<prop::sample::Index>(), alphabet, any::<bool>());
        (seeds, prop::collection::vec(change, 0..4)).prop_map(|(seed, changes)| {
            let mut line = seed.as_bytes().to_vec();
            for (index, byte, insert) in changes {
                let at = index.index(line.len());
                if insert {
                    line.insert(at, byte);
                } else {
                    line[at] = byte;
                }
            }
            line
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_refuses_is_refused(line in commands()) {
            let mut scratch = Scratch::default();
            let ours = parse(&line, &mut scratch);
            let json = serde_json::from_slice::<serde_json::Value>(&line);
            prop_assert!(json.is_ok() || ours.is_err());
            // A command leaves nothing in the scratch that changes the reading of the next.
            prop_assert_eq!(parse(&line, &mut scratch), ours.clone());
            if let Ok(Line::Command { method: Method::Publish(publish), .. }) = ours {
                let theirs = json.unwrap()["publish"].get("data").cloned();
                let data = publish.data.map(|data| serde_json::from_slice(data.bytes()).unwrap());
                prop_assert_eq!(data, theirs);
            }
        }
    }
}
