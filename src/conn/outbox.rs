//! What is queued for one client.
//!
//! Without a backlog everything queued goes out at the end of the turn with one send. What the socket
//! refuses becomes the backlog; from then on one armed send at a time works it off, and slowness is
//! measured. Behind a backlog, the newest value of a `latest` topic takes the place of the one that
//! still waits, and control frames go out next, whatever else waits.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::newest::Places;
pub use super::piece::Piece;
use super::tls::session::Tls;
use crate::dialect::cause::Cause;
use crate::topic::subscribers::TopicId;

/// Limits of what one client may leave unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes queued at which the client is too slow at once.
    pub bytes_max: usize,
    /// Bytes queued that are too many after `soft_timeout`.
    pub soft_bytes_max: usize,
    /// How long more than `soft_bytes_max` may be queued.
    pub soft_timeout: Duration,
    /// How long a backlog may stand without a byte being taken.
    pub stall_timeout: Duration,
}

/// Small pieces are copied together up to this many bytes, so that they need one send.
const GATHER_BYTES_MAX: usize = 64 * 1024;

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// Queued, the first since the last flush.
    First,
    /// Queued behind others.
    Queued,
    /// Queued, and now more bytes wait than `bytes_max`.
    OverLimit,
}

/// What became of the newest value of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Conflated {
    /// As of every other push.
    pub pushed: Pushed,
    /// Bytes of the older value whose place it took, if one was waiting.
    pub replaced: Option<usize>,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Queue,
    backlog: Option<Box<Backlog>>,
    bytes: usize,
}

#[derive(Debug, Default)]
enum Queue {
    #[default]
    Empty,
    One(Piece),
    #[expect(clippy::box_collection, reason = "an empty outbox stays small")]
    Many(Box<VecDeque<Piece>>),
}

/// What the socket has refused; an armed send works on it.
#[derive(Debug)]
struct Backlog {
    /// What the armed send was given.
    armed: Bytes,
    /// Bytes of it that nobody else has.
    armed_own: usize,
    /// Bytes in the queue that nobody else has.
    queued_own: usize,
    /// When a backlog without progress is too old.
    stalled_at: Instant,
    /// When too many queued bytes are too old; `None` while they are few.
    soft_at: Option<Instant>,
    /// Control frames, which go out before everything that is queued.
    urgent: Vec<u8>,
    /// Where the newest values of `latest` topics wait.
    places: Places,
}

impl Outbox {
    /// Bytes queued, with those of the armed send.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes on the heap that this connection owns alone: not the frames that it shares.
    pub fn heap_bytes(&self) -> usize {
        let table = match &self.queue {
            Queue::Many(pieces) => pieces.capacity() * size_of::<Piece>(),
            Queue::Empty | Queue::One(_) => 0,
        };
        let own = match &self.backlog {
            Some(backlog) => {
                let copies = backlog.armed_own + backlog.queued_own + backlog.urgent.capacity();
                size_of::<Backlog>() + copies
            }
            None => self.queue.own_bytes(),
        };
        table + own
    }

    /// Whether nothing is queued and no send is armed.
    pub fn is_clear(&self) -> bool {
        matches!(self.queue, Queue::Empty) && self.backlog.is_none()
    }

    /// Whether an armed send works on what the socket had refused.
    pub fn is_backlogged(&self) -> bool {
        self.backlog.is_some()
    }

    /// When the client is to be called slow, if it does not read.
    pub fn deadline(&self) -> Option<Instant> {
        let backlog = self.backlog.as_ref()?;
        Some(backlog.soft_at.map_or(backlog.stalled_at, |soft| soft.min(backlog.stalled_at)))
    }

    /// Why the client is to be called slow at `now`; `None`: it is not, or not yet.
    pub fn slowness(&self, now: Instant) -> Option<Cause> {
        let backlog = self.backlog.as_ref()?;
        let stalled = (backlog.stalled_at, Cause::SlowStalled);
        let (since, cause) = match backlog.soft_at {
            Some(soft) if soft <= stalled.0 => (soft, Cause::SlowBehind),
            _ => stalled,
        };
        (since <= now).then_some(cause)
    }

    /// Queues whole frames.
    pub fn push(&mut self, piece: Piece, arena: &[u8], settings: &Settings) -> Pushed {
        self.bytes += piece.len();
        let pushed = self.append(piece, arena);
        if self.bytes > settings.bytes_max { Pushed::OverLimit } else { pushed }
    }

