//! One client: from the opening handshake to the end, without I/O.
//!
//! A [`connection::Connection`] gets bytes, answers, deadlines and the peer's end; it appends frames
//! and actions to the [`Context`], and its [`connection::Stage`] says what the socket is to do next.
//! What is queued for the client is kept beside it, in an [`outbox::Outbox`].

use std::time::{Duration, Instant};

use crate::auth::rate::Rate;
use crate::dialect::cause::{DrainNotice, Protocol};
use crate::dialect::scratch::Scratch;
use crate::dialect::{self, Action};
use crate::http1::error::HeadError;
use crate::http1::head::HeadLimits;
use crate::http1::status::Status;
use crate::topic::namespace::Namespaces;
use crate::ws::deflate;
pub use crate::ws::deflate::Codec;
use crate::ws::handshake::Refusal;
use crate::ws::receiver::Limits;

use guest::Lack;

pub mod closing;
pub mod connection;
pub mod guest;
mod last_words;
mod newest;
mod open;
pub mod outbox;
pub mod route;
#[cfg(test)]
pub(crate) mod tests;
pub mod tls;
mod upgrade;

/// Every reason for which a request is refused.
pub const REFUSAL_REASONS: [&str; REFUSAL_REASONS_COUNT] = {
    let mut reasons = [""; REFUSAL_REASONS_COUNT];
    let mut at = 0;
    while at < reasons.len() {
        let heads = HeadError::ALL.len();
        let upgrades = heads + UPGRADE_REFUSALS.len();
        let lacks = upgrades + Lack::ALL.len();
        reasons[at] = if at < heads {
            HeadError::ALL[at].reason()
        } else if at < upgrades {
            UPGRADE_REFUSALS[at - heads].reason()
        } else if at < lacks {
            Lack::ALL[at - upgrades].reason()
        } else {
            upgrade::REASONS[at - lacks]
        };
        at += 1;
    }
    reasons
};

const REFUSAL_REASONS_COUNT: usize =
    HeadError::ALL.len() + UPGRADE_REFUSALS.len() + Lack::ALL.len() + upgrade::REASONS.len();

/// The refusals whose reason is not one of [`HeadError`] too.
const UPGRADE_REFUSALS: &[Refusal] = match Refusal::ALL {
    [Refusal::MethodNotAllowed, others @ ..] => others,
    _ => panic!("the wrong method comes first"),
};

/// Settings of connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of request heads.
    pub head: HeadLimits,
    /// How long the opening handshake may take.
    pub head_timeout: Duration,
    /// Limits of inbound messages.
    pub messages: Limits,
    /// How long a message that was begun may take to arrive.
    pub message_timeout: Duration,
    /// How long the closing handshake may take.
    pub close_timeout: Duration,
    /// How long a client may be silent but for pongs; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How many control frames a client may send.
    pub control_frames: Rate,
    /// Which routes there are.
    pub routes: route::Routes,
    /// Who may come in, by listener.
    pub doors: Vec<guest::Door>,
    /// Limits for each address.
    pub addresses: guest::AddressLimits,
    /// Settings of the client protocols.
    pub dialect: dialect::Settings,
    /// What topics may do.
    pub namespaces: Namespaces,
    /// What raw and echo clients are told when the gateway drains.
    pub drain: DrainNotice,
    /// Limits of what a client may leave unread.
    pub outbox: outbox::Settings,
    /// How messages are compressed; `None`: they are not.
    pub deflate: Option<deflate::Settings>,
    /// The page at `/`, when there is one.
    pub page: Option<&'static str>,
}

/// What a connection works with during one call.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Instant,
    /// Bytes for the client are appended here.
    pub frames: &'a mut Vec<u8>,
    /// What the hub is to do is appended here.
    pub actions: &'a mut Vec<Action>,
    /// What has happened.
    pub tally: &'a mut Tally,
    /// Memory for parsing.
    pub scratch: &'a mut Scratch,
    /// What messages are compressed and inflated with.
    pub codec: &'a mut Codec,
    /// Settings of connections.
    pub settings: &'a Settings,
    /// Chance: client ids and the spread of pings.
    pub random: &'a mut fastrand::Rng,
    /// Who the client is, where somebody has to know.
    pub guest: Option<&'a mut guest::Guest>,
    /// Whether the client reads slower than we write: then at most one pong is kept for it.
    pub is_backlogged: bool,
}

/// What happened during one call, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages received whole.
    pub messages: u64,
    /// Messages written.
    pub written: u64,
    /// Payload bytes of the largest of those received.
    pub message_bytes_max: usize,
    /// Bytes written of frames that the limits of the outbox do not count: pings and pongs.
    pub control_bytes: usize,
    /// Pings received.
    pub pings_received: u64,
    /// Pings written.
    pub pings: u64,
    /// Answers to our pings.
    pub pongs: u64,
    /// The connection was upgraded.
    pub opened: Option<Protocol>,
    /// The request was refused.
    pub refused: Option<(Status, &'static str)>,
    /// The connection ends before its request was heard.
    pub unheard: Option<guest::Unheard>,
    /// A Close was written, with this code (1005: none).
    pub close_sent: Option<u16>,
    /// A Close was read, with this code (1005: none).
    pub close_received: Option<u16>,
}
