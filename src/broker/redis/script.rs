//! What runs inside Redis: one script for each publication, so that numbering, keeping and sending
//! are one step and one round trip.
//!
//! A topic's life is a hash: `e` its epoch, `s` its newest offset, `r` the run id of the server that
//! last wrote it, `n` how often the server was started again since, `b` the newest offset that it
//! remembered then. Every script looks at that first ([`PRELUDE`]): a server that keeps no log of what
//! it does (`appendonly no`) has forgotten something when it is started again, so a new life begins.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, FromRedisValue, ParsingError, Value};

use crate::broker::body;
use crate::broker::keys::Keys;
use crate::topic::history::{HistoryQuery, Order};
use crate::topic::name::TopicName;
use crate::topic::publication::{Epoch, Position, Publication};
use crate::topic::splice::Head;

/// How long the life of a topic is remembered after it was last asked for. Offsets of a topic that
/// is forgotten begin anew, in another epoch.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

const PRELUDE: &str = r"
local meta, stream = KEYS[1], KEYS[2]
local run, durable, fresh, life = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local is = redis.call('HMGET', meta, 'e', 's', 'r', 'n', 'b')
local epoch, top = is[1], tonumber(is[2] or '0')
local restarts, kept = tonumber(is[4] or '0'), tonumber(is[5] or '0')
local function begin()
  epoch, top, restarts, kept = fresh, 0, 0, 0
  redis.call('DEL', stream)
  redis.call('HSET', meta, 'e', epoch, 's', 0, 'r', run, 'n', 0, 'b', 0)
end
if not epoch then
  begin()
elseif is[3] ~= run then
  if durable == '0' then
    begin()
  else
    restarts, kept = restarts + 1, top
    redis.call('HSET', meta, 'r', run, 'n', restarts, 'b', kept)
  end
end
redis.call('PEXPIRE', meta, life)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";

/// ARGV: 5 channel, 6 body, 7 publications kept, 8 their age in milliseconds.
const PUBLISH: &str = r"
top = redis.call('HINCRBY', meta, 's', 1)
local offset = string.format('%.0f', top)
redis.call('XADD', stream, 'MAXLEN', ARGV[7], offset .. '-0', 't', string.format('%.0f', now), 'b', ARGV[6])
local oldest = nil
for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 16)) do
  oldest = entry[1]
  if now - tonumber(entry[2][2]) < tonumber(ARGV[8]) then break end
end
redis.call('XTRIM', stream, 'MINID', oldest)
redis.call('PEXPIRE', stream, ARGV[8])
redis.call('PUBLISH', ARGV[5], 'r1:' .. offset .. ':' .. epoch .. ':' .. ARGV[6])
return {epoch, offset}
";

/// ARGV: 5 the epoch that is to end, or nothing.
const HEAD: &str = r"
if epoch == ARGV[5] then begin() end
return {epoch, string.format('%.0f', top), string.format('%.0f', restarts), string.format('%.0f', kept)}
";

/// ARGV: 5 command, 6 and 7 where to begin and to end, 8 how many, 9 their age in milliseconds.
const READ: &str = r"
local entries = {}
if tonumber(ARGV[8]) > 0 then
  for _, entry in ipairs(redis.call(ARGV[5], stream, ARGV[6], ARGV[7], 'COUNT', ARGV[8])) do
    if now - tonumber(entry[2][2]) < tonumber(ARGV[9]) then
      entries[#entries + 1] = entry[1]
      entries[#entries + 1] = entry[2][4]
    end
  end
end
return {epoch, string.format('%.0f', top), entries}
";

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Publish,
    Head,
    Read,
}

impl Script {
    pub(super) const ALL: [Self; 3] = [Self::Publish, Self::Head, Self::Read];

    pub(super) fn text(self) -> String {
        let rest = match self {
            Self::Publish => PUBLISH,
            Self::Head => HEAD,
            Self::Read => READ,
        };
        format!("{PRELUDE}{rest}")
    }
}

/// The server as it was found when the connection was made.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// The names by which it knows the scripts, in the order of [`Script::ALL`].
    pub(super) scripts: [String; 3],
    /// Another one whenever it is started.
    pub(super) run_id: String,
    /// Whether it keeps a log of what it does.
    pub(super) is_durable: bool,
}