    /// Queues control frames: behind a backlog they go out with the next send, and no limit counts.
    pub fn push_control(&mut self, piece: Piece, arena: &[u8]) -> Pushed {
        self.bytes += piece.len();
        match self.backlog.as_mut() {
            Some(backlog) => {
                backlog.urgent.extend_from_slice(piece.bytes(arena));
                Pushed::Queued
            }
            None => self.append(piece, arena),
        }
    }

    /// Queues the newest value of `topic`, a whole frame. Behind a backlog it takes the place of the
    /// value that waits, if one does: what no send has begun to carry.
    pub fn push_newest(
        &mut self,
        frame: Rc<Bytes>,
        topic: TopicId,
        settings: &Settings,
    ) -> Conflated {
        let end = self.queue.len();
        let Some(backlog) = self.backlog.as_mut() else {
            let pushed = self.push(Piece::Frame(frame), &[], settings);
            return Conflated { pushed, replaced: None };
        };
        let Some(waiting) = backlog.places.find(topic).and_then(|at| self.queue.get_mut(at)) else {
            backlog.places.note(topic, end);
            let pushed = self.push(Piece::Frame(frame), &[], settings);
            return Conflated { pushed, replaced: None };
        };
        let older = waiting.len();
        self.bytes = self.bytes - older + frame.len();
        *waiting = Piece::Frame(frame);
        let over = self.bytes > settings.bytes_max;
        let pushed = if over { Pushed::OverLimit } else { Pushed::Queued };
        Conflated { pushed, replaced: Some(older) }
    }

    /// The client has left `topic`: what comes when it joins again takes no place that is in front of
    /// its joining.
    pub fn forget(&mut self, topic: TopicId) {
        if let Some(backlog) = self.backlog.as_mut() {
            backlog.places.forget(topic);
        }
    }

    fn append(&mut self, piece: Piece, arena: &[u8]) -> Pushed {
        let piece = match (&self.backlog, piece) {
            (Some(_), turn @ Piece::Turn(_)) => Piece::Own(Rc::new(turn.into_owned(0, arena))),
            (_, piece) => piece,
        };
        if let Some(backlog) = self.backlog.as_mut() {
            backlog.queued_own += piece.own_bytes();
        }
        match &mut self.queue {
            Queue::Empty => {
                self.queue = Queue::One(piece);
                return Pushed::First;
            }
            Queue::One(Piece::Turn(last)) if follows(last, &piece) => last.end += len_u32(&piece),
            Queue::One(_) => {
                if let Queue::One(first) = std::mem::take(&mut self.queue) {
                    self.queue = Queue::Many(Box::new(VecDeque::from([first, piece])));
                }
            }
            Queue::Many(pieces) => match pieces.back_mut() {
                Some(Piece::Turn(last)) if follows(last, &piece) => last.end += len_u32(&piece),
                _ => pieces.push_back(piece),
            },
        }
        Pushed::Queued
    }

    /// Takes what one send of this turn is to carry; there must be no backlog.
    ///
    /// Many small pieces are copied together at the end of `arena`. If something is left for the next
    /// turn, [`Outbox::is_clear`] says so, and it no longer depends on the arena.
    pub fn take_flight(&mut self, arena: &mut Vec<u8>) -> Option<Piece> {
        debug_assert!(self.backlog.is_none(), "a send of the turn beside an armed one");
        let flight = match std::mem::take(&mut self.queue) {
            Queue::Empty => return None,
            Queue::One(piece) => piece,
            Queue::Many(mut pieces) => {
                let flight = gather(&mut pieces, arena);
                if !pieces.is_empty() {
                    self.queue = Queue::Many(pieces);
                    self.leave_arena(arena);
                }
                flight
            }
        };
        self.bytes -= flight.len();
        Some(flight)
    }

    /// What is queued will wait for the next turn: it no longer depends on the arena of this one.
    pub fn leave_arena(&mut self, arena: &[u8]) {
        match &mut self.queue {
            Queue::Empty => {}
            Queue::One(piece) => keep(piece, arena),
            Queue::Many(pieces) => pieces.iter_mut().for_each(|piece| keep(piece, arena)),
        }
    }

