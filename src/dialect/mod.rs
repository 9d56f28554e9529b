//! One client's language: what messages mean, what answers look like. No I/O, no clock.
//!
//! A [`Session`] belongs to one connection. It turns messages into [`Action`]s for the hub, and the
//! hub's [`Answer`]s into frames. Live publications never pass through a session: the home of the
//! topic encodes them once for each [`Variant`] (see [`variant`]).

use std::sync::Arc;
use std::time::Instant;

use crate::auth::rate::Rate;
pub use crate::topic::history::{HistoryQuery, Order, Recovery};
use crate::topic::name::TopicName;
use crate::topic::namespace::Namespaces;
use crate::topic::publication::{Payload, Position, Publication, Publisher};
use crate::ws::deflate::{Class, Outbound};
use crate::ws::header::{Opcode, encode_frame};

pub mod allowance;
pub mod cause;
pub mod centrifuge;
pub mod client_id;
pub mod echo;
#[cfg(test)]
mod fixture;
mod json;
pub mod keepalive;
pub mod payload;
pub mod raw;
pub mod scratch;
pub mod variant;

use allowance::Allowance;
use cause::{Cause, Protocol};
use client_id::ClientId;
use scratch::Scratch;
use variant::Variant;

/// Names one open question of a connection; the answer carries it back. In Centrifugo sessions it
/// is the id of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u32);

/// What a session wants to have done.
#[derive(Debug)]
pub enum Action {
    /// Join a topic. Answered by [`Answer::Subscribed`] or [`Answer::Refused`].
    Subscribe {
        /// Carried back by the answer.
        ticket: Ticket,
        /// Which.
        topic: TopicName,
        /// Deliver what came after this position first.
        since: Option<Position>,
        /// The form in which publications are to be delivered.
        variant: Variant,
    },
    /// Leave a topic. Answered by [`Answer::Unsubscribed`], also when it was not joined.
    Unsubscribe {
        /// Carried back by the answer.
        ticket: Ticket,
        /// Which.
        topic: TopicName,
    },
    /// Publish. Answered by [`Answer::Published`] or [`Answer::Refused`] when there is a ticket.
    Publish {
        /// Carried back by the answer; `None`: nobody waits for it.
        ticket: Option<Ticket>,
        /// Where.
        topic: TopicName,
        /// What.
        payload: Payload,
        /// Who, as subscribers see it.
        publisher: Option<Arc<Publisher>>,
        /// Refuse with [`Refusal::Forbidden`] unless this connection is subscribed.
        only_subscribed: bool,
    },
    /// Read the history. Answered by [`Answer::History`] or [`Answer::Refused`].
    History {
        /// Carried back by the answer.
        ticket: Ticket,
        /// Whose.
        topic: TopicName,
        /// Which part.
        query: HistoryQuery,
        /// Refuse with [`Refusal::Forbidden`] unless this connection is subscribed.
        only_subscribed: bool,
    },
    /// End the connection for this cause, after the frames written so far.
    Close(Cause),
}

/// What the hub says to a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Joined: deliveries follow. `position` is `None` on topics without positions.
    Subscribed {
        /// The newest publication before the first delivery.
        position: Option<Position>,
        /// What became of the wish to recover.
        recovery: Recovery,
    },
    /// Left: no delivery follows.
    Unsubscribed,
    /// Published.
    Published,
    /// A part of the history and the topic's position.
    History {
        /// In the order asked for.
        publications: Vec<Arc<Publication>>,
        /// The newest publication's; `None` on topics without positions.
        position: Option<Position>,
    },
    /// Not done.
    Refused(Refusal),
}

/// Why the hub does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The connection is subscribed already.
    AlreadySubscribed,
    /// Subscriptions per connection, or topics in all, are at their limit.
    LimitExceeded,
    /// The namespace does not allow it.
    Forbidden,
    /// No such namespace.
    UnknownTopic,
    /// The topic keeps no history.
    NotAvailable,
    /// `since` names another epoch than the topic's.
    UnrecoverablePosition,
    /// It may work later.
    TryAgain,
}

impl Action {
    /// The ticket of the answer that this asks for.
    pub const fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Subscribe { ticket, .. }
            | Self::Unsubscribe { ticket, .. }
            | Self::History { ticket, .. } => Some(*ticket),
            Self::Publish { ticket, .. } => *ticket,
            Self::Close(_) => None,
        }
    }
}

/// What a session works with during one call.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Instant,
    /// Where frames for the client are appended, complete with their headers.
    pub frames: &'a mut Vec<u8>,
    /// Where actions are appended, in order.
    pub actions: &'a mut Vec<Action>,
    /// What topics may do.
    pub namespaces: &'a Namespaces,
    /// When the client was pinged.
    pub keepalive: &'a mut keepalive::Keepalive,
    /// What the client has used of its commands.
    pub allowance: &'a mut Allowance,
    /// Settings of this room.
    pub settings: &'a Settings,
    /// Buffers for reading JSON.
    pub scratch: &'a mut Scratch,
    /// Counts the messages written to `frames`.
    pub written: &'a mut u64,
    /// Compresses messages, where that was agreed.
    pub outbound: Option<Outbound<'a>>,
}

