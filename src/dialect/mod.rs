//! One client's language: what messages mean, what answers look like. No I/O, no clock.
//!
//! A [`Session`] belongs to one connection. It turns messages into [`Action`]s for the hub, and the
//! hub's [`Answer`]s into frames. Live publications never pass through a session: the home of the
//! topic encodes them once for each [`Variant`] (see [`variant`]).

use std::sync::Arc;
use std::time::Instant;

pub use crate::topic::history::{HistoryQuery, Order, Recovery};
use crate::topic::name::TopicName;
use crate::topic::namespace::Namespaces;
use crate::topic::publication::{Payload, Position, Publication, Publisher};

pub mod cause;
pub mod centrifuge;
pub mod echo;
pub mod keepalive;
pub mod raw;
pub mod variant;

use cause::Cause;
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
    /// Settings of this room.
    pub settings: &'a Settings,
}

/// Settings of the client languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
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
