//! Centrifugo v2 JSON: what unmodified Centrifugo clients speak.
//!
//! A text message is one or more JSON objects, a line each. [`command`] reads them, [`reply`] and
//! [`push`] write what goes back.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cause::Cause;
use super::client_id::ClientId;
use super::frame::{self, Opcode};
use super::keepalive;
use super::scratch::Scratch;
use super::variant::Variant;
use super::{Action, Answer, Context, HistoryQuery, Order, Recovery, Ticket};
use crate::topic::name::TopicName;
use crate::topic::namespace::{Mode, Namespace, PublishRight};
use crate::topic::publication::{Position, Publisher};

pub mod command;
pub mod error;
pub(super) mod push;
mod reply;
pub mod scan;

use command::{Channel, Kind, Line, Method, Token, Unrecovered};
use error::ErrorCode;
use reply::Outcome;

/// Most publications of one history reply.
const HISTORY_MAX: usize = 300;

/// Most subscribes of one connection that wait for their answers.
const PENDING_MAX: usize = 128;

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

#[derive(Debug, Default)]
struct Open {
    /// How subscribers see this client; made when it first publishes.
    publisher: Option<Arc<Publisher>>,
    /// Subscribes that the hub has not answered.
    pending: Vec<Pending>,
}

/// What the reply to a subscribe depends on.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    topic: TopicName,
    wish: Wish,
}

#[derive(Debug)]
enum Wish {
    /// To hear what comes.
    Subscribe,
    /// To recover from this offset first.
    Recover { offset: u64, unrecovered: Unrecovered },
    /// None any more: the position was lost, and the subscription is being undone.
    Undo,
}

/// Whether the rest of a message is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proceed {
    Yes,
    No,
}

impl Session {
    /// A client that has just been upgraded. `random` makes its id and must be hard to guess.
    pub fn new(now: Instant, random: u128, pings: Pings, settings: &Settings) -> Self {
        let deadline = now + settings.connect_timeout;
        let client = ClientId::from_random(random);
        Self { client, pings, phase: Phase::Greeting { deadline } }
    }

