//! What connections ask of the hub.

use crate::dialect::cause::Cause;
use crate::dialect::variant::Variant;
use crate::dialect::{Action, Answer, Refusal, Ticket};
use crate::mail::close::Event;
use crate::mail::message::{Asker, Request};
use crate::metrics::catalogue::Counter;
use crate::ring::{Ring, Token};
use crate::topic::home::Draft;
use crate::topic::name::TopicName;
use crate::topic::publication::Position;
use crate::topic::subscribers::{Membership, MembershipState};

use super::Shard;

/// What an action is in a connection's history.
fn event(action: &Action) -> Option<Event> {
    match action {
        Action::Subscribe { .. } => Some(Event::Subscribe),
        Action::Unsubscribe { .. } => Some(Event::Unsubscribe),
        Action::Publish { .. } => Some(Event::Publish),
        Action::History { .. } | Action::Close(_) => None,
    }
}

impl<R: Ring> Shard<R> {
    /// Carries out the actions that slot `index` has asked for in the last call.
    pub(super) fn act(&mut self, index: u32) {
        let Some(token) = self.slots.token(index) else { return };
        let mut actions = std::mem::take(&mut self.desk.actions);
        let mut end = None;
        for action in actions.drain(..) {
            if let Some(event) = event(&action) {
                self.note(index, event);
            }
            match action {
                Action::Subscribe { ticket, topic, since, variant } => {
                    self.subscribe(token, ticket, &topic, since, variant);
                }
                Action::Unsubscribe { ticket, topic } => {
                    self.unsubscribe(index, &topic);
                    self.answers.push_back((token, ticket, Answer::Unsubscribed));
                }
                Action::Publish { ticket, topic, payload, publisher, only_subscribed } => {
                    if only_subscribed && !self.is_subscribed(index, &topic) {
                        self.refuse(token, ticket, Refusal::Forbidden);
                        continue;
                    }
                    if ticket.is_none() && self.is_cut_off(&topic) {
                        // There is no answer by which it could be told.
                        end = Some(Cause::BrokerLost);
                        continue;
                    }
                    let asker = ticket.map(|ticket| self.asker(token, ticket));
                    let home = topic.home(self.settings.shards);
                    let draft =
                        Draft { topic, payload, publisher, tags: None, skip_history: false };
                    self.ask(token, home, Request::Publish { asker, draft });
                }
                Action::History { ticket, topic, query, only_subscribed } => {
                    if only_subscribed && !self.is_subscribed(index, &topic) {
                        self.refuse(token, Some(ticket), Refusal::Forbidden);
                        continue;
                    }
                    let asker = self.asker(token, ticket);
                    let home = topic.home(self.settings.shards);
                    self.ask(token, home, Request::History { asker, topic, query });
                }
                Action::Close(_) => debug_assert!(false, "connections carry out closes themselves"),
            }
        }
        self.desk.actions = actions;
        if let Some(cause) = end {
            self.call(index, |conn, cx| conn.end(cause, cx));
        }
    }

    fn asker(&self, token: Token, ticket: Ticket) -> Asker {
        Asker {
            node: self.post.node(),
            slot: token.slot,
            generation: token.generation,
            ticket: ticket.0,
        }
    }

    fn refuse(&mut self, token: Token, ticket: Option<Ticket>, refusal: Refusal) {
        if let Some(ticket) = ticket {
            self.answers.push_back((token, ticket, Answer::Refused(refusal)));
        }
    }

    fn is_subscribed(&mut self, index: u32, topic: &TopicName) -> bool {
        let Some(id) = self.topics.id(topic) else { return false };
        let Some(slot) = self.slots.at_mut(index) else { return false };
        let membership = slot.memberships.find(id);
        membership.is_some_and(|m| matches!(m.state, MembershipState::Joined(_)))
    }

