//! What other threads have sent to this one: publications for its subscribers, answers for its
//! connections.

use std::rc::Rc;

use bytes::Bytes;

use crate::conn::outbox::{Conflated, Piece, Pushed};
use crate::dialect::variant::{self, Variant};
use crate::dialect::{Answer, Recovery, Refusal, Ticket};
use crate::mail::message::{Asker, Delivery, Refused, Reply};
use crate::metrics::Writer;
use crate::metrics::catalogue::{Counter, Gauge};
use crate::ring::{Ring, Token};
use crate::topic::name::TopicName;
use crate::topic::namespace::Mode;
use crate::topic::publication::Position;
use crate::topic::subscribers::{Membership, MembershipState};

use super::labels::Labels;
use super::volley::Volley;
use super::{Shard, WRITTEN_BYTES_MAX, to_u64};

/// Deliveries that one turn takes from one lane.
const DELIVERIES_MAX: usize = 1024;

/// Bytes of publications that one turn queues for any one subscriber: what one flush can send.
const BYTES_MAX: usize = 64 * 1024;

/// Subscribers that one turn queues publications for.
const WALKED_MAX: usize = 64 * 1024;

/// Values whose places newer ones have taken.
#[derive(Debug, Default)]
struct Replaced {
    count: usize,
    bytes: usize,
}

impl Replaced {
    /// Notes what became of the newest value, which came together with older ones: `passed_over` of
    /// them, with so many bytes.
    fn note(&mut self, conflated: Conflated, passed_over: usize, bytes: usize) -> Pushed {
        self.count += passed_over;
        self.bytes += bytes;
        if let Some(bytes) = conflated.replaced {
            self.count += 1;
            self.bytes += bytes;
        }
        conflated.pushed
    }

    fn book(&self, numbers: &Writer<Labels>) {
        if self.count > 0 {
            numbers.count(Counter::Conflated, to_u64(self.count));
            numbers.lower(Gauge::OutboxBytes, to_u64(self.bytes));
        }
    }
}

impl<R: Ring> Shard<R> {
    /// Takes deliveries from all lanes, within the limits of a turn; none while the flush is behind, so that
    /// lanes hold the publishers.
    pub(super) fn handle_deliveries(&mut self) {
        if self.flush.is_behind() {
            return;
        }
        let mut volley = std::mem::take(&mut self.volley);
        let (mut bytes, mut walked) = (0, 0);
        let arena_max = self.desk.arena.len() + WRITTEN_BYTES_MAX;
        for from in self.lanes() {
            for _ in 0..DELIVERIES_MAX {
                let bytes_left = BYTES_MAX.saturating_sub(bytes);
                let is_enough = volley.bytes() >= bytes_left || walked >= WALKED_MAX;
                if is_enough || self.desk.arena.len() >= arena_max {
                    break;
                }
                let Some(delivery) = self.post.take_delivery(from) else { break };
                match delivery {
                    Delivery::Publication { encoded, ack } => {
                        if !volley.takes(&encoded, bytes_left) {
                            bytes += volley.bytes();
                            walked += self.fire(&mut volley);
                        }
                        volley.add(encoded, ack.map(|(asker, _)| asker));
                    }
                    Delivery::Reply { to, reply } => {
                        bytes += volley.bytes();
                        walked += self.fire(&mut volley);
                        self.replied(to, reply);
                        self.hand_over_answers();
                    }
                    Delivery::Lost(topic) => {
                        bytes += volley.bytes();
                        walked += self.fire(&mut volley);
                        walked += self.lose_position(&topic);
                    }
                }
            }
            // What another lane brings is of another home, so of another topic.
            bytes += volley.bytes();
            walked += self.fire(&mut volley);
        }
        self.volley = volley;
    }

    /// Delivers what has come together, and answers those who asked; returns the number of
    /// subscribers.
    fn fire(&mut self, volley: &mut Volley) -> usize {
        let walked = self.fan_out(volley);
        for &asker in &volley.askers {
            self.answer(asker, Answer::Published);
        }
        volley.clear();
        self.hand_over_answers();
        walked
    }