impl Server {
    fn call(&self, script: Script, keys: &Keys) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.scripts[script as usize]).arg(2).arg(&keys.meta).arg(&keys.stream);
        call.arg(&self.run_id).arg(u8::from(self.is_durable));
        call.arg(format!("{:x}", fastrand::u64(..))).arg(LIFE.as_millis().to_string());
        call
    }

    /// Publishes `body`; answered by what [`position`] reads.
    pub(super) fn publish(&self, keys: &Keys, body: &[u8], size: usize, age: Duration) -> Cmd {
        let mut call = self.call(Script::Publish, keys);
        call.arg(&keys.channel).arg(body).arg(size).arg(age.as_millis().to_string());
        call
    }

    /// Asks where the topic has come to, after ending its life if that is `outdated`; answered by
    /// what [`head`] reads.
    pub(super) fn head(&self, keys: &Keys, outdated: Option<&Epoch>) -> Cmd {
        let mut call = self.call(Script::Head, keys);
        call.arg(outdated.map_or("", Epoch::as_str));
        call
    }

    /// Reads the history; answered by what [`history`] reads.
    pub(super) fn read(&self, keys: &Keys, query: &HistoryQuery, age: Duration) -> Cmd {
        // As an end, an id without its second part stands for the greatest with the first.
        let since = query.since.as_ref().map(|since| format!("({}-0", since.offset));
        let (command, first) = match query.order {
            Order::Forward => ("XRANGE", since.as_deref().unwrap_or("-")),
            Order::Reverse => ("XREVRANGE", since.as_deref().unwrap_or("+")),
        };
        let last = if query.order == Order::Forward { "+" } else { "-" };
        let mut call = self.call(Script::Read, keys);
        call.arg(command).arg(first).arg(last).arg(query.limit).arg(age.as_millis().to_string());
        call
    }
}

/// The place of a publication.
pub(super) fn position(answer: Value) -> Result<Position, ParsingError> {
    let (epoch, offset) = <(String, u64)>::from_redis_value(answer)?;
    Ok(Position { offset, epoch: Epoch::new(&epoch) })
}

/// Where a topic has come to.
pub(super) fn head(answer: Value) -> Result<Head, ParsingError> {
    let (epoch, offset, restarts, kept) = <(String, u64, u64, u64)>::from_redis_value(answer)?;
    Ok(Head { position: Position { offset, epoch: Epoch::new(&epoch) }, restarts, kept })
}

/// A part of the history of `topic`, and where it has come to. What nobody like us has written is
/// left out.
pub(super) fn history(
    topic: &TopicName,
    answer: Value,
) -> Result<(Position, Vec<Publication>), ParsingError> {
    let (epoch, offset, entries) = <(String, u64, Vec<Vec<u8>>)>::from_redis_value(answer)?;
    let position = Position { offset, epoch: Epoch::new(&epoch) };
    let publications = entries.chunks_exact(2).filter_map(|entry| {
        let id = std::str::from_utf8(&entry[0]).ok()?;
        let offset = id.split_once('-')?.0.parse().ok().filter(|offset| *offset > 0)?;
        body::decode(topic, Some(offset), Bytes::copy_from_slice(&entry[1]))
    });
    Ok((position, publications.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        let scripts = ["p", "h", "r"].map(str::to_owned);
        Server { scripts, run_id: "run".to_owned(), is_durable: true }
    }

    fn arguments(call: &Cmd) -> Vec<String> {
        let texts = call.args_iter().map(|argument| match argument {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => "?".to_owned(),
        });
        texts.collect()
    }

    #[test]
    fn history_is_read_from_either_end_behind_what_is_known() {
        let keys = Keys::of("p", &TopicName::new("t").unwrap());
        let read = |order, since: Option<u64>| {
            let since = since.map(|offset| Position { offset, epoch: Epoch::new("e") });
            let query = HistoryQuery { limit: 9, since, order };
            let call = server().read(&keys, &query, Duration::from_secs(2));
            arguments(&call)[9..].join(" ")
        };
        assert_eq!(read(Order::Forward, None), "XRANGE - + 9 2000");
        assert_eq!(read(Order::Forward, Some(7)), "XRANGE (7-0 + 9 2000");
        assert_eq!(read(Order::Reverse, None), "XREVRANGE + - 9 2000");
        assert_eq!(read(Order::Reverse, Some(7)), "XREVRANGE (7-0 - 9 2000");
    }

    #[test]
    fn entries_that_are_not_ours_are_left_out() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entries =
            ["0-2", "t\0none", "4-0", "t\0four", "5-0", "?", "x", "t\0x"].map(bulk).to_vec();
        let answer = Value::Array(vec![bulk("e"), bulk("5"), Value::Array(entries)]);
        let topic = TopicName::new("t").unwrap();
        let (position, publications) = history(&topic, answer).unwrap();
        assert_eq!((position.offset, position.epoch.as_str()), (5, "e"));
        assert_eq!(publications.len(), 1);
        assert_eq!(publications[0].offset, Some(4));
    }
}