impl Context<'_> {
    /// Writes one message for the client.
    fn write(&mut self, opcode: Opcode, payload: &[u8]) {
        match &mut self.outbound {
            Some(outbound) => outbound.encode_frame(self.frames, opcode, payload),
            None => encode_frame(self.frames, opcode, payload),
        }
        *self.written += 1;
    }

    /// Writes one message for the client that must not be compressed.
    fn write_plain(&mut self, opcode: Opcode, payload: &[u8]) {
        encode_frame(self.frames, opcode, payload);
        *self.written += 1;
    }

    /// Writes a Ping.
    fn write_ping(&mut self) {
        encode_frame(self.frames, Opcode::Ping, b"");
    }

    /// The class in which the client takes messages that it shares with others.
    fn class(&self) -> Option<Class> {
        self.outbound.as_ref().and_then(|outbound| Class::of(outbound.window_bits))
    }
}

/// Settings of the client languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pings of raw and echo clients.
    pub ping: keepalive::Settings,
    /// How many commands a client may send; `None`: any number.
    pub commands: Option<Rate>,
    /// Settings of the Centrifugo protocol.
    pub centrifuge: centrifuge::Settings,
}

/// The language of one connection and what it remembers.
#[derive(Debug)]
pub enum Session {
    /// One topic, no envelope.
    Raw(raw::Session),
    /// Every message comes back.
    Echo,
    /// Centrifugo v2 JSON.
    Centrifuge(Box<centrifuge::Session>),
}

impl Session {
    /// The language.
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Raw(_) => Protocol::Raw,
            Self::Echo => Protocol::Echo,
            Self::Centrifuge(_) => Protocol::Centrifuge,
        }
    }

    /// The name of the connection, where the language has one.
    pub fn client_id(&self) -> Option<ClientId> {
        match self {
            Self::Raw(_) | Self::Echo => None,
            Self::Centrifuge(session) => Some(session.client_id()),
        }
    }

    /// How often to ping and how long to wait.
    pub const fn ping_settings(&self, settings: &Settings) -> keepalive::Settings {
        match self {
            Self::Raw(_) | Self::Echo => settings.ping,
            Self::Centrifuge(_) => settings.centrifuge.ping,
        }
    }

    /// Takes a text message; `text` is valid UTF-8.
    pub fn message_text(&mut self, text: &[u8], cx: &mut Context<'_>) {
        match self {
            Self::Raw(session) => {
                cx.keepalive.answered(cx.settings.ping);
                session.message_text(text, cx);
            }
            Self::Echo => {
                cx.keepalive.answered(cx.settings.ping);
                echo::message_text(text, cx);
            }
            Self::Centrifuge(session) => session.message_text(text, cx),
        }
    }

    /// Takes a binary message.
    pub fn message_binary(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        match self {
            Self::Raw(session) => {
                cx.keepalive.answered(cx.settings.ping);
                session.message_binary(bytes, cx);
            }
            Self::Echo => {
                cx.keepalive.answered(cx.settings.ping);
                echo::message_binary(bytes, cx);
            }
            Self::Centrifuge(_) => cx.actions.push(Action::Close(Cause::UnsupportedData)),
        }
    }

    /// Takes the hub's answer to the question `ticket`.
    ///
    /// The answer to the opening question of a raw client is for [`raw::Session::opened`].
    pub fn answer(&mut self, ticket: Ticket, answer: Answer, cx: &mut Context<'_>) {
        match self {
            Self::Raw(_) | Self::Echo => {
                debug_assert!(false, "{ticket:?} was not asked, yet answered: {answer:?}");
            }
            Self::Centrifuge(session) => session.answer(ticket, answer, cx),
        }
    }

    /// Publications of `topic`, which this client was subscribed to and is no more, are lost: tells it
    /// to subscribe anew, or what ends the connection.
    pub fn lose_position(&mut self, topic: &TopicName, cx: &mut Context<'_>) {
        match self {
            // The topic is all that such a client has.
            Self::Raw(_) => cx.actions.push(Action::Close(Cause::PositionLost)),
            Self::Echo => debug_assert!(false, "it subscribes to nothing"),
            Self::Centrifuge(session) => session.lose_position(topic, cx),
        }
    }

    /// Writes a ping; to be called when the keepalive says [`keepalive::Due::Ping`].
    pub fn ping(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Raw(_) | Self::Echo => cx.write_ping(),
            Self::Centrifuge(session) => session.ping(cx),
        }
    }

    /// Takes a Pong frame.
    pub fn pong(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Raw(_) | Self::Echo => cx.keepalive.answered(cx.settings.ping),
            Self::Centrifuge(session) => session.pong(cx),
        }
    }

    /// When [`Session::timeout`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Raw(_) | Self::Echo => None,
            Self::Centrifuge(session) => session.deadline(),
        }
    }

    /// Does what is due at `cx.now`.
    pub fn timeout(&mut self, cx: &mut Context<'_>) {
        if let Self::Centrifuge(session) = self {
            session.timeout(cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::Fixture;
    use super::*;

    #[test]
    fn plain_clients_are_pinged_with_frames_and_anything_they_send_is_life() {
        let mut fixture = Fixture::new();
        let mut session = Session::Echo;
        type Sign = fn(&mut Session, &mut Context<'_>);
        let signs: [Sign; 3] = [
            |session, cx| session.pong(cx),
            |session, cx| session.message_text(b"", cx),
            |session, cx| session.message_binary(b"", cx),
        ];
        for sign in signs {
            fixture.ping_due();
            fixture.frames.clear();
            session.ping(&mut fixture.cx());
            assert_eq!(fixture.frames, [0x89, 0x00]);
            assert!(fixture.keepalive.is_awaiting());
            sign(&mut session, &mut fixture.cx());
            assert!(!fixture.keepalive.is_awaiting());
        }
        assert_eq!(session.deadline(), None);
        assert_eq!(session.client_id(), None);
        assert_eq!(session.ping_settings(&fixture.settings), fixture.settings.ping);
    }
}
