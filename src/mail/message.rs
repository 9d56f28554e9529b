//! What threads say to each other.

use std::sync::Arc;

use bytes::Bytes;

use crate::topic::history::{HistoryQuery, Recovery};
use crate::topic::home::Draft;
use crate::topic::interests::FORMS_MAX;
use crate::topic::name::TopicName;
use crate::topic::namespace::Mode;
use crate::topic::publication::{Position, Publication};
use crate::topic::splice::{Errand, News};

use super::close::{Closes, Filter};

/// Who asked, and where the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The thread.
    pub node: usize,
    /// Its connection's slot (on the control thread: of the open call).
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// The connection's own mark.
    pub ticket: u32,
}

/// A question to the home of a topic, or from the control thread to a shard.
#[derive(Clone, Debug)]
pub enum Request {
    /// Deliver publications of `topic` to the asker's thread. Answered by [`Reply::Granted`].
    Subscribe {
        /// Who.
        asker: Asker,
        /// To what.
        topic: TopicName,
        /// In which form.
        form: u8,
        /// Say first what came after this position.
        since: Option<Position>,
    },
    /// Takes one grant back. Not answered.
    Release {
        /// Whose.
        node: usize,
        /// Of what.
        topic: TopicName,
        /// In which form.
        form: u8,
    },
    /// Publish. Answered by [`Reply::Published`] when somebody asks.
    Publish {
        /// Who wants to know.
        asker: Option<Asker>,
        /// What.
        draft: Draft,
    },
    /// Read the history. Answered by [`Reply::History`].
    History {
        /// Who.
        asker: Asker,
        /// Of what.
        topic: TopicName,
        /// Which part.
        query: HistoryQuery,
    },
    /// Do something for a home; asked of an engine link.
    Errand {
        /// The shard.
        home: usize,
        /// What.
        errand: Errand,
    },
    /// Learn what an engine has; told by its link.
    News {
        /// The link's thread.
        link: usize,
        /// What.
        news: News,
    },
    /// List the topics at home here. Answered by [`Reply::Census`].
    Census {
        /// Who.
        asker: Asker,
    },
    /// End connections. Answered by [`Reply::Disconnected`].
    Disconnect {
        /// Who.
        asker: Asker,
        /// The id of the connection.
        client: Arc<str>,
        /// Close code.
        code: u16,
        /// Close reason.
        reason: Arc<str>,
    },
    /// Tell of the last closes. Answered by [`Reply::Closes`].
    Closes {
        /// Who.
        asker: Asker,
        /// Which.
        filter: Filter,
    },
    /// Show that you still turn. Answered by [`Reply::Pong`].
    Ping {
        /// Who.
        asker: Asker,
    },
    /// Take over the newest settings of shards: they lie where the daemon has put them, since this room
    /// does not know them. Answered by [`Reply::Pong`].
    Renew {
        /// Who.
        asker: Asker,
    },
    /// Memory is as short as this from now on.
    Memory(Shortage),
    /// Close clients that hold much memory, until about this many bytes are free.
    Shed {
        /// How many.
        bytes: usize,
    },
    /// Stop accepting and close all connections.
    Drain {
        /// Over how many milliseconds the closes are spread.
        window_ms: u64,
    },
    /// Close what is left at once and end the thread.
    Stop,
}

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// Not at all.
    #[default]
    None,
    /// Idle connections are closed sooner, and no publication is compressed any more.
    Mild,
    /// New connections are refused.
    Tight,
    /// Clients that hold much are closed.
    Severe,
    /// Nobody is accepted.
    Critical,
}

/// A publication in the forms that subscribers asked for, each encoded once.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Where it was published.
    pub topic: TopicName,
    /// How the topic treats its past.
    pub mode: Mode,
    /// Complete frames, by form; `None`: nobody wants it.
    pub forms: [Option<Bytes>; FORMS_MAX],
}

/// What travels to a thread: publications and answers, in one order.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A publication, and the publisher's answer when it is from that thread.
    Publication {
        /// What.
        encoded: Arc<Encoded>,
        /// Whom to tell that it was published, and where in the order.
        ack: Option<(Asker, Option<Position>)>,
    },
    /// Subscribers of this topic missed something that is gone.
    Lost(TopicName),
    /// An answer.
    Reply {
        /// To whom.
        to: Asker,
        /// What.
        reply: Reply,
    },
}

/// An answer to a [`Request`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Subscribed; publications follow on the same lane.
    Granted {
        /// To what.
        topic: TopicName,
        /// In which form.
        form: u8,
        /// The newest publication before the first delivery; `None` without positions.
        position: Option<Position>,
        /// What became of the wish to recover.
        recovery: Recovery,
    },
    /// Published at this position (`None` without positions).
    Published(Option<Position>),
    /// A part of the history.
    History {
        /// In the order asked for.
        publications: Vec<Arc<Publication>>,
        /// The newest publication's.
        position: Position,
    },
    /// Topics at home on one shard, with their subscribers.
    Census(Vec<(TopicName, u64)>),
    /// How many connections were told to go.
    Disconnected(usize),
    /// The last closes of one shard.
    Closes(Closes),
    /// The thread still turns, or has done what it was told.
    Pong,
    /// Not done.
    Refused {
        /// About what.
        topic: TopicName,
        /// Why.
        why: Refused,
    },
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many topics.
    TopicsExhausted,
    /// No namespace of that name.
    UnknownNamespace,
    /// The topic keeps no history.
    NoHistory,
    /// The position is of another epoch.
    OtherEpoch,
    /// Publications of this topic cannot be kept out of its history.
    MustKeep,
    /// The engine of the topic cannot be reached; nothing was done.
    BrokerDown,
    /// The engine of the topic has not answered in time; what it did is unknown.
    BrokerSilent,
}
