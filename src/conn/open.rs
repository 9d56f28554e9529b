//! The open phase: messages in, replies out.

use std::time::Instant;

use crate::auth::rate::Meter;
use crate::dialect::allowance::Allowance;
use crate::dialect::cause::Cause;
use crate::dialect::keepalive::{Due, Keepalive};
use crate::dialect::{self, Action, Answer, Session, Ticket};
use crate::topic::name::TopicName;
use crate::ws::close::CloseCode;
use crate::ws::deflate::{Outbound, Peer};
use crate::ws::error::ProtocolError;
use crate::ws::header::{Opcode, Rsv, encode_frame};
use crate::ws::receiver::{Event, Kind, Receiver};

use super::Context;
use super::closing::Ending;

/// Messages of one connection that are handled in one turn; the rest waits for the next one.
const TURN_MESSAGES_MAX: usize = 64;

/// Bytes that messages of one connection are inflated to in one turn; then the rest waits, too.
const TURN_INFLATED_MAX: u64 = 256 * 1024;

/// Questions of one connection that may be open; then it is not read.
pub(super) const TICKETS_MAX: u16 = 16;

/// An upgraded connection.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) session: Session,
    receiver: Receiver,
    /// What was agreed about compression; `None`: nothing.
    peer: Option<Box<Peer>>,
    keepalive: Keepalive,
    control_frames: Meter,
    allowance: Allowance,
    /// The last time something other than a pong came.
    heard: Instant,
    /// What has begun and not ended; an idle client has nothing of it.
    unfinished: Option<Box<Unfinished>>,
}

#[derive(Debug, Default)]
struct Unfinished {
    /// When the message that has begun must be complete.
    message_deadline: Option<Instant>,
    /// The payload of the last ping, while the client does not read our pongs.
    pong_owed: Option<Box<[u8]>>,
}

/// How far the input was read.
#[derive(Debug)]
pub(super) enum Read {
    /// To its end.
    All,
    /// As far as one turn allows, or until the connection is to end.
    Part,
    /// The client closes, for this reason.
    Closed(Option<Box<str>>),
    /// The client breaks the protocol.
    Broken(ProtocolError),
    /// The connection is to end for this cause.
    End(Cause),
}

impl Open {
    pub(super) fn new(session: Session, peer: Option<Box<Peer>>, cx: &mut Context<'_>) -> Self {
        let settings = session.ping_settings(&cx.settings.dialect);
        Self {
            session,
            receiver: Receiver::new(peer.as_ref().map_or(Rsv::NONE, |_| Rsv::RSV1)),
            peer,
            keepalive: Keepalive::new(cx.now, settings, cx.random.f32()),
            control_frames: Meter::new(cx.now),
            allowance: Allowance::default(),
            heard: cx.now,
            unfinished: None,
        }
    }

    /// Whether messages may come compressed.
    pub(super) fn inflates(&self) -> bool {
        self.peer.is_some()
    }

