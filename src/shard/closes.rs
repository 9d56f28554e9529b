//! The last ends of connections, with all that is known about them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::conn::Tally;
use crate::conn::closing::Verdict;
use crate::dialect::cause::{Cause, Protocol, farewell};
use crate::mail::close::{Book, Close, Closes, Event, Filter, History, Kind};
use crate::metrics::Label;
use crate::metrics::close_code::CloseCodeLabel;
use crate::ring::Ring;

use super::teller::Teller;
use super::{Shard, to_u64};

/// Ends of one kind that are written down in one second; of the others only their number is known.
/// Writing one down takes two system calls, about a microsecond in all.
pub(super) const RECORDS_PER_SECOND: u32 = 1000;

/// Unit of [`Story::born`]: it counts for 497 days.
const BORN_UNIT: Duration = Duration::from_millis(10);

/// What a slot remembers for the day of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Story {
    /// When it was accepted, in units since the shard's start.
    born: u32,
    pub(super) history: History,
}

impl Story {
    /// Notes what happened in one call.
    pub(super) fn note(&mut self, tally: &Tally) {
        let happened = [
            (tally.opened.is_some(), Event::Opened),
            (tally.messages > 0, Event::Message),
            (tally.pings_received > 0, Event::PingReceived),
            (tally.pings > 0, Event::PingSent),
            (tally.pongs > 0, Event::PongReceived),
            (tally.close_received.is_some(), Event::CloseReceived),
            (tally.close_sent.is_some(), Event::CloseSent),
        ];
        for (_, event) in happened.into_iter().filter(|(has, _)| *has) {
            self.history.note(event);
        }
    }
}

/// What an ending connection has lost already.
#[derive(Clone, Copy, Debug, Default)]
struct Estate {
    topics: usize,
    unsent_bytes: usize,
}

/// The ends of one kind.
#[derive(Debug, Default)]
struct Log {
    held: VecDeque<Close>,
    ended: u64,
    recorded: u64,
    /// Records of the current second, and when that began.
    recent: (Option<Instant>, u32),
}

/// All that a shard knows about ends.
#[derive(Debug)]
pub(super) struct Registry {
    began: Instant,
    kept: usize,
    logs: [Log; 3],
    estates: HashMap<u32, Estate>,
    pub(super) teller: Teller,
}

impl Registry {
    /// Keeps the last `kept` ends of each kind; 0: none, and nothing is noted.
    pub(super) fn new(kept: usize, now: Instant) -> Self {
        Self {
            began: now,
            kept,
            logs: Default::default(),
            estates: HashMap::new(),
            teller: Teller::default(),
        }
    }

    /// From now on the last `kept` ends of each kind are kept.
    pub(super) fn set_kept(&mut self, kept: usize) {
        self.kept = kept;
        for log in &mut self.logs {
            let excess = log.held.len().saturating_sub(kept);
            log.held.drain(..excess);
        }
    }

    /// A story that begins now.
    pub(super) fn story(&self, now: Instant) -> Story {
        Story { born: self.units(now), history: History::default() }
    }

    fn units(&self, now: Instant) -> u32 {
        let units = now.saturating_duration_since(self.began).as_millis() / BORN_UNIT.as_millis();
        // It wraps, as ages do that are told from it.
        u32::try_from(units & u128::from(u32::MAX)).unwrap_or(0)
    }

    /// The connection in slot `index` ends and leaves so many topics.
    pub(super) fn note_topics(&mut self, index: u32, topics: usize) {
        if self.kept > 0 && topics > 0 {
            self.estates.entry(index).or_default().topics += topics;
        }
    }

    /// So many bytes for the connection in slot `index` will not be sent.
    pub(super) fn note_unsent(&mut self, index: u32, bytes: usize) {
        if self.kept > 0 && bytes > 0 {
            self.estates.entry(index).or_default().unsent_bytes += bytes;
        }
    }

    /// Ending connections of which something is noted.
    pub(super) fn estates(&self) -> usize {
        self.estates.len()
    }

    /// The books of all kinds.
    pub(super) fn books(&self) -> [Book; 3] {
        self.logs.each_ref().map(|log| Book {
            ended: log.ended,
            recorded: log.recorded,
            held: to_u64(log.held.len()),
        })
    }

