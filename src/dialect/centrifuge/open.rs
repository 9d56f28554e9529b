//! A client that has been let in: its commands and the answers to them.

use std::mem;
use std::sync::Arc;

use super::command::{self, Channel, Filter, Kind, Method, Token, Unrecovered};
use super::error::ErrorCode;
use super::reply::{self, Outcome};
use crate::dialect::client_id::ClientId;
use crate::dialect::variant::{Compression, Language, Variant};
use crate::dialect::{Action, Answer, Context, HistoryQuery, Order, Recovery, Ticket};
use crate::topic::name::TopicName;
use crate::topic::namespace::{Mode, Namespace, PublishRight};
use crate::topic::publication::{Position, Publication, Publisher};

/// Most publications of one history reply.
const HISTORY_MAX: usize = 300;

/// Most subscribes of one connection that wait for their answers.
const PENDING_MAX: usize = 128;

/// What such a client is remembered by.
#[derive(Debug, Default)]
pub(super) struct Open {
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

impl Open {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.pending.capacity() * size_of::<Pending>()
    }

    /// Asks the hub for what `method` wants, or says why not.
    ///
    /// Errors: what the reply is to say.
    pub(super) fn command(
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
        // Unfiltered, the client would take what it did not ask for as what it did.
        if wanted.filter == Filter::Present {
            return Err(ErrorCode::BadRequest);
        }
        if self.pending.len() >= PENDING_MAX {
            return Err(ErrorCode::LimitExceeded);
        }
        let wish = match &wanted.since {
            None => Wish::Subscribe,
            Some(since) => Wish::Recover { offset: since.offset, unrecovered: wanted.unrecovered },
        };
        let since = wanted.since.filter(|_| is_recoverable(namespace));
        let variant = Variant { language: Language::Centrifuge, class: cx.class() };
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

    /// Writes the reply that the hub's answer to the command `ticket` leads to.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer, cx: &mut Context<'_>) {
        match answer {
            Answer::Subscribed { position, recovery } => {
                if let Some(pending) = self.take_pending(ticket) {
                    self.subscribed(pending, position, &recovery, cx);
                }
            }
            Answer::Unsubscribed => match self.take_undone(ticket) {
                Some(_) => {
                    let code = ErrorCode::UnrecoverablePosition;
                    reply::error(&mut cx.scratch.replies, ticket.0, code);
                }
                None => reply::done(&mut cx.scratch.replies, ticket.0, "unsubscribe"),
            },
            Answer::Published => reply::done(&mut cx.scratch.replies, ticket.0, "publish"),
            Answer::History { publications, position } => {
                keep_secrets(&publications, cx);
                let mut line = mem::take(&mut cx.scratch.replies);
                reply::history(&mut line, ticket.0, position.as_ref(), &publications, cx.scratch);
                cx.scratch.replies = line;
            }
            Answer::Refused(refusal) => {
                self.take_pending(ticket);
                reply::error(&mut cx.scratch.replies, ticket.0, refusal.into());
            }
        }
    }

    fn subscribed(
        &mut self,
        pending: Pending,
        position: Option<Position>,
        recovery: &Recovery,
        cx: &mut Context<'_>,
    ) {
        let Pending { ticket, topic, wish } = pending;
        let recoverable = cx.namespaces.of(&topic).is_some_and(is_recoverable);
        let mut position = position.filter(|_| recoverable);
        let outcome = match (&wish, recovery) {
            (Wish::Recover { offset, .. }, Recovery::Recovered(missed)) => {
                keep_secrets(missed, cx);
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

/// Sees to it that publications which must not be compressed are not.
fn keep_secrets(publications: &[Arc<Publication>], cx: &mut Context<'_>) {
    let namespace = publications.first().and_then(|first| cx.namespaces.of(&first.topic));
    if namespace.is_some_and(|namespace| !namespace.compress) {
        cx.scratch.compression = Compression::Forbidden;
    }
}

fn is_recoverable(namespace: &Namespace) -> bool {
    namespace.recovery && namespace.mode != Mode::Live
}
