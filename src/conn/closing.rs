//! The end of a connection, told truthfully.

use std::num::NonZeroU16;

use crate::dialect::cause::{Cause, Farewell, Initiator, Protocol, farewell};
use crate::dialect::client_id::ClientId;
use crate::ws::close::{CloseCode, encode_close};
use crate::ws::error::ProtocolError;

use super::Context;

/// The code that stands for a Close without one.
pub const NO_STATUS: u16 = 1005;

/// The code that stands for an end without a Close.
pub const ABNORMAL: u16 = 1006;

/// What is known about the end of a connection; the first cause stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending {
    cause: Option<Cause>,
    /// We failed the connection: the peer's Close no longer counts.
    failed: bool,
    sent: Option<NonZeroU16>,
    received: Option<NonZeroU16>,
}

/// What is remembered of an upgraded connection when nothing else of it is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epitaph {
    /// The client's id, where its protocol has one.
    pub client: Option<ClientId>,
    /// The reason that came with the client's Close.
    pub heard: Option<Box<str>>,
    /// The reason that the server API gave for the end.
    pub given: Option<Box<str>>,
}

/// The last word on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The close code: of the first Close received, else 1005 or 1006; of the one we sent when we
    /// failed the connection.
    pub code: u16,
    /// Which side ended it.
    pub initiator: Initiator,
    /// Why.
    pub cause: Cause,
    /// The code of our Close (1005: none); `None`: we sent no Close.
    pub sent: Option<u16>,
    /// The code of the client's Close (1005: none); `None`: it sent no Close.
    pub received: Option<u16>,
}

impl Ending {
    /// Whether a cause is known: the connection is ending.
    pub fn has_begun(&self) -> bool {
        self.cause.is_some()
    }

    /// Whether a Close was written.
    pub fn has_sent(&self) -> bool {
        self.sent.is_some()
    }

    /// Notes why the connection ends, if nothing was noted before.
    pub fn begin(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    /// Notes the peer's Close.
    pub fn receive(&mut self, close: Option<CloseCode>, cx: &mut Context<'_>) {
        let code = close.map_or(NO_STATUS, |code| code.0);
        cx.tally.close_received = Some(code);
        if !self.failed {
            self.received = self.received.or(NonZeroU16::new(code));
        }
    }

    /// Writes our Close for `cause` unless one was written.
    pub fn say(&mut self, cause: Cause, protocol: Protocol, cx: &mut Context<'_>) {
        if let Some(Farewell { code, reason }) = farewell(cause, protocol, &cx.settings.drain) {
            self.write(Some((CloseCode(code), &reason)), cx);
        }
    }

    /// Writes a Close unless one was written.
    pub fn write(&mut self, close: Option<(CloseCode, &str)>, cx: &mut Context<'_>) {
        if self.sent.is_some() {
            return;
        }
        let code = close.map_or(NO_STATUS, |(code, _)| code.0);
        encode_close(cx.frames, close);
        self.sent = NonZeroU16::new(code);
        cx.tally.close_sent = Some(code);
    }

    /// Fails the connection (RFC 6455 section 7.1.7): nothing from the peer counts any more.
    pub fn fail(&mut self, error: ProtocolError, protocol: Protocol, cx: &mut Context<'_>) {
        let cause = Cause::Broken(error);
        self.begin(cause);
        self.failed = true;
        self.say(cause, protocol, cx);
    }

    /// The last word, when nothing more can come.
    pub fn verdict(&self) -> Verdict {
        let cause = self.cause.unwrap_or(Cause::ClientGone);
        let (sent, received) = (self.sent.map(NonZeroU16::get), self.received.map(NonZeroU16::get));
        let code = match (self.failed, received, sent) {
            (true, _, Some(sent)) => sent,
            (_, Some(received), _) => received,
            (_, None, _) => ABNORMAL,
        };
        Verdict { code, initiator: cause.initiator(), cause, sent, received }
    }
}