    /// Counts an end; says whether it is to be written down.
    fn admit(&mut self, kind: Kind, now: Instant) -> bool {
        let log = &mut self.logs[kind as usize];
        log.ended += 1;
        let second = Duration::from_secs(1);
        let is_current =
            log.recent.0.is_some_and(|began| now.saturating_duration_since(began) < second);
        if !is_current {
            log.recent = (Some(now), 0);
        }
        if self.kept == 0 || log.recent.1 >= RECORDS_PER_SECOND {
            return false;
        }
        log.recent.1 += 1;
        true
    }

    fn keep(&mut self, close: Close) {
        let log = &mut self.logs[close.kind as usize];
        if log.held.len() >= self.kept {
            log.held.pop_front();
        }
        log.recorded += 1;
        log.held.push_back(close);
    }

    /// The closes that are asked for.
    pub(super) fn find(&self, filter: &Filter) -> Closes {
        let mut found: Vec<&Close> = Vec::new();
        let mut matched = 0;
        for log in &self.logs {
            let admitted = log.held.iter().rev().filter(|close| filter.admits(close));
            let before = found.len();
            for close in admitted {
                matched += 1;
                if found.len() - before < filter.limit {
                    found.push(close);
                }
            }
        }
        found.sort_by_key(|close| std::cmp::Reverse(close.at));
        let found = found.into_iter().take(filter.limit).cloned().collect();
        Closes { found, matched, books: self.books() }
    }
}

/// What an operator expects of such an end.
fn kind(verdict: &Verdict, protocol: Option<Protocol>) -> Kind {
    match (protocol, verdict.cause, verdict.code) {
        (None, ..) => Kind::Unopened,
        (Some(_), Cause::ClientClose, 1000 | 1001 | 1005) | (Some(_), Cause::Drain, _) => {
            Kind::Orderly
        }
        (Some(_), ..) => Kind::Abnormal,
    }
}

impl<R: Ring> Shard<R> {
    /// Notes an event in the history of the connection in slot `index`.
    pub(super) fn note(&mut self, index: u32, event: Event) {
        if let Some(slot) = self.slots.at_mut(index) {
            slot.story.history.note(event);
        }
    }

