//! What a client asks for: one line of JSON.

use simd_json::prelude::*;
use simd_json::tape::{Object, Value};

use super::scan;
use crate::dialect::payload;
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
    let (mut offset, mut epoch, mut flag, mut kind) = (None, None, None, None);
    for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
        match key {
            "channel" => set(&mut channel, self::channel(value)?)?,
            "token" => set(&mut credentials, token(value)?)?,
            "recover" => set(&mut recover, boolean(value)?)?,
            "offset" => set(&mut offset, unsigned::<u64>(value)?)?,
            "epoch" => set(&mut epoch, text(value)?)?,
            "flag" => set(&mut flag, unsigned::<u64>(value)?)?,
            "type" => set(&mut kind, self::kind(value)?)?,
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
        data: data.map(|span| payload::from_valid_json(&line[span])),
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
