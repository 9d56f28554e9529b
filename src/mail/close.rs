//! The story of one connection's end, as operators are told it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::ring::TcpInfo;

/// What an operator expects of an end. Each kind is remembered apart, so that a storm of one of them
/// does not make the others forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something was wrong.
    Abnormal,
    /// The client went in order, or was told to by a drain.
    Orderly,
    /// It was never upgraded.
    Unopened,
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Abnormal, Self::Orderly, Self::Unopened];

    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Abnormal => "abnormal",
            Self::Orderly => "orderly",
            Self::Unopened => "unopened",
        }
    }
}

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was upgraded.
    Opened = 1,
    /// A message came.
    Message,
    /// It published.
    Publish,
    /// It asked for a topic.
    Subscribe,
    /// It left a topic.
    Unsubscribe,
    /// It sent a ping.
    PingReceived,
    /// We sent a ping.
    PingSent,
    /// It answered our ping.
    PongReceived,
    /// Its socket was full: output began to wait.
    BacklogBegan,
    /// What waited has gone out.
    BacklogEnded,
    /// What waited was thrown away.
    OutputDropped,
    /// We sent a Close.
    CloseSent,
    /// It sent a Close.
    CloseReceived,
    /// It sent FIN.
    FinReceived,
    /// The transport failed.
    Failed,
}

impl Event {
    /// Every event, in the order of the enum.
    pub const ALL: [Self; 15] = [
        Self::Opened,
        Self::Message,
        Self::Publish,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::PingReceived,
        Self::PingSent,
        Self::PongReceived,
        Self::BacklogBegan,
        Self::BacklogEnded,
        Self::OutputDropped,
        Self::CloseSent,
        Self::CloseReceived,
        Self::FinReceived,
        Self::Failed,
    ];

    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Message => "message",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::PingReceived => "ping_received",
            Self::PingSent => "ping_sent",
            Self::PongReceived => "pong_received",
            Self::BacklogBegan => "backlog_began",
            Self::BacklogEnded => "backlog_ended",
            Self::OutputDropped => "output_dropped",
            Self::CloseSent => "close_sent",
            Self::CloseReceived => "close_received",
            Self::FinReceived => "fin_received",
            Self::Failed => "failed",
        }
    }

    /// The event whose place this one takes when it follows at once: a message that published is a
    /// publish, and an answered ping no longer matters.
    const fn refines(self) -> Option<Self> {
        match self {
            Self::Publish | Self::Subscribe | Self::Unsubscribe => Some(Self::Message),
            Self::PongReceived => Some(Self::PingSent),
            _ => None,
        }
    }
}

/// The last eight events of a connection, without repetitions, in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History(u32);

impl History {
    /// Adds an event.
    pub fn note(&mut self, event: Event) {
        if event.refines().is_some_and(|coarse| self.0 & 0xF == coarse as u32) {
            self.0 >>= 4;
        }
        if self.0 & 0xF != event as u32 {
            self.0 = self.0 << 4 | event as u32;
        }
    }

    /// The events, oldest first.
    pub fn events(self) -> impl Iterator<Item = Event> {
        let marks = (0..8).rev().map(move |at| self.0 >> (4 * at) & 0xF);
        marks.filter_map(|mark| Event::ALL.into_iter().find(|event| *event as u32 == mark))
    }
}