    fn subscribe(
        &mut self,
        token: Token,
        ticket: Ticket,
        topic: &TopicName,
        since: Option<Position>,
        variant: Variant,
    ) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        let known = self.topics.id(topic);
        if known.is_some_and(|id| slot.memberships.find(id).is_some()) {
            return self.refuse(token, Some(ticket), Refusal::AlreadySubscribed);
        }
        if slot.memberships.as_slice().len() >= self.settings.subscriptions_max {
            return self.refuse(token, Some(ticket), Refusal::LimitExceeded);
        }
        let form = variant.form();
        let id = self.topics.expect(topic);
        let state = MembershipState::Pending(ticket.0);
        slot.memberships.push(Membership { topic: id, form, state });
        let asker = self.asker(token, ticket);
        let home = topic.home(self.settings.shards);
        let request = Request::Subscribe { asker, topic: topic.clone(), form, since };
        self.ask(token, home, request);
    }

    pub(super) fn unsubscribe(&mut self, index: u32, topic: &TopicName) {
        let Some(id) = self.topics.id(topic) else { return };
        let Some(slot) = self.slots.at_mut(index) else { return };
        if let Some(membership) = slot.memberships.remove(id) {
            slot.outbox.forget(id);
            self.drop_membership(membership);
        }
    }

    /// Ends all subscriptions of a slot.
    pub(super) fn leave_topics(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let memberships = std::mem::take(&mut slot.memberships);
        self.closes.note_topics(index, memberships.as_slice().len());
        for &membership in memberships.as_slice() {
            self.drop_membership(membership);
        }
    }

    /// Takes a membership, which its slot no longer has, off the lists. The grant of a pending one is
    /// given back when it comes.
    fn drop_membership(&mut self, membership: Membership) {
        let Membership { topic: id, form, state } = membership;
        match state {
            MembershipState::Pending(_) => self.topics.forget(id),
            MembershipState::Joined(at) => {
                let topic = self.topics.name(id).clone();
                if let Some(moved) = self.topics.leave(id, form, at)
                    && let Some(other) = self.slots.at_mut(moved.slot)
                    && let Some(membership) = other.memberships.find(id)
                {
                    membership.state = MembershipState::Joined(moved.index);
                }
                self.release(topic, form);
            }
        }
    }

    /// Gives a grant back to the home.
    pub(super) fn release(&mut self, topic: TopicName, form: u8) {
        let home = topic.home(self.settings.shards);
        let request = Request::Release { node: self.post.node(), topic, form };
        self.post_or_queue(home, request);
    }

    /// Asks a home on behalf of a connection; if the lane is full the connection is not read until
    /// the request has gone.
    fn ask(&mut self, token: Token, home: usize, request: Request) {
        if self.post_or_queue(home, request) {
            return;
        }
        self.numbers.count(Counter::LanesFull, 1);
        if let Some(slot) = self.slots.get_mut(token)
            && !slot.conn.set_stalled(true)
        {
            self.stalled.push(token);
        }
    }

    pub(super) fn post_or_queue(&mut self, home: usize, request: Request) -> bool {
        let queue = &mut self.outgoing[home];
        if queue.is_empty() {
            match self.post.request(home, request) {
                Ok(()) => return true,
                Err(request) => queue.push_back(request),
            }
        } else {
            queue.push_back(request);
        }
        false
    }

    pub(super) fn can_move_outgoing(&self) -> bool {
        let mut queues = self.outgoing.iter().enumerate();
        queues.any(|(to, queue)| !queue.is_empty() && self.post.has_request_room(to))
    }

    /// Posts what waited for room; when all has gone, stalled connections are read again.
    pub(super) fn move_outgoing(&mut self) {
        for (to, queue) in self.outgoing.iter_mut().enumerate() {
            while let Some(request) = queue.pop_front() {
                if let Err(request) = self.post.request(to, request) {
                    queue.push_front(request);
                    break;
                }
            }
        }
        if self.stalled.is_empty() || self.outgoing.iter().any(|queue| !queue.is_empty()) {
            return;
        }
        for token in std::mem::take(&mut self.stalled) {
            if let Some(slot) = self.slots.get_mut(token) {
                slot.conn.set_stalled(false);
                self.review(token.slot);
            }
        }
    }
}