    pub(super) fn keeps_context(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.context.is_some())
    }

    /// Reads frames from the front of `input`; returns how many bytes were used up.
    ///
    /// Stops early when `pending`, the number of open questions, is at its limit, or when compressed
    /// messages are to wait.
    pub(super) fn read(
        &mut self,
        input: &mut [u8],
        ending: &mut Ending,
        pending: &mut u16,
        cx: &mut Context<'_>,
    ) -> (usize, Read) {
        let mut used = 0;
        let mut read = Read::Part;
        let inflated_before = cx.codec.numbers().inflated_to;
        for _ in 0..TURN_MESSAGES_MAX {
            let inflated = cx.codec.numbers().inflated_to - inflated_before;
            if *pending >= TICKETS_MAX
                || inflated >= TURN_INFLATED_MAX
                || self.inflates() && cx.codec.is_spent()
            {
                break;
            }
            let consumed;
            (consumed, read) = self.read_one(&mut input[used..], ending, pending, cx);
            used += consumed;
            if !matches!(read, Read::Part) {
                break;
            }
        }
        self.watch_message(cx);
        (used, read)
    }

    /// Reads up to the next event; [`Read::Part`] means that there may be more.
    fn read_one(
        &mut self,
        input: &mut [u8],
        ending: &mut Ending,
        pending: &mut u16,
        cx: &mut Context<'_>,
    ) -> (usize, Read) {
        let received = match self.receiver.receive(input, &cx.settings.messages) {
            Ok(received) => received,
            Err(error) => return (0, Read::Broken(error)),
        };
        let consumed = received.consumed;
        let Some(event) = received.event else { return (consumed, Read::All) };
        let before = cx.actions.len();
        if !matches!(event, Event::Pong(_)) {
            self.heard = cx.now;
        }
        match event {
            Event::Text(text) => {
                note_message(text.len(), cx);
                let mut dialect =
                    dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
                self.session.message_text(text, &mut dialect);
            }
            Event::Binary(bytes) => {
                note_message(bytes.len(), cx);
                let mut dialect =
                    dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
                self.session.message_binary(bytes, &mut dialect);
            }
            Event::Compressed(kind, payload) => {
                let bytes_max = cx.settings.messages.message_bytes_max;
                let peer = self.peer.as_deref_mut();
                let message = match cx.codec.inflate(kind, payload, peer, bytes_max) {
                    Ok(message) => message,
                    Err(error) => return (consumed, Read::Broken(error)),
                };
                note_message(message.bytes().len(), cx);
                let mut dialect =
                    dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
                match kind {
                    Kind::Text => self.session.message_text(message.bytes(), &mut dialect),
                    Kind::Binary => self.session.message_binary(message.bytes(), &mut dialect),
                }
                cx.codec.recycle(message);
            }
            Event::Ping(payload) => {
                if !self.control_frames.admit(cx.now, cx.settings.control_frames) {
                    return (consumed, Read::End(Cause::ControlFlood));
                }
                cx.tally.pings_received += 1;
                if cx.is_backlogged {
                    self.unfinished.get_or_insert_default().pong_owed = Some(payload.into());
                } else {
                    write_pong(payload, cx);
                }
            }
            Event::Pong(_) => {
                if !self.control_frames.admit(cx.now, cx.settings.control_frames) {
                    return (consumed, Read::End(Cause::ControlFlood));
                }
                cx.tally.pongs += 1;
                let mut dialect =
                    dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
                self.session.pong(&mut dialect);
            }
            Event::Close(close) => {
                ending.begin(Cause::ClientClose);
                ending.receive(close.map(|(code, _)| code), cx);
                ending.write(close.map(|(code, _)| (code, "")), cx);
                return (consumed, Read::Closed(reason(close)));
            }
        }
        (consumed, settle(before, pending, cx))
    }

    /// Gives the session an answer of the hub.
    pub(super) fn answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        pending: &mut u16,
        cx: &mut Context<'_>,
    ) -> Read {
        let before = cx.actions.len();
        let mut dialect = dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
        self.session.answer(ticket, answer, &mut dialect);
        settle(before, pending, cx)
    }

    /// Tells the session that publications are lost.
    pub(super) fn lose_position(&mut self, topic: &TopicName, cx: &mut Context<'_>) -> Read {
        let mut pending = 0;
        let before = cx.actions.len();
        let mut dialect = dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
        self.session.lose_position(topic, &mut dialect);
        settle(before, &mut pending, cx)
    }

    /// Does what is due; tells the cause when the connection is to end.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        if self.message_deadline().is_some_and(|deadline| deadline <= cx.now) {
            return Some(Cause::MessageTimeout);
        }
        let idle = cx.settings.idle_timeout;
        if idle.is_some_and(|idle| self.heard + idle <= cx.now) {
            return Some(Cause::Idle);
        }
        if self.session.deadline().is_some_and(|deadline| deadline <= cx.now) {
            let mut dialect =
                dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
            self.session.timeout(&mut dialect);
            if let Some(Action::Close(cause)) = cx.actions.pop_if(|a| matches!(a, Action::Close(_)))
            {
                return Some(cause);
            }
        }
        let settings = self.session.ping_settings(&cx.settings.dialect);
        match self.keepalive.handle_timeout(cx.now, settings) {
            Due::Nothing => {}
            Due::Dead => return Some(Cause::PingTimeout),
            Due::Ping => {
                cx.tally.pings += 1;
                let before = cx.frames.len();
                let mut dialect =
                    dialect_context(&mut self.keepalive, &mut self.allowance, &self.peer, cx);
                self.session.ping(&mut dialect);
                cx.tally.control_bytes += cx.frames.len() - before;
            }
        }
        None
    }

    /// When [`Open::handle_timeout`] is to be called.
    pub(super) fn deadline(&self, settings: &super::Settings) -> Instant {
        let idle = settings.idle_timeout.map(|idle| self.heard + idle);
        [self.message_deadline(), idle, self.session.deadline()]
            .into_iter()
            .flatten()
            .fold(self.keepalive.deadline(), Instant::min)
    }

    /// The client reads again: pays the pong that is owed.
    pub(super) fn unblocked(&mut self, cx: &mut Context<'_>) {
        let Some(unfinished) = &mut self.unfinished else { return };
        if let Some(payload) = unfinished.pong_owed.take() {
            write_pong(&payload, cx);
        }
        if unfinished.message_deadline.is_none() {
            self.unfinished = None;
        }
    }

    /// The receiver, to look for the client's Close after ours.
    pub(super) fn into_receiver(self) -> Receiver {
        self.receiver
    }

    /// Bytes on the heap that this client owns alone.
    pub(super) fn heap_bytes(&self) -> usize {
        let unfinished = self.unfinished.as_ref().map_or(0, |unfinished| {
            size_of::<Unfinished>() + unfinished.pong_owed.as_ref().map_or(0, |pong| pong.len())
        });
        let session = match &self.session {
            Session::Centrifuge(session) => session.heap_bytes(),
            Session::Raw(_) | Session::Echo => 0,
        };
        let peer = self.peer.as_deref().map_or(0, size_of_val);
        self.receiver.heap_bytes() + self.allowance.heap_bytes() + unfinished + session + peer
    }

    fn message_deadline(&self) -> Option<Instant> {
        self.unfinished.as_ref().and_then(|unfinished| unfinished.message_deadline)
    }

    fn watch_message(&mut self, cx: &Context<'_>) {
        if self.receiver.is_mid_message() {
            let deadline = &mut self.unfinished.get_or_insert_default().message_deadline;
            deadline.get_or_insert(cx.now + cx.settings.message_timeout);
        } else if let Some(unfinished) = &mut self.unfinished {
            unfinished.message_deadline = None;
            if unfinished.pong_owed.is_none() {
                self.unfinished = None;
            }
        }
    }
}