/// How one connection has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Close {
    /// When.
    pub at: Instant,
    /// How long after it was accepted.
    pub age: Duration,
    /// What was to be expected.
    pub kind: Kind,
    /// The shard.
    pub shard: usize,
    /// Index of the listener in the configuration.
    pub listener: u16,
    /// The address at the other end of its socket.
    pub peer: Option<SocketAddr>,
    /// The client's own address, where `peer` is a trusted proxy that told it.
    pub forwarded_for: Option<IpAddr>,
    /// The client protocol; `None`: it was never upgraded.
    pub protocol: Option<&'static str>,
    /// The client's id, where its protocol has one.
    pub client: Option<Box<str>>,
    /// The close code, as it is counted; `None`: it was never upgraded.
    pub code: Option<u16>,
    /// The label of that code.
    pub code_label: &'static str,
    /// Which side ended it.
    pub initiator: &'static str,
    /// Why.
    pub cause: &'static str,
    /// The code of our Close; 1005: none; `None`: no Close.
    pub sent: Option<u16>,
    /// The reason of our Close.
    pub sent_reason: Option<Box<str>>,
    /// The code of the client's Close; 1005: none; `None`: no Close.
    pub received: Option<u16>,
    /// The reason of the client's Close: whatever the client liked to write.
    pub received_reason: Option<Box<str>>,
    /// Topics that it was subscribed to, or about to be.
    pub topics: usize,
    /// Bytes queued for the client that no send has carried.
    pub unsent_bytes: usize,
    /// What happened last.
    pub history: History,
    /// What the kernel knew.
    pub tcp: Option<TcpInfo>,
}

/// Which closes are asked for; `None`: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those with this code.
    pub code: Option<u16>,
    /// Those whose code has this label.
    pub code_label: Option<&'static str>,
    /// Those with this cause.
    pub cause: Option<&'static str>,
    /// Those that this side ended.
    pub initiator: Option<&'static str>,
    /// Those of this protocol.
    pub protocol: Option<&'static str>,
    /// Those since then.
    pub since: Option<Instant>,
    /// At most so many, the newest.
    pub limit: usize,
}

impl Filter {
    /// Whether `close` is asked for.
    pub fn admits(&self, close: &Close) -> bool {
        self.code.is_none_or(|code| close.code == Some(code))
            && self.code_label.is_none_or(|label| close.code_label == label)
            && self.cause.is_none_or(|cause| close.cause == cause)
            && self.initiator.is_none_or(|initiator| close.initiator == initiator)
            && self.protocol.is_none_or(|protocol| close.protocol == Some(protocol))
            && self.since.is_none_or(|since| close.at >= since)
    }
}

/// How many ends of one kind there were, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// All that there were.
    pub ended: u64,
    /// Those that were written down; the others were too many at a time.
    pub recorded: u64,
    /// Those that are still held; the others were too old.
    pub held: u64,
}

/// What one shard knows of the closes that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Closes {
    /// Newest first.
    pub found: Vec<Close>,
    /// How many there would have been without a limit.
    pub matched: usize,
    /// The books of all kinds, in the order of [`Kind::ALL`].
    pub books: [Book; 3],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &[Event]) -> Vec<Event> {
        let mut history = History::default();
        events.iter().for_each(|event| history.note(*event));
        history.events().collect()
    }

    #[test]
    fn a_history_holds_the_last_eight_events_in_their_order() {
        assert_eq!(told(&[]), []);
        use Event::*;
        assert_eq!(told(&[Opened, Message, CloseReceived]), [Opened, Message, CloseReceived]);
        let alternating = [BacklogBegan, BacklogEnded].repeat(20);
        assert_eq!(told(&alternating), [BacklogBegan, BacklogEnded].repeat(4));
        assert_eq!(told(&Event::ALL)[6..], [FinReceived, Failed]);
    }

    #[test]
    fn what_is_repeated_or_said_better_takes_one_place() {
        use Event::*;
        assert_eq!(told(&[Opened, Message, Message, Message]), [Opened, Message]);
        let publishes = [Message, Publish].repeat(9);
        assert_eq!(told(&publishes), [Publish]);
        assert_eq!(told(&[PingSent, PongReceived].repeat(9)), [PongReceived]);
        assert_eq!(told(&[PingSent, PongReceived, PingSent]), [PongReceived, PingSent]);
        assert_eq!(told(&[Message, Subscribe, Message]), [Subscribe, Message]);
    }
}
