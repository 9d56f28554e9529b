//! The end of a connection, told truthfully.

use crate::dialect::cause::{Cause, Farewell, Protocol, farewell};
use crate::ws::close::{CloseCode, encode_close};
use crate::ws::error::ProtocolError;

use super::Context;

/// The code that stands for a Close without one.
pub const NO_STATUS: u16 = 1005;

/// The code that stands for an end without a Close.
pub const ABNORMAL: u16 = 1006;

/// Which side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// The client: it sent Close first.
    Client,
    /// This gateway.
    Server,
    /// The network, or a client that went without a word.
    Transport,
}

/// What is known about the end of a connection; the first cause stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending {
    cause: Option<Cause>,
    /// We failed the connection: the peer's Close no longer counts.
    failed: bool,
    sent: Option<u16>,
    received: Option<u16>,
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
            self.received.get_or_insert(code);
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
        self.sent = Some(code);
        cx.tally.close_sent = Some(code);
    }

    /// Fails the connection (RFC 6455 section 7.1.7): nothing from the peer counts any more.
    pub fn fail(&mut self, error: ProtocolError, cx: &mut Context<'_>) {
        self.begin(cause_of(error));
        self.failed = true;
        self.write(Some((error.close_code(), error.reason())), cx);
    }

    /// The last word, when nothing more can come.
    pub fn verdict(&self) -> Verdict {
        let cause = self.cause.unwrap_or(Cause::ClientGone);
        let initiator = match cause {
            Cause::ClientClose => Initiator::Client,
            Cause::ClientGone | Cause::Reset | Cause::TlsAlert | Cause::TlsTruncated => {
                Initiator::Transport
            }
            _ => Initiator::Server,
        };
        let code = match (self.failed, self.received, self.sent) {
            (true, _, Some(sent)) => sent,
            (_, Some(received), _) => received,
            (_, None, _) => ABNORMAL,
        };
        Verdict { code, initiator, cause }
    }
}

/// The cause under which a protocol error is counted.
pub fn cause_of(error: ProtocolError) -> Cause {
    match error.close_code() {
        CloseCode::INVALID_PAYLOAD => Cause::InvalidUtf8,
        CloseCode::MESSAGE_TOO_BIG => Cause::TooBig,
        CloseCode::POLICY_VIOLATION => Cause::Flood,
        _ => Cause::ProtocolError,
    }
}
