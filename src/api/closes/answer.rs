//! What `/debug/closes` answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::ends::Ends;
use super::query::Words;
use crate::mail::close::{Book, Close, Closes, Kind};

/// The whole answer. Times are in seconds, since 1970 where they are points in time.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    pub(super) now: f64,
    pub(super) uptime_seconds: f64,
    /// What `recent` is the number of.
    pub(super) window_seconds: f64,
    /// Ends of upgraded connections, as the metrics count them.
    pub(super) counts: Vec<Count>,
    /// Ends before the upgrade.
    pub(super) unopened: Vec<Unopened>,
    pub(super) books: BTreeMap<&'static str, Pages>,
    pub(super) silent_shards: &'a [usize],
    /// How many closes there are without the limit.
    pub(super) matched: usize,
    /// Newest first.
    pub(super) closes: Vec<Entry<'a>>,
}

/// How many connections have ended in one way.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Count {
    code: &'static str,
    initiator: &'static str,
    cause: &'static str,
    protocol: &'static str,
    total: u64,
    recent: u64,
    meaning: &'static str,
}

/// How many connections have ended for one cause before they were upgraded.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Unopened {
    cause: &'static str,
    total: u64,
    recent: u64,
    meaning: &'static str,
}

/// A [`Book`].
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Pages {
    ended: u64,
    recorded: u64,
    held: u64,
}

/// A [`Close`].
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    at: f64,
    age_seconds: f64,
    kind: &'static str,
    shard: usize,
    listener: u16,
    /// The client's, with its port unless a proxy told it.
    address: Option<String>,
    proxy: Option<String>,
    protocol: Option<&'static str>,
    client: Option<&'a str>,
    code: Option<u16>,
    initiator: &'static str,
    cause: &'static str,
    sent: Option<Said<'a>>,
    received: Option<Said<'a>>,
    topics: usize,
    unsent_bytes: usize,
    events: Vec<&'static str>,
    tcp: Option<Tcp>,
}

/// What one side said in its Close.
#[derive(Serialize)]
struct Said<'a> {
    /// `None`: nothing.
    code: Option<u16>,
    reason: &'a str,
}

/// What the kernel knew.
#[derive(Serialize)]
struct Tcp {
    rtt_seconds: f64,
    rtt_variance_seconds: f64,
    retransmitted_segments: u32,
    lost_segments: u32,
    unacked_segments: u32,
    not_sent_bytes: u32,
    acked_bytes: u64,
    received_bytes: u64,
    last_received_seconds: f64,
    window_closed_seconds: f64,
}

/// How many connections have ended since the start, and since `before`.
pub(super) fn counts(total: &Ends, before: &Ends, words: &Words) -> Vec<Count> {
    let count = |(labels, total): (&[&'static str; 4], &u64)| {
        let [code, initiator, cause, protocol] = *labels;
        let recent = total - before.closed.get(labels).unwrap_or(&0);
        Count {
            code,
            initiator,
            cause,
            protocol,
            total: *total,
            recent,
            meaning: meaning(cause, words),
        }
    };
    total.closed.iter().map(count).collect()
}

/// The same for those that were never upgraded.
pub(super) fn unopened(total: &Ends, before: &Ends, words: &Words) -> Vec<Unopened> {
    let count = |(cause, total): (&&'static str, &u64)| {
        let recent = total - before.unopened.get(cause).unwrap_or(&0);
        Unopened { cause, total: *total, recent, meaning: meaning(cause, words) }
    };
    total.unopened.iter().map(count).collect()
}

fn meaning(cause: &str, words: &Words) -> &'static str {
    words.causes.iter().find(|(label, _)| *label == cause).map_or("", |(_, meaning)| meaning)
}

/// What became of the ends of each kind.
pub(super) fn books(closes: &Closes) -> BTreeMap<&'static str, Pages> {
    let page = |kind: Kind| {
        let Book { ended, recorded, held } = closes.books[kind as usize];
        (kind.label(), Pages { ended, recorded, held })
    };
    Kind::ALL.into_iter().map(page).collect()
}

impl<'a> Entry<'a> {
    /// The entry of `close`, when it is `now` and `unix_now` since 1970.
    pub(super) fn new(close: &'a Close, now: Instant, unix_now: Duration) -> Self {
        let ago = now.into_std().saturating_duration_since(close.at);
        let peer = close.peer.map(|peer| peer.to_string());
        let forwarded = close.forwarded_for.map(|address| address.to_string());
        Self {
            at: unix_now.saturating_sub(ago).as_secs_f64(),
            age_seconds: close.age.as_secs_f64(),
            kind: close.kind.label(),
            shard: close.shard,
            listener: close.listener,
            address: forwarded.or(peer.clone()),
            proxy: peer.filter(|_| close.forwarded_for.is_some()),
            protocol: close.protocol,
            client: close.client.as_deref(),
            code: close.code,
            initiator: close.initiator,
            cause: close.cause,
            sent: said(close.sent, close.sent_reason.as_deref()),
            received: said(close.received, close.received_reason.as_deref()),
            topics: close.topics,
            unsent_bytes: close.unsent_bytes,
            events: close.history.events().map(|event| event.label()).collect(),
            tcp: close.tcp.map(|tcp| Tcp {
                rtt_seconds: tcp.rtt.as_secs_f64(),
                rtt_variance_seconds: tcp.rtt_variance.as_secs_f64(),
                retransmitted_segments: tcp.retransmitted_segments,
                lost_segments: tcp.lost_segments,
                unacked_segments: tcp.unacked_segments,
                not_sent_bytes: tcp.not_sent_bytes,
                acked_bytes: tcp.acked_bytes,
                received_bytes: tcp.received_bytes,
                last_received_seconds: tcp.last_received.as_secs_f64(),
                window_closed_seconds: tcp.window_closed.as_secs_f64(),
            }),
        }
    }
}

/// The code that stands for a Close without one.
const NO_STATUS: u16 = 1005;

fn said(code: Option<u16>, reason: Option<&str>) -> Option<Said<'_>> {
    let code = code?;
    let reason = reason.unwrap_or_default();
    Some(Said { code: (code != NO_STATUS).then_some(code), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_ends_are_those_that_were_not_there_before() {
        let words = Words { causes: vec![("reset", "It was reset.")], ..Words::default() };
        let key = ["1006", "transport", "reset", "raw"];
        let ends = |closed, unopened| Ends {
            closed: BTreeMap::from([(key, closed)]),
            unopened: BTreeMap::from([("reset", unopened)]),
        };
        let (total, before) = (ends(9, 5), ends(7, 5));
        let count = Count {
            code: "1006",
            initiator: "transport",
            cause: "reset",
            protocol: "raw",
            total: 9,
            recent: 2,
            meaning: "It was reset.",
        };
        assert_eq!(counts(&total, &before, &words), [count]);
        let none = Unopened { cause: "reset", total: 5, recent: 0, meaning: "It was reset." };
        assert_eq!(unopened(&total, &before, &words), [none]);
        assert_eq!(counts(&total, &Ends::default(), &words)[0].recent, 9);
    }

    #[test]
    fn a_close_without_a_code_is_told_from_none() {
        let text = |said: Option<Said<'_>>| serde_json::to_string(&said).unwrap();
        assert_eq!(text(said(None, Some("x"))), "null");
        assert_eq!(text(said(Some(1005), None)), r#"{"code":null,"reason":""}"#);
        assert_eq!(
            text(said(Some(1000), Some("\u{1b}<b>"))),
            r#"{"code":1000,"reason":"\u001b<b>"}"#
        );
    }
}