    /// The socket took only `sent` bytes of a flight. Returns the rest, which is to be sent by an
    /// armed send.
    pub fn refused(
        &mut self,
        flight: Piece,
        sent: usize,
        arena: &[u8],
        settings: &Settings,
        now: Instant,
    ) -> Bytes {
        debug_assert!(self.backlog.is_none(), "two sends of one socket in flight");
        self.leave_arena(arena);
        let is_shared = matches!(flight, Piece::Frame(_));
        let rest = flight.into_owned(sent, arena);
        self.bytes += rest.len();
        self.backlog = Some(Box::new(Backlog {
            armed: rest.clone(),
            armed_own: if is_shared { 0 } else { rest.len() },
            queued_own: self.queue.own_bytes(),
            stalled_at: now + settings.stall_timeout,
            soft_at: None,
            urgent: Vec::new(),
            places: Places::default(),
        }));
        self.watch_soft_limit(settings, now);
        rest
    }

    /// Whether the armed send, having carried `sent` bytes, is done: then frames may come next that
    /// were not queued yet.
    pub fn is_between_frames(&self, sent: usize) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.armed.len() == sent)
    }

    /// The armed send has carried `sent` bytes. Returns what the next one is to carry; `None` when
    /// the backlog is worked off, or when `tls` can send nothing more.
    pub fn progressed(
        &mut self,
        sent: usize,
        tls: Option<&mut Tls>,
        settings: &Settings,
        now: Instant,
    ) -> Option<Bytes> {
        let backlog = self.backlog.as_mut()?;
        self.bytes -= sent;
        let rest = backlog.armed.slice(sent..);
        let next = match (rest.is_empty(), tls) {
            (false, _) => Some(rest),
            (true, None) => self.next_owned(),
            (true, Some(tls)) => self.next_sealed(tls),
        };
        let Some(next) = next else {
            self.backlog = None;
            return None;
        };
        if let Some(backlog) = self.backlog.as_mut() {
            backlog.armed = next.clone();
            backlog.stalled_at = now + settings.stall_timeout;
        }
        self.watch_soft_limit(settings, now);
        Some(next)
    }

    /// Notes since when too much has been queued.
    pub fn watch_soft_limit(&mut self, settings: &Settings, now: Instant) {
        let over = self.bytes > settings.soft_bytes_max;
        if let Some(backlog) = self.backlog.as_mut() {
            backlog.soft_at = match (over, backlog.soft_at) {
                (false, _) => None,
                (true, None) => Some(now + settings.soft_timeout),
                (true, since) => since,
            };
        }
    }

    /// Drops everything that no send has begun to carry; returns how many bytes.
    pub fn drop_queued(&mut self) -> usize {
        self.queue = Queue::Empty;
        let armed = self.backlog.as_mut().map_or(0, |backlog| {
            backlog.urgent = Vec::new();
            backlog.queued_own = 0;
            backlog.places.clear();
            backlog.armed.len()
        });
        let dropped = self.bytes - armed;
        self.bytes = armed;
        dropped
    }

    /// Drops everything; returns how many bytes.
    pub fn clear(&mut self) -> usize {
        self.queue = Queue::Empty;
        self.backlog = None;
        std::mem::take(&mut self.bytes)
    }

    /// The records of what goes next: first those of a frame whose beginning has been sent.
    fn next_sealed(&mut self, tls: &mut Tls) -> Option<Bytes> {
        let fresh = if tls.is_mid_frame() { None } else { self.next_owned() };
        self.bytes -= fresh.as_ref().map_or(0, Bytes::len);
        let records = tls.seal_owned(fresh).ok().filter(|records| !records.is_empty())?;
        self.bytes += records.len();
        Some(Bytes::from(records))
    }

    /// What goes next, in memory that stays: control frames, else the next pieces as one.
    fn next_owned(&mut self) -> Option<Bytes> {
        let backlog = self.backlog.as_mut()?;
        if !backlog.urgent.is_empty() {
            backlog.armed_own = backlog.urgent.len();
            return Some(std::mem::take(&mut backlog.urgent).into());
        }
        backlog.armed_own = 0;
        let before = self.queue.len();
        let next = match std::mem::take(&mut self.queue) {
            Queue::Empty => None,
            Queue::One(piece) => {
                backlog.armed_own = piece.own_bytes();
                backlog.queued_own = 0;
                Some(piece.into_owned(0, &[]))
            }
            Queue::Many(mut pieces) => {
                let mut joined = Vec::new();
                let gathered = gather_count(&pieces);
                let own = pieces.iter().take(gathered).map(Piece::own_bytes).sum::<usize>();
                backlog.queued_own -= own;
                let piece = gather(&mut pieces, &mut joined);
                backlog.armed_own = if gathered > 1 { joined.len() } else { own };
                if !pieces.is_empty() {
                    self.queue = Queue::Many(pieces);
                }
                Some(match piece {
                    Piece::Turn(_) => Bytes::from(joined),
                    Piece::Frame(frame) | Piece::Own(frame) => Bytes::clone(&frame),
                })
            }
        };
        backlog.places.take(before - self.queue.len());
        next
    }
}