    /// Writes down how the connection in slot `index` ends, before its socket is closed.
    pub(super) fn record_close(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let (verdict, protocol) = (slot.conn.verdict(), slot.conn.protocol());
        let estate = self.closes.estates.remove(&index).unwrap_or_default();
        let kind = kind(&verdict, protocol);
        let told = self.settings.told;
        if !self.closes.admit(kind, self.now) {
            self.closes.teller.pass_over(kind, self.now, told);
            return;
        }
        let epitaph = slot.conn.epitaph();
        let code = CloseCodeLabel::of(verdict.code);
        let peer = self.ring.peer(slot.socket);
        let known = slot.extras.guest_mut().map(|guest| guest.address());
        let usual = protocol.and_then(|protocol| {
            let drain = &self.desk.settings.drain;
            farewell(verdict.cause, protocol, drain).map(|told| Box::from(&*told.reason))
        });
        let close = Close {
            at: self.now,
            age: BORN_UNIT * self.closes.units(self.now).wrapping_sub(slot.story.born),
            kind,
            shard: self.post.node(),
            listener: slot.conn.listener(),
            peer,
            forwarded_for: known.filter(|known| peer.is_some_and(|peer| peer.ip() != *known)),
            protocol: protocol.map(Protocol::label),
            client: epitaph.client.map(|id| id.to_string().into()),
            code: protocol.map(|_| verdict.code),
            code_label: CloseCodeLabel::text(code.index()),
            initiator: verdict.initiator.label(),
            cause: verdict.cause.label(),
            sent: verdict.sent,
            sent_reason: verdict.sent.and(epitaph.given.or(usual)),
            received: verdict.received,
            received_reason: epitaph.heard,
            topics: estate.topics,
            unsent_bytes: estate.unsent_bytes,
            history: slot.story.history,
            tcp: self.ring.tcp_info(slot.socket),
        };
        self.closes.teller.tell(&close, told);
        self.closes.keep(close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(at: Instant, kind: Kind, cause: &'static str) -> Close {
        Close {
            at,
            age: Duration::ZERO,
            kind,
            shard: 0,
            listener: 0,
            peer: None,
            forwarded_for: None,
            protocol: Some("raw"),
            client: None,
            code: Some(4999),
            code_label: "4xxx_other",
            initiator: "server",
            cause,
            sent: None,
            sent_reason: None,
            received: None,
            received_reason: None,
            topics: 0,
            unsent_bytes: 0,
            history: History::default(),
            tcp: None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn all() -> Filter {
        Filter { limit: 100, ..Filter::default() }
    }

    #[test]
    fn the_last_of_each_kind_are_kept_and_the_books_tell_of_the_others() {
        let now = start();
        let mut registry = Registry::new(3, now);
        for n in 0..5 {
            let at = now + Duration::from_secs(n);
            assert!(registry.admit(Kind::Abnormal, at));
            registry.keep(close(at, Kind::Abnormal, "reset"));
        }
        for _ in 0..RECORDS_PER_SECOND + 7 {
            if registry.admit(Kind::Orderly, now) {
                registry.keep(close(now, Kind::Orderly, "client_close"));
            }
        }
        let found = registry.find(&all());
        let times: Vec<_> = found.found.iter().map(|close| (close.at - now).as_secs()).collect();
        assert_eq!(times, [4, 3, 2, 0, 0, 0], "newest first");
        assert_eq!(found.matched, 6);
        let most = u64::from(RECORDS_PER_SECOND);
        assert_eq!(found.books[0], Book { ended: 5, recorded: 5, held: 3 });
        assert_eq!(found.books[1], Book { ended: most + 7, recorded: most, held: 3 });
        assert_eq!(found.books[2], Book::default());
        assert!(registry.admit(Kind::Orderly, now + Duration::from_secs(1)), "a new second");
    }

    #[test]
    fn filters_leave_out_what_was_not_asked_for() {
        let now = start();
        let mut registry = Registry::new(8, now);
        for (n, cause) in ["reset", "idle", "reset", "drain"].into_iter().enumerate() {
            let at = now + Duration::from_secs(n as u64);
            registry.keep(close(at, Kind::Abnormal, cause));
        }
        let count = |filter: Filter| registry.find(&filter).matched;
        assert_eq!(count(Filter { cause: Some("reset"), ..all() }), 2);
        assert_eq!(count(Filter { code: Some(4999), ..all() }), 4);
        assert_eq!(count(Filter { code: Some(4998), ..all() }), 0);
        assert_eq!(count(Filter { code_label: Some("4xxx_other"), ..all() }), 4);
        assert_eq!(count(Filter { code_label: Some("1006"), ..all() }), 0);
        assert_eq!(count(Filter { initiator: Some("client"), ..all() }), 0);
        assert_eq!(count(Filter { protocol: Some("echo"), ..all() }), 0);
        let since = Some(now + Duration::from_secs(2));
        assert_eq!(count(Filter { since, cause: Some("reset"), ..all() }), 1);
        let limited = registry.find(&Filter { limit: 1, ..Filter::default() });
        assert_eq!((limited.found.len(), limited.matched), (1, 4));
        assert_eq!(limited.found[0].cause, "drain");
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_wanted_but_all_is_counted() {
        let now = start();
        let mut registry = Registry::new(0, now);
        registry.note_topics(1, 3);
        registry.note_unsent(1, 9);
        assert!(!registry.admit(Kind::Abnormal, now));
        assert_eq!(registry.estates(), 0);
        assert_eq!(registry.books()[0], Book { ended: 1, recorded: 0, held: 0 });
    }

    #[test]
    fn an_end_and_a_story_are_small() {
        assert_eq!(size_of::<Story>(), 8);
        assert!(size_of::<Close>() <= 384, "{}", size_of::<Close>());
    }

    #[test]
    fn ages_are_right_after_a_year() {
        let now = start();
        let registry = Registry::new(1, now);
        let old = registry.story(now + Duration::from_secs(3600));
        let later = now + Duration::from_secs(3600 + 300 * 86_400);
        let age = BORN_UNIT * registry.units(later).wrapping_sub(old.born);
        assert_eq!(age, Duration::from_secs(300 * 86_400));
    }
}