/// Counts what the session asked since `before`, and finds out whether it wants to end.
fn settle(before: usize, pending: &mut u16, cx: &mut Context<'_>) -> Read {
    if let Some(Action::Close(cause)) = cx.actions.pop_if(|a| matches!(a, Action::Close(_))) {
        return Read::End(cause);
    }
    let asked = cx.actions[before..].iter().filter(|action| action.ticket().is_some()).count();
    *pending = pending.saturating_add(u16::try_from(asked).unwrap_or(u16::MAX));
    Read::Part
}

fn write_pong(payload: &[u8], cx: &mut Context<'_>) {
    let before = cx.frames.len();
    encode_frame(cx.frames, Opcode::Pong, payload);
    cx.tally.control_bytes += cx.frames.len() - before;
}

/// The reason that came with a Close, to be kept.
pub(super) fn reason(close: Option<(CloseCode, &str)>) -> Option<Box<str>> {
    close.map(|(_, reason)| reason).filter(|reason| !reason.is_empty()).map(Box::from)
}

fn note_message(len: usize, cx: &mut Context<'_>) {
    cx.tally.messages += 1;
    cx.tally.message_bytes_max = cx.tally.message_bytes_max.max(len);
}

fn dialect_context<'a>(
    keepalive: &'a mut Keepalive,
    allowance: &'a mut Allowance,
    peer: &Option<Box<Peer>>,
    cx: &'a mut Context<'_>,
) -> dialect::Context<'a> {
    let window_bits = peer.as_ref().map(|peer| peer.window_bits);
    let codec = &mut *cx.codec;
    dialect::Context {
        now: cx.now,
        frames: cx.frames,
        actions: cx.actions,
        namespaces: &cx.settings.namespaces,
        keepalive,
        allowance,
        settings: &cx.settings.dialect,
        scratch: cx.scratch,
        written: &mut cx.tally.written,
        outbound: window_bits.map(|window_bits| Outbound { codec, window_bits }),
    }
}