impl Queue {
    /// Bytes in it that nobody else has.
    fn own_bytes(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(piece) => piece.own_bytes(),
            Self::Many(pieces) => pieces.iter().map(Piece::own_bytes).sum(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(_) => 1,
            Self::Many(pieces) => pieces.len(),
        }
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Piece> {
        match self {
            Self::One(piece) if index == 0 => Some(piece),
            Self::Empty | Self::One(_) => None,
            Self::Many(pieces) => pieces.get_mut(index),
        }
    }
}

/// Takes the first pieces as one: a large one alone, small ones copied together into `arena`.
fn gather(pieces: &mut VecDeque<Piece>, arena: &mut Vec<u8>) -> Piece {
    let count = gather_count(pieces);
    let total = pieces.iter().take(count).map(Piece::len).sum();
    if count == 1
        && let Some(piece) = pieces.pop_front()
    {
        return piece;
    }
    let start = arena.len();
    arena.reserve(total);
    for piece in pieces.drain(..count) {
        match piece {
            Piece::Turn(range) => {
                arena.extend_from_within(range.start as usize..range.end as usize);
            }
            Piece::Frame(frame) | Piece::Own(frame) => arena.extend_from_slice(&frame),
        }
    }
    Piece::Turn(arena_range(start, arena.len()))
}

/// How many of the first pieces go out as one.
fn gather_count(pieces: &VecDeque<Piece>) -> usize {
    let mut total = 0;
    let fits = |(at, piece): &(usize, &Piece)| {
        total += piece.len();
        *at == 0 || total <= GATHER_BYTES_MAX
    };
    pieces.iter().enumerate().take_while(fits).count()
}

/// The range of the arena from `start` to `end`.
///
/// # Panics
/// If the arena has grown to 4 GiB in one turn, which the limits per turn rule out.
pub fn arena_range(start: usize, end: usize) -> Range<u32> {
    let fits = "a turn writes less than 4 GiB";
    u32::try_from(start).expect(fits)..u32::try_from(end).expect(fits)
}

fn keep(piece: &mut Piece, arena: &[u8]) {
    if let Piece::Turn(_) = piece {
        *piece = Piece::Own(Rc::new(piece.clone().into_owned(0, arena)));
    }
}

fn follows(last: &Range<u32>, piece: &Piece) -> bool {
    matches!(piece, Piece::Turn(range) if range.start == last.end)
}

fn len_u32(piece: &Piece) -> u32 {
    match piece {
        Piece::Turn(range) => range.end - range.start,
        Piece::Frame(_) | Piece::Own(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topic::name::TopicName;
    use crate::topic::subscribers::Topics;

    const SETTINGS: Settings = Settings {
        bytes_max: 1000,
        soft_bytes_max: 100,
        soft_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(10),
    };

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn frame(bytes: &'static [u8]) -> Piece {
        Piece::Frame(Rc::new(Bytes::from_static(bytes)))
    }

    #[test]
    fn a_single_frame_flies_from_its_own_memory() {
        let mut outbox = Outbox::default();
        let mut arena = Vec::new();
        assert_eq!(outbox.push(frame(b"abc"), &arena, &SETTINGS), Pushed::First);
        let flight = outbox.take_flight(&mut arena).unwrap();
        assert!(matches!(flight, Piece::Frame(_)));
        assert!(outbox.is_clear() && arena.is_empty());
    }

    #[test]
    fn neighbours_in_the_arena_become_one_piece_and_order_is_kept() {
        let mut outbox = Outbox::default();
        let mut arena = b"aabb".to_vec();
        let _ = outbox.push(Piece::Turn(0..2), &arena, &SETTINGS);
        let _ = outbox.push(Piece::Turn(2..4), &arena, &SETTINGS);
        assert!(matches!(outbox.queue, Queue::One(Piece::Turn(Range { start: 0, end: 4 }))));
        let _ = outbox.push(frame(b"cc"), &arena, &SETTINGS);
        let flight = outbox.take_flight(&mut arena).unwrap();
        assert_eq!(flight.bytes(&arena), b"aabbcc");
    }

    #[test]
    fn what_was_refused_goes_first_and_survives_the_arena() {
        let now = start();
        let mut outbox = Outbox::default();
        let mut arena = b"hello".to_vec();
        let _ = outbox.push(Piece::Turn(0..5), &arena, &SETTINGS);
        let flight = outbox.take_flight(&mut arena).unwrap();
        let rest = outbox.refused(flight, 2, &arena, &SETTINGS, now);
        arena.fill(b'x');
        assert_eq!(&rest[..], b"llo");
        assert_eq!(outbox.bytes(), 3);
        let _ = outbox.push(frame(b"one"), &arena, &SETTINGS);
        let _ = outbox.push(frame(b"two"), &arena, &SETTINGS);
        assert_eq!(&outbox.progressed(1, None, &SETTINGS, now).unwrap()[..], b"lo");
        assert_eq!(&outbox.progressed(2, None, &SETTINGS, now).unwrap()[..], b"onetwo");
        assert_eq!(outbox.progressed(6, None, &SETTINGS, now), None);
        assert!(outbox.is_clear());
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn slowness_is_a_full_queue_a_standing_one_or_one_that_stays_long() {
        let now = start();
        let mut outbox = Outbox::default();
        let arena = vec![0; 2000];
        let flight = Piece::Turn(0..50);
        let _ = outbox.refused(flight, 0, &arena, &SETTINGS, now);
        assert_eq!(outbox.deadline(), Some(now + Duration::from_secs(10)));
        assert_eq!(outbox.slowness(now + Duration::from_secs(10)), Some(Cause::SlowStalled));
        let _ = outbox.push(Piece::Turn(50..150), &arena, &SETTINGS);
        outbox.watch_soft_limit(&SETTINGS, now);
        assert_eq!(outbox.deadline(), Some(now + Duration::from_secs(5)));
        assert_eq!(outbox.slowness(now + Duration::from_millis(4_999)), None);
        assert_eq!(outbox.slowness(now + Duration::from_secs(5)), Some(Cause::SlowBehind));
        let both = now + Duration::from_secs(60);
        assert_eq!(outbox.slowness(both), Some(Cause::SlowBehind), "what was due first");
        assert_eq!(outbox.push(Piece::Turn(150..1100), &arena, &SETTINGS), Pushed::OverLimit);
    }

    #[test]
    fn what_no_send_has_begun_can_be_dropped() {
        let now = start();
        let mut outbox = Outbox::default();
        let _ = outbox.refused(frame(b"begun"), 1, &[], &SETTINGS, now);
        let _ = outbox.push(frame(b"waiting"), &[], &SETTINGS);
        assert_eq!(outbox.drop_queued(), 7);
        assert_eq!(outbox.bytes(), 4);
        assert_eq!(outbox.progressed(4, None, &SETTINGS, now), None);
    }

    fn topic(topics: &mut Topics, name: &str) -> TopicId {
        topics.expect(&TopicName::new(name).unwrap())
    }

    fn newest(outbox: &mut Outbox, topic: TopicId, value: &'static [u8]) -> Option<usize> {
        let conflated = outbox.push_newest(Rc::new(Bytes::from_static(value)), topic, &SETTINGS);
        assert_ne!(conflated.pushed, Pushed::OverLimit);
        conflated.replaced
    }

    #[test]
    fn behind_a_backlog_the_newest_value_takes_the_place_of_the_one_that_waits() {
        let (now, mut topics, mut outbox) = (start(), Topics::default(), Outbox::default());
        let (a, b) = (topic(&mut topics, "a"), topic(&mut topics, "b"));
        let _ = outbox.refused(frame(b"begun"), 1, &[], &SETTINGS, now);
        assert_eq!(newest(&mut outbox, a, b"a1"), None);
        assert_eq!(newest(&mut outbox, b, b"b1"), None);
        let _ = outbox.push(frame(b"reply"), &[], &SETTINGS);
        assert_eq!(newest(&mut outbox, a, b"a-2"), Some(2));
        assert_eq!(newest(&mut outbox, a, b"a3"), Some(3));
        assert_eq!(outbox.bytes(), 4 + 2 + 2 + 5);
        assert_eq!(outbox.progressed(4, None, &SETTINGS, now).unwrap(), "a3b1reply");
        // What a send carries is no longer touched.
        assert_eq!(newest(&mut outbox, a, b"a4"), None);
        assert_eq!(newest(&mut outbox, a, b"a5"), Some(2));
        assert_eq!(outbox.progressed(2, None, &SETTINGS, now).unwrap(), "b1reply");
        assert_eq!(outbox.progressed(7, None, &SETTINGS, now).unwrap(), "a5");
        assert_eq!(outbox.progressed(2, None, &SETTINGS, now), None);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn without_a_backlog_every_value_goes_out() {
        let (mut topics, mut outbox, mut arena) = (Topics::default(), Outbox::default(), vec![]);
        let a = topic(&mut topics, "a");
        for value in [b"a1", b"a2"] {
            assert_eq!(newest(&mut outbox, a, value), None);
        }
        assert_eq!(outbox.take_flight(&mut arena).unwrap().bytes(&arena), b"a1a2");
    }

    #[test]
    fn a_value_of_a_new_subscription_waits_behind_the_answer_to_it() {
        let (now, mut topics, mut outbox) = (start(), Topics::default(), Outbox::default());
        let a = topic(&mut topics, "a");
        let _ = outbox.refused(frame(b"begun"), 1, &[], &SETTINGS, now);
        assert_eq!(newest(&mut outbox, a, b"a1"), None);
        outbox.forget(a);
        let _ = outbox.push(frame(b"joined"), &[], &SETTINGS);
        assert_eq!(newest(&mut outbox, a, b"a2"), None);
        assert_eq!(newest(&mut outbox, a, b"a3"), Some(2));
        assert_eq!(outbox.progressed(4, None, &SETTINGS, now).unwrap(), "a1joineda3");
    }

    #[test]
    fn a_value_that_grows_beyond_the_limit_is_one_too_many() {
        let (now, mut topics, mut outbox) = (start(), Topics::default(), Outbox::default());
        let a = topic(&mut topics, "a");
        let _ = outbox.refused(frame(b"begun"), 1, &[], &SETTINGS, now);
        let mut push =
            |len: usize| outbox.push_newest(Rc::new(vec![b'a'; len].into()), a, &SETTINGS).pushed;
        assert_eq!([push(996), push(2), push(996)].map(|p| p == Pushed::OverLimit), [false; 3]);
        assert_eq!(push(997), Pushed::OverLimit);
    }

    #[test]
    fn control_frames_overtake_what_waits_and_know_no_limit() {
        let (now, mut outbox) = (start(), Outbox::default());
        let arena = b"pingpong".to_vec();
        let _ = outbox.refused(frame(b"begun"), 1, &[], &SETTINGS, now);
        let _ = outbox.push(Piece::Frame(Rc::new(vec![b'x'; 996].into())), &[], &SETTINGS);
        assert_eq!(outbox.bytes(), SETTINGS.bytes_max);
        assert_eq!(outbox.push_control(Piece::Turn(0..4), &arena), Pushed::Queued);
        assert_eq!(outbox.progressed(2, None, &SETTINGS, now).unwrap(), "un");
        assert!(!outbox.is_between_frames(1) && outbox.is_between_frames(2));
        assert_eq!(outbox.push_control(Piece::Turn(4..8), &arena), Pushed::Queued);
        assert_eq!(outbox.progressed(2, None, &SETTINGS, now).unwrap(), "pingpong");
        assert_eq!(outbox.progressed(8, None, &SETTINGS, now).unwrap().len(), 996);
        assert_eq!(outbox.push_control(Piece::Turn(4..8), &arena), Pushed::Queued);
        assert_eq!((outbox.drop_queued(), outbox.bytes()), (4, 996));
        assert_eq!(outbox.progressed(996, None, &SETTINGS, now), None);
        // Without a backlog they keep their place.
        let _ = outbox.push(frame(b"data"), &[], &SETTINGS);
        assert_eq!(outbox.push_control(Piece::Turn(0..4), &arena), Pushed::Queued);
        assert_eq!(outbox.take_flight(&mut vec![]).unwrap().len(), 8);
    }

    /// A queue behind a backlog as one would write it who has time.
    #[derive(Debug, Default)]
    struct Model {
        armed: Vec<u8>,
        urgent: Vec<u8>,
        /// Frames, and of which topic they are the newest value.
        waiting: Vec<(Vec<u8>, Option<TopicId>)>,
    }

    impl Model {
        fn newest(&mut self, topic: TopicId, value: Vec<u8>) -> Option<usize> {
            let older = self.waiting.iter_mut().find(|(_, of)| *of == Some(topic));
            let Some((older, _)) = older else {
                self.waiting.push((value, Some(topic)));
                return None;
            };
            Some(std::mem::replace(older, value).len())
        }

        fn forget(&mut self, topic: TopicId) {
            let waiting = self.waiting.iter_mut();
            waiting.filter(|(_, of)| *of == Some(topic)).for_each(|(_, of)| *of = None);
        }

        /// What goes next must be the urgent frames, or as many of those in front as fit.
        fn next(&mut self) -> Option<Vec<u8>> {
            if !self.urgent.is_empty() {
                return Some(std::mem::take(&mut self.urgent));
            }
            let mut total = 0;
            let fits = |(frame, _): &&(Vec<u8>, _)| {
                total += frame.len();
                total <= GATHER_BYTES_MAX
            };
            let count = self.waiting.iter().take_while(fits).count().max(1);
            let count = count.min(self.waiting.len());
            let next: Vec<Vec<u8>> = self.waiting.drain(..count).map(|(frame, _)| frame).collect();
            (count > 0).then(|| next.concat())
        }

        fn bytes(&self) -> usize {
            let waiting: usize = self.waiting.iter().map(|(frame, _)| frame.len()).sum();
            self.armed.len() + self.urgent.len() + waiting
        }
    }

    proptest! {
        #[test]
        fn a_backlog_carries_what_a_plain_list_would(
            steps in proptest::collection::vec((0_u8..9, 0_usize..3, 1_usize..40_000), 1..80)
        ) {
            let settings = Settings { bytes_max: 300_000, ..SETTINGS };
            let (now, mut topics, mut outbox) = (start(), Topics::default(), Outbox::default());
            let ids = ["a", "b", "c"].map(|name| topic(&mut topics, name));
            let mut model = Model { armed: b"egun".to_vec(), ..Model::default() };
            let _ = outbox.refused(frame(b"begun"), 1, &[], &settings, now);
            for (number, (step, which, len)) in (0_u8..).zip(steps) {
                let bytes = vec![number; len];
                match step {
                    0 => {
                        let piece = Piece::Frame(Rc::new(bytes.clone().into()));
                        let pushed = outbox.push(piece, &[], &settings);
                        model.waiting.push((bytes, None));
                        prop_assert_eq!(pushed == Pushed::OverLimit, model.bytes() > 300_000);
                    }
                    1..=4 => {
                        let value = Rc::new(bytes.clone().into());
                        let conflated = outbox.push_newest(value, ids[which], &settings);
                        let replaced = model.newest(ids[which], bytes);
                        prop_assert_eq!(conflated.replaced, replaced);
                        let over = conflated.pushed == Pushed::OverLimit;
                        prop_assert_eq!(over, model.bytes() > 300_000);
                    }
                    5 => {
                        outbox.forget(ids[which]);
                        model.forget(ids[which]);
                    }
                    6 => {
                        let _ = outbox.push_control(Piece::Turn(0..2), &[number; 2]);
                        model.urgent.extend([number; 2]);
                    }
                    _ => {
                        let sent = len.min(model.armed.len());
                        let next = outbox.progressed(sent, None, &settings, now);
                        model.armed.drain(..sent);
                        if model.armed.is_empty() {
                            model.armed = model.next().unwrap_or_default();
                        }
                        prop_assert_eq!(next.as_deref().unwrap_or_default(), &model.armed[..]);
                        if next.is_none() {
                            break;
                        }
                    }
                }
                prop_assert_eq!(outbox.bytes(), model.bytes());
            }
        }
    }
}
