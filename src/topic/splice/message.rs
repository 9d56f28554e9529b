//! What homes and engine links say to each other about a topic, and what follows from it.

use std::sync::Arc;

use super::super::name::TopicName;
use super::super::publication::{Epoch, Position, Publication};
use super::super::sequence::Joined;

/// What a home wants of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Send what is published to the topic. Answered by [`News::Listening`], and again whenever
    /// publications may have been missed.
    Listen {
        /// Which.
        topic: TopicName,
        /// Carried back by the answers.
        ticket: u32,
    },
    /// Send no more of it.
    Ignore {
        /// Of what.
        topic: TopicName,
    },
    /// Say what came after an offset. Answered by [`News::Read`].
    Read {
        /// To what.
        topic: TopicName,
        /// Carried back by the answer.
        ticket: u32,
        /// The offset.
        since: u64,
    },
    /// The engine has forgotten publications that were delivered: let the topic begin a new life,
    /// unless it has one. Answered by [`News::Listening`].
    Renew {
        /// Which.
        topic: TopicName,
        /// Carried back by the answer.
        ticket: u32,
        /// The life that is to end.
        epoch: Epoch,
    },
}

/// What an engine link tells a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The engine can be reached.
    Up,
    /// It cannot: nothing that was asked will be answered. Told again when a connection ends that
    /// had fallen silent before.
    Down,
    /// From before this position on, the engine sends what is published.
    Listening {
        /// Where.
        topic: TopicName,
        /// Of the question.
        ticket: u32,
        /// Where it has come to; `None` on topics without positions.
        head: Option<Head>,
    },
    /// The engine does not say where the topic has come to. It is asked again by and by, for as long
    /// as the topic is not to be ignored.
    Unknown {
        /// Which.
        topic: TopicName,
        /// Of the question.
        ticket: u32,
    },
    /// A publication.
    Arrived {
        /// The life of the topic that its offset belongs to; `None` on topics without positions.
        epoch: Option<Epoch>,
        /// What.
        publication: Arc<Publication>,
    },
    /// What was asked for by [`Errand::Read`].
    Read {
        /// Of what.
        topic: TopicName,
        /// Of the question.
        ticket: u32,
        /// `None`: it could not be read.
        found: Option<Found>,
    },
}

/// Where a topic has come to, as its engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest publication.
    pub position: Position,
    /// How often the engine was started again in this life of the topic.
    pub restarts: u64,
    /// The newest offset that the engine remembered when it was started last.
    pub kept: u64,
}

/// A part of an engine's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The newest publication at the time.
    pub head: Position,
    /// What is left of those after the offset that was named, oldest first.
    pub publications: Vec<Arc<Publication>>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Effect<A> {
    /// Ask the engine.
    Ask(Errand),
    /// Deliver to all threads with interest.
    Deliver(Arc<Publication>),
    /// Tell a subscriber that it is one.
    Granted {
        /// Whom.
        asker: A,
        /// Of what.
        topic: TopicName,
        /// In which form.
        form: u8,
        /// Where it begins.
        joined: Joined,
    },
    /// Tell somebody that it is no subscriber: the engine cannot be reached.
    Refused {
        /// Whom.
        asker: A,
        /// Of what.
        topic: TopicName,
    },
    /// Tell all subscribers that they missed something that is gone.
    Lost(TopicName),
}

/// Somebody who wants to subscribe.
#[derive(Clone, Debug)]
pub struct Applicant<A> {
    /// Who.
    pub asker: A,
    /// On which thread.
    pub node: usize,
    /// In which form.
    pub form: u8,
    /// Say first what came after this position.
    pub since: Option<Position>,
}

/// How gaps in what the engine sent have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// What was missing was read.
    pub healed: u64,
    /// What was missing is gone, and subscribers were told.
    pub lost: u64,
}