    /// The name of the connection.
    pub const fn client_id(&self) -> ClientId {
        self.client
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
            cx.actions.push(Action::Close(Cause::Idle));
        }
    }

    /// Takes a message of one or more lines.
    pub(super) fn message_text(&mut self, text: &[u8], cx: &mut Context<'_>) {
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
            open.answer(ticket, answer, cx);
            flush(cx);
        }
    }

    /// Pings in the agreed way. Before `connect` nothing is agreed, and the deadline watches.
    pub(super) fn ping(&mut self, cx: &mut Context<'_>) {
        match (&self.phase, self.pings) {
            (Phase::Greeting { .. }, _) => cx.keepalive.answered(cx.settings.centrifuge.ping),
            (Phase::Open(_), Pings::Messages) => {
                frame::encode_frame(cx.frames, Opcode::Text, b"{}");
            }
            (Phase::Open(_), Pings::Frames) => frame::encode_frame(cx.frames, Opcode::Ping, b""),
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

impl Open {
    /// Asks the hub for what `method` wants, or says why not.
    fn command(
        &mut self,
        ticket: Ticket,
        method: Method,
        client: ClientId,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        match method {
            Method::Subscribe(wanted) => self.subscribe(ticket, wanted, cx),
            Method::Unsubscribe(channel) => {
                match channel {
                    Ok(topic) => cx.actions.push(Action::Unsubscribe { ticket, topic }),
                    // It cannot be subscribed, and clients reconnect when this fails.
                    Err(_) => reply::done(&mut cx.scratch.replies, ticket.0, "unsubscribe"),
                }
                Ok(())
            }
            Method::Publish(wanted) => self.publish(ticket, wanted, client, cx),
            Method::History(wanted) => history(ticket, wanted, cx),
            Method::Connect(_) | Method::Unavailable => Err(ErrorCode::NotAvailable),
        }
    }

    fn subscribe(
        &mut self,
        ticket: Ticket,
        wanted: command::Subscribe,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        if wanted.kind == Kind::Other {
            return Err(ErrorCode::NotAvailable);
        }
        let (topic, namespace) = resolve(wanted.channel, cx)?;
        // No keys are configured by which a token could be trusted.
        if wanted.token == Token::Present {
            return Err(ErrorCode::PermissionDenied);
        }
        if self.pending.len() >= PENDING_MAX {
            return Err(ErrorCode::LimitExceeded);
        }
        let wish = match &wanted.since {
            None => Wish::Subscribe,
            Some(since) => Wish::Recover { offset: since.offset, unrecovered: wanted.unrecovered },
        };
        let since = wanted.since.filter(|_| is_recoverable(namespace));
        let variant = Variant::Centrifuge;
        self.pending.push(Pending { ticket, topic: topic.clone(), wish });
        cx.actions.push(Action::Subscribe { ticket, topic, since, variant });
        Ok(())
    }

    fn publish(
        &mut self,
        ticket: Ticket,
        wanted: command::Publish,
        client: ClientId,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        if wanted.kind == Kind::Other {
            return Err(ErrorCode::NotAvailable);
        }
        let (topic, namespace) = resolve(wanted.channel, cx)?;
        let only_subscribed = match namespace.publish {
            PublishRight::Deny => return Err(ErrorCode::PermissionDenied),
            PublishRight::Subscribers => true,
            PublishRight::Allow => false,
        };
        let payload = wanted.data.ok_or(ErrorCode::BadRequest)?;
        let publisher = self.publisher.get_or_insert_with(|| {
            Arc::new(Publisher { client: client.text(), user: Box::default() })
        });
        cx.actions.push(Action::Publish {
            ticket: Some(ticket),
            topic,
            payload,
            publisher: Some(Arc::clone(publisher)),
            only_subscribed,
        });
        Ok(())
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, cx: &mut Context<'_>) {
        let Scratch { replies, .. } = &mut *cx.scratch;
        match answer {
            Answer::Subscribed { position, recovery } => {
                if let Some(pending) = self.take_pending(ticket) {
                    self.subscribed(pending, position, recovery, cx);
                }
            }
            Answer::Unsubscribed => match self.take_undone(ticket) {
                Some(_) => reply::error(replies, ticket.0, ErrorCode::UnrecoverablePosition),
                None => reply::done(replies, ticket.0, "unsubscribe"),
            },
            Answer::Published => reply::done(replies, ticket.0, "publish"),
            Answer::History { publications, position } => {
                let mut line = mem::take(replies);
                reply::history(&mut line, ticket.0, position.as_ref(), &publications, cx.scratch);
                cx.scratch.replies = line;
            }
            Answer::Refused(refusal) => {
                self.take_pending(ticket);
                reply::error(replies, ticket.0, refusal.into());
            }
        }
    }

    fn subscribed(
        &mut self,
        pending: Pending,
        position: Option<Position>,
        recovery: Recovery,
        cx: &mut Context<'_>,
    ) {
        let Pending { ticket, topic, wish } = pending;
        let recoverable = cx.namespaces.of(&topic).is_some_and(is_recoverable);
        let mut position = position.filter(|_| recoverable);
        let outcome = match (&wish, &recovery) {
            (Wish::Recover { offset, .. }, Recovery::Recovered(missed)) => {
                // Clients count on from here while they take what they missed.
                if let Some(position) = &mut position {
                    position.offset = *offset;
                }
                Outcome::Recovered(missed)
            }
            (Wish::Recover { unrecovered: Unrecovered::Reject, .. }, Recovery::Lost) => {
                self.pending.push(Pending { ticket, topic: topic.clone(), wish: Wish::Undo });
                cx.actions.push(Action::Unsubscribe { ticket, topic });
                return;
            }
            (Wish::Recover { .. }, Recovery::Lost | Recovery::NotAsked) => Outcome::Lost,
            (Wish::Subscribe | Wish::Undo, _) => Outcome::NotAsked,
        };
        let mut line = mem::take(&mut cx.scratch.replies);
        reply::subscribed(&mut line, ticket.0, position.as_ref(), outcome, cx.scratch);
        cx.scratch.replies = line;
    }

    fn take_pending(&mut self, ticket: Ticket) -> Option<Pending> {
        self.take(|pending| pending.ticket == ticket && !matches!(pending.wish, Wish::Undo))
    }

    fn take_undone(&mut self, ticket: Ticket) -> Option<Pending> {
        self.take(|pending| pending.ticket == ticket && matches!(pending.wish, Wish::Undo))
    }

    fn take(&mut self, is_it: impl FnMut(&Pending) -> bool) -> Option<Pending> {
        let at = self.pending.iter().position(is_it)?;
        let pending = self.pending.remove(at);
        if self.pending.is_empty() {
            // An idle connection owns no buffer.
            self.pending = Vec::new();
        }
        Some(pending)
    }
}

fn history(
    ticket: Ticket,
    wanted: command::History,
    cx: &mut Context<'_>,
) -> Result<(), ErrorCode> {
    let (topic, _) = resolve(wanted.channel, cx)?;
    let limit = usize::try_from(wanted.limit).unwrap_or(HISTORY_MAX).min(HISTORY_MAX);
    let order = if wanted.reverse { Order::Reverse } else { Order::Forward };
    let query = HistoryQuery { limit, since: wanted.since, order };
    cx.actions.push(Action::History { ticket, topic, query, only_subscribed: true });
    Ok(())
}

/// The topic of `channel` and what it may do.
fn resolve<'a>(
    channel: Channel,
    cx: &Context<'a>,
) -> Result<(TopicName, &'a Namespace), ErrorCode> {
    let topic = channel.map_err(|_| ErrorCode::BadRequest)?;
    let namespace = cx.namespaces.of(&topic).ok_or(ErrorCode::UnknownChannel)?;
    Ok((topic, namespace))
}

fn is_recoverable(namespace: &Namespace) -> bool {
    namespace.recovery && namespace.mode != Mode::Live
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

/// Puts the replies written so far into one frame.
fn flush(cx: &mut Context<'_>) {
    let replies = &mut cx.scratch.replies;
    if !replies.is_empty() {
        frame::encode_frame(cx.frames, Opcode::Text, replies);
        replies.clear();
    }
}

#[cfg(test)]
mod tests;