    /// Queues publications of one topic for its subscribers here; returns the number of subscribers.
    fn fan_out(&mut self, volley: &Volley) -> usize {
        let Some(first) = volley.publications().first() else { return 0 };
        let Some(id) = self.topics.id(&first.topic) else { return 0 };
        let (mut walked, mut deliveries) = (0, 0);
        let mut lagging = Vec::new();
        for variant in Variant::ALL {
            let form = usize::from(variant.form());
            let members = self.topics.members(id, form);
            // Other shards may want this form.
            if members.is_empty() {
                continue;
            }
            let Some(bytes) = volley.joined(form, &self.frames) else { continue };
            let count = volley.frames(form).count();
            let compressed = volley.frames(form).filter(|frame| variant::is_compressed(frame));
            let compressed = compressed.count();
            if compressed > 0 {
                self.desk.codec.note_shared(members.len() * compressed);
            }
            walked += members.len();
            deliveries += members.len() * count;
            let queued = bytes.len();
            let frame: Rc<Bytes> = Rc::new(bytes);
            // Of values that take each other's places, a backlog needs the last one only.
            let newest: Option<Rc<Bytes>> = match first.mode {
                Mode::Latest => volley.frames(form).last().cloned().map(Rc::new),
                Mode::Stream | Mode::Live => None,
            };
            let settings = &self.desk.settings.outbox;
            let mut replaced = Replaced::default();
            for &index in members {
                let Some(slot) = self.slots.at_mut(index) else { continue };
                if !slot.outbox.is_backlogged() {
                    let _ = slot.outbox.push(Piece::Frame(Rc::clone(&frame)), &[], settings);
                    if !slot.flags.dirty {
                        slot.flags.dirty = true;
                        self.dirty.push(index);
                    }
                } else if let Some(newest) = &newest {
                    let conflated = slot.outbox.push_newest(Rc::clone(newest), id, settings);
                    let pushed = replaced.note(conflated, count - 1, queued - newest.len());
                    lagging.push((index, pushed));
                } else {
                    let piece = Piece::Frame(Rc::clone(&frame));
                    lagging.push((index, slot.outbox.push(piece, &[], settings)));
                }
            }
            let sent = members.len() * count - replaced.count;
            self.numbers.messages_sent(variant.protocol(), to_u64(sent));
            self.note_queued(queued, members.len());
            replaced.book(&self.numbers);
        }
        self.numbers.count(Counter::Deliveries, to_u64(deliveries));
        for (index, pushed) in lagging {
            self.watch(index, pushed);
        }
        walked
    }

    fn replied(&mut self, to: Asker, reply: Reply) {
        match reply {
            Reply::Granted { topic, form, position, recovery } => {
                self.granted(to, topic, form, position, recovery);
            }
            Reply::Published(_) => self.answer(to, Answer::Published),
            Reply::History { publications, position } => {
                self.answer(to, Answer::History { publications, position: Some(position) });
            }
            Reply::Refused { topic, why } => self.refused_by_hub(to, &topic, why),
            Reply::Census(_) | Reply::Disconnected(_) | Reply::Closes(_) | Reply::Pong => {
                debug_assert!(false, "only the control thread asks that");
            }
        }
    }

    /// A subscription stands, unless its connection has changed its mind or gone.
    fn granted(
        &mut self,
        to: Asker,
        topic: TopicName,
        form: u8,
        position: Option<Position>,
        recovery: Recovery,
    ) {
        let Some(membership) = self.pending_membership(to, &topic) else {
            self.release(topic, form);
            return self.answer(to, Answer::Refused(Refusal::TryAgain));
        };
        let (id, form) = (membership.topic, membership.form);
        let at = self.topics.join(id, form, to.slot);
        if let Some(slot) = self.slots.at_mut(to.slot)
            && let Some(membership) = slot.memberships.find(id)
        {
            membership.state = MembershipState::Joined(at);
            slot.conn.share_name(self.topics.name(id));
        }
        self.answer(to, Answer::Subscribed { position, recovery });
    }

    fn refused_by_hub(&mut self, to: Asker, topic: &TopicName, why: Refused) {
        if let Some(membership) = self.pending_membership(to, topic)
            && let Some(slot) = self.slots.at_mut(to.slot)
        {
            slot.memberships.remove(membership.topic);
            self.topics.forget(membership.topic);
        }
        let refusal = match why {
            Refused::TopicsExhausted => Refusal::LimitExceeded,
            Refused::UnknownNamespace => Refusal::UnknownTopic,
            Refused::NoHistory | Refused::MustKeep => Refusal::NotAvailable,
            Refused::OtherEpoch => Refusal::UnrecoverablePosition,
            Refused::BrokerDown | Refused::BrokerSilent => Refusal::TryAgain,
        };
        self.answer(to, Answer::Refused(refusal));
    }

    /// The membership that waits for the answer to this question.
    fn pending_membership(&mut self, to: Asker, topic: &TopicName) -> Option<Membership> {
        let id = self.topics.id(topic)?;
        let slot = self.slots.get_mut(token_of(to))?;
        let membership = slot.memberships.find(id)?;
        (membership.state == MembershipState::Pending(to.ticket)).then_some(*membership)
    }

    fn answer(&mut self, to: Asker, answer: Answer) {
        self.answers.push_back((token_of(to), Ticket(to.ticket), answer));
    }
}

fn token_of(asker: Asker) -> Token {
    Token { slot: asker.slot, generation: asker.generation }
}
