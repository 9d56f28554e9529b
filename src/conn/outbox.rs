//! What is queued for one client.
//!
//! Without a backlog everything queued goes out at the end of the turn with one send. What the socket
//! refuses becomes the backlog; from then on one armed send at a time works it off, and slowness is
//! measured.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::tls::session::Tls;

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

/// One or several whole frames.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes of the turn's arena: gone when the turn ends.
    Turn(Range<u32>),
    /// Bytes that stay, shared between the connections of a shard.
    Frame(Rc<Bytes>),
}

impl Piece {
    /// Bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Turn(range) => range.len(),
            Self::Frame(frame) => frame.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub fn bytes<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Turn(range) => &arena[range.start as usize..range.end as usize],
            Self::Frame(frame) => frame,
        }
    }

    /// The bytes from `start` on, in memory that stays.
    pub fn into_owned(self, start: usize, arena: &[u8]) -> Bytes {
        match self {
            Self::Turn(_) => Bytes::copy_from_slice(&self.bytes(arena)[start..]),
            Self::Frame(frame) => frame.slice(start..),
        }
    }
}

impl Piece {
    /// The first `at` bytes, and the rest if there is one.
    fn split(self, at: usize) -> (Self, Option<Self>) {
        if self.len() <= at {
            return (self, None);
        }
        match self {
            Self::Turn(Range { start, end }) => {
                let middle = start + u32::try_from(at).unwrap_or(u32::MAX);
                (Self::Turn(start..middle), Some(Self::Turn(middle..end)))
            }
            Self::Frame(frame) => (
                Self::Frame(Rc::new(frame.slice(..at))),
                Some(Self::Frame(Rc::new(frame.slice(at..)))),
            ),
        }
    }
}

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
    /// When a backlog without progress is too old.
    stalled_at: Instant,
    /// When too many queued bytes are too old; `None` while they are few.
    soft_at: Option<Instant>,
}

impl Outbox {
    /// Bytes queued, with those of the armed send.
    pub fn bytes(&self) -> usize {
        self.bytes
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

    /// Queues whole frames.
    pub fn push(&mut self, piece: Piece, arena: &[u8], settings: &Settings) -> Pushed {
        self.bytes += piece.len();
        let over = self.bytes > settings.bytes_max;
        let piece = match (&self.backlog, piece) {
            (Some(_), turn @ Piece::Turn(_)) => Piece::Frame(Rc::new(turn.into_owned(0, arena))),
            (_, piece) => piece,
        };
        let pushed = self.append(piece);
        if over { Pushed::OverLimit } else { pushed }
    }

    fn append(&mut self, piece: Piece) -> Pushed {
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
        self.take_next(arena)
    }

    fn take_next(&mut self, arena: &mut Vec<u8>) -> Option<Piece> {
        let flight = match std::mem::take(&mut self.queue) {
            Queue::Empty => return None,
            Queue::One(piece) => piece,
            Queue::Many(mut pieces) => {
                let flight = gather(&mut pieces, arena);
                if !pieces.is_empty() {
                    for piece in pieces.iter_mut() {
                        keep(piece, arena);
                    }
                    self.queue = Queue::Many(pieces);
                }
                flight
            }
        };
        self.bytes -= flight.len();
        Some(flight)
    }

    /// As [`Outbox::take_flight`], but at most `bytes_max` bytes, also when a backlog has just been
    /// worked off: the rest of a piece stays.
    pub fn take_part(&mut self, bytes_max: usize, arena: &mut Vec<u8>) -> Option<Piece> {
        let (part, rest) = self.take_next(arena)?.split(bytes_max);
        if let Some(mut rest) = rest {
            self.bytes += rest.len();
            keep(&mut rest, arena);
            match &mut self.queue {
                Queue::Many(pieces) => pieces.push_front(rest),
                // A flight takes all of a queue of one.
                Queue::Empty | Queue::One(_) => self.queue = Queue::One(rest),
            }
        }
        Some(part)
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
        if let Queue::One(piece) = &mut self.queue {
            keep(piece, arena);
        }
        if let Queue::Many(pieces) = &mut self.queue {
            pieces.iter_mut().for_each(|piece| keep(piece, arena));
        }
        let rest = flight.into_owned(sent, arena);
        self.bytes += rest.len();
        self.backlog = Some(Box::new(Backlog {
            armed: rest.clone(),
            stalled_at: now + settings.stall_timeout,
            soft_at: None,
        }));
        self.watch_soft_limit(settings, now);
        rest
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
        let armed = self.backlog.as_ref().map_or(0, |backlog| backlog.armed.len());
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

    /// The records that TLS makes of the next pieces.
    fn next_sealed(&mut self, tls: &mut Tls) -> Option<Bytes> {
        let records = tls.take_owned(self).ok().filter(|records| !records.is_empty())?;
        self.bytes += records.len();
        Some(Bytes::from(records))
    }

    /// The next pieces as one, in memory that stays.
    fn next_owned(&mut self) -> Option<Bytes> {
        match std::mem::take(&mut self.queue) {
            Queue::Empty => None,
            Queue::One(piece) => Some(piece.into_owned(0, &[])),
            Queue::Many(mut pieces) => {
                let mut joined = Vec::new();
                let piece = gather(&mut pieces, &mut joined);
                if !pieces.is_empty() {
                    self.queue = Queue::Many(pieces);
                }
                Some(match piece {
                    Piece::Turn(_) => Bytes::from(joined),
                    Piece::Frame(frame) => Bytes::clone(&frame),
                })
            }
        }
    }
}

/// Takes the first pieces as one: a large one alone, small ones copied together into `arena`.
fn gather(pieces: &mut VecDeque<Piece>, arena: &mut Vec<u8>) -> Piece {
    let mut count = 0;
    let mut total = 0;
    for piece in pieces.iter() {
        if count > 0 && total + piece.len() > GATHER_BYTES_MAX {
            break;
        }
        count += 1;
        total += piece.len();
    }
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
            Piece::Frame(frame) => arena.extend_from_slice(&frame),
        }
    }
    Piece::Turn(arena_range(start, arena.len()))
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
        *piece = Piece::Frame(Rc::new(piece.clone().into_owned(0, arena)));
    }
}

fn follows(last: &Range<u32>, piece: &Piece) -> bool {
    matches!(piece, Piece::Turn(range) if range.start == last.end)
}

fn len_u32(piece: &Piece) -> u32 {
    match piece {
        Piece::Turn(range) => range.end - range.start,
        Piece::Frame(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let _ = outbox.push(Piece::Turn(50..150), &arena, &SETTINGS);
        outbox.watch_soft_limit(&SETTINGS, now);
        assert_eq!(outbox.deadline(), Some(now + Duration::from_secs(5)));
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
}
