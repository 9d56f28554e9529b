//! Centrifugo v2 JSON: what unmodified Centrifugo clients speak.
//!
//! A text message is one or more JSON objects, a line each. [`command`] reads them, [`reply`] and
//! [`push`] write what goes back.

use std::mem;
use std::time::{Duration, Instant};

use super::allowance::Verdict;
use super::cause::Cause;
use super::client_id::ClientId;
use super::keepalive;
use super::variant::Compression;
use super::{Action, Answer, Context, Ticket};
use crate::topic::name::TopicName;
use crate::ws::header::Opcode;

pub mod command;
pub mod error;
mod open;
pub(super) mod push;
mod reply;
pub mod scan;

use command::{Line, Method, Token};
use error::ErrorCode;
use open::Open;

/// Settings of the Centrifugo protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pings of these clients.
    pub ping: keepalive::Settings,
    /// How long a client may take to send `connect`.
    pub connect_timeout: Duration,
}

/// How a client is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pings {
    /// With `{}`, which it answers with `{}`.
    Messages,
    /// With Ping frames, as `?cf_ws_frame_ping_pong=true` asks.
    Frames,
}

/// One Centrifugo client.
#[derive(Debug)]
pub struct Session {
    client: ClientId,
    pings: Pings,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// `connect` has not come yet.
    Greeting { deadline: Instant },
    /// Let in.
    Open(Open),
}

/// Whether the rest of a message is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proceed {
    Yes,
    No,
}

impl Session {
    /// A client that has just been upgraded. `random` makes its id, which other
    /// subscribers see: it names a client and proves nothing.
    pub fn new(now: Instant, random: u128, pings: Pings, settings: &Settings) -> Self {
        let deadline = now + settings.connect_timeout;
        let client = ClientId::from_random(random);
        Self { client, pings, phase: Phase::Greeting { deadline } }
    }

    /// The name of the connection.
    pub const fn client_id(&self) -> ClientId {
        self.client
    }

    /// Bytes on the heap that this client owns, its session included.
    pub fn heap_bytes(&self) -> usize {
        let pending = match &self.phase {
            Phase::Greeting { .. } => 0,
            Phase::Open(open) => open.heap_bytes(),
        };
        size_of::<Self>() + pending
    }

    /// When [`Session::timeout`] wants to be called.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Greeting { deadline } => Some(deadline),
            Phase::Open(_) => None,
        }
    }

    /// Ends the connection when `connect` has not come in time.
    pub(super) fn timeout(&mut self, cx: &mut Context<'_>) {
        if self.deadline().is_some_and(|deadline| cx.now >= deadline) {
            cx.actions.push(Action::Close(Cause::ConnectTimeout));
        }
    }

    /// Takes a message of one or more lines.
    pub(super) fn message_text(&mut self, text: &[u8], cx: &mut Context<'_>) {
        begin(cx);
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for line in text.split(|&byte| byte == b'\n') {
            if self.line(line, cx) == Proceed::No {
                break;
            }
        }
        flush(cx);
    }

    /// Takes the hub's answer to the command `ticket`.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer, cx: &mut Context<'_>) {
        if let Phase::Open(open) = &mut self.phase {
            begin(cx);
            open.answer(ticket, answer, cx);
            flush(cx);
        }
    }

    /// Ends the subscription to `topic` in a way after which the client subscribes again.
    pub(super) fn lose_position(&mut self, topic: &TopicName, cx: &mut Context<'_>) {
        begin(cx);
        push::write_unsubscribe(&mut cx.scratch.replies, topic, 2500, "insufficient state");
        flush(cx);
    }

    /// Pings in the agreed way. Before `connect` nothing is agreed, and the deadline watches.
    pub(super) fn ping(&mut self, cx: &mut Context<'_>) {
        match (&self.phase, self.pings) {
            (Phase::Greeting { .. }, _) => cx.keepalive.answered(cx.settings.centrifuge.ping),
            (Phase::Open(_), Pings::Messages) => {
                cx.write(Opcode::Text, b"{}");
            }
            (Phase::Open(_), Pings::Frames) => cx.write_ping(),
        }
    }

    /// Takes a Pong frame, which counts only when Ping frames are agreed.
    pub(super) fn pong(&mut self, cx: &mut Context<'_>) {
        if self.pings == Pings::Frames {
            cx.keepalive.answered(cx.settings.centrifuge.ping);
        }
    }

    fn line(&mut self, line: &[u8], cx: &mut Context<'_>) -> Proceed {
        let Ok(line) = command::parse(line, cx.scratch) else {
            return close(Cause::BadCommand, cx);
        };
        match (&mut self.phase, line) {
            (Phase::Greeting { .. }, Line::Command { id, method: Method::Connect(token) }) => {
                self.connect(id, token, cx)
            }
            (Phase::Greeting { .. }, _)
            | (Phase::Open(_), Line::Command { method: Method::Connect(_), .. }) => {
                close(Cause::BadCommand, cx)
            }
            (Phase::Open(_), Line::Pong) => {
                if self.pings == Pings::Frames || !cx.keepalive.is_awaiting() {
                    return close(Cause::BadCommand, cx);
                }
                cx.keepalive.answered(cx.settings.centrifuge.ping);
                Proceed::Yes
            }
            (Phase::Open(_), Line::Send) => close(Cause::NotAvailable, cx),
            (Phase::Open(open), Line::Command { id, method }) => {
                match cx.allowance.take(cx.now, cx.settings.commands) {
                    Verdict::Granted => {}
                    Verdict::Refused => {
                        let refused = ErrorCode::TooManyRequests;
                        reply::error(&mut cx.scratch.replies, id, refused);
                        return Proceed::Yes;
                    }
                    Verdict::Flood => return close(Cause::Rate, cx),
                }
                if let Err(code) = open.command(Ticket(id), method, self.client, cx) {
                    reply::error(&mut cx.scratch.replies, id, code);
                }
                Proceed::Yes
            }
        }
    }

    fn connect(&mut self, id: u32, token: Token, cx: &mut Context<'_>) -> Proceed {
        // No keys are configured by which a token could be trusted.
        if token == Token::Present {
            return close(Cause::Unauthorized, cx);
        }
        let ping_seconds = match self.pings {
            Pings::Messages => ping_seconds(cx.settings.centrifuge.ping.interval),
            Pings::Frames => 0,
        };
        reply::connected(&mut cx.scratch.replies, id, self.client, ping_seconds);
        self.phase = Phase::Open(Open::default());
        Proceed::Yes
    }
}

/// The interval as clients are told it: whole seconds, at least one.
fn ping_seconds(interval: Duration) -> u64 {
    let up = u64::from(interval.subsec_nanos() > 0);
    interval.as_secs().saturating_add(up).max(1)
}

fn close(cause: Cause, cx: &mut Context<'_>) -> Proceed {
    cx.actions.push(Action::Close(cause));
    Proceed::No
}

/// Forgets what a panic may have left of another client's replies.
fn begin(cx: &mut Context<'_>) {
    cx.scratch.replies.clear();
    cx.scratch.compression = Compression::Allowed;
}

/// Puts the replies written so far into one frame.
fn flush(cx: &mut Context<'_>) {
    if cx.scratch.replies.is_empty() {
        return;
    }
    let replies = mem::take(&mut cx.scratch.replies);
    match cx.scratch.compression {
        Compression::Allowed => cx.write(Opcode::Text, &replies),
        Compression::Forbidden => cx.write_plain(Opcode::Text, &replies),
    }
    cx.scratch.replies = replies;
    cx.scratch.replies.clear();
}

#[cfg(test)]
mod tests;
