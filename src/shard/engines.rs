//! The topics at home here whose order is an engine's: what goes to its link, what comes from it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mail::message::{Asker, Delivery, Refused, Reply, Request};
use crate::metrics::catalogue::Counter;
use crate::ring::Ring;
use crate::topic::home::Draft;
use crate::topic::name::TopicName;
use crate::topic::namespace::{Broker, Mode};
use crate::topic::splice::{Applicant, Effect, News, Splices};

use super::Shard;

/// How long a topic that nobody wants is still received, in milliseconds: subscribers often come back
/// at once, and those of one topic do not leave all gateways in one moment.
const LINGER_MS: std::ops::Range<u64> = 1000..5000;

/// An engine, as one shard sees it.
pub(super) struct Engine {
    broker: Broker,
    /// The thread of its link.
    node: usize,
    pub(super) splices: Splices<Asker>,
}

impl Engine {
    /// The engine whose link is thread `node`.
    pub(super) fn new((broker, node): (Broker, usize)) -> Self {
        Self { broker, node, splices: Splices::default() }
    }
}

impl<R: Ring> Shard<R> {
    /// Which engine gives the topic its order; `None`: this process does.
    pub(super) fn engine_of(&self, topic: &TopicName) -> Option<usize> {
        if self.engines.is_empty() {
            return None;
        }
        let broker = self.settings.conn.namespaces.of(topic)?.broker;
        self.engines.iter().position(|engine| engine.broker == broker)
    }

    /// Whether a publication to the topic would be refused now.
    pub(super) fn is_cut_off(&self, topic: &TopicName) -> bool {
        self.engine_of(topic).is_some_and(|engine| !self.engines[engine].splices.is_up())
    }

    /// Whether the link of this engine takes one more request.
    pub(super) fn has_link_room(&self, engine: usize) -> bool {
        let node = self.engines[engine].node;
        self.outgoing[node].is_empty() && self.post.has_request_room(node)
    }

    /// Whether nothing that followed from earlier requests waits for room.
    pub(super) fn are_effects_out(&self) -> bool {
        self.engines.iter().all(|engine| engine.splices.effect().is_none())
    }

    /// Whether something that waited for room has it now.
    pub(super) fn can_move_effects(&self) -> bool {
        (0..self.engines.len()).any(|engine| self.can_carry_out(engine))
    }

    /// Hands a subscriber over to the topic's splice, which answers.
    pub(super) fn subscribe_at_engine(
        &mut self,
        engine: usize,
        topic: TopicName,
        applicant: Applicant<Asker>,
    ) {
        let conn = Arc::clone(&self.settings.conn);
        let Some(namespace) = conn.namespaces.of(&topic) else { return };
        let count = self.homes.len() + self.engines.iter().map(|e| e.splices.len()).sum::<usize>();
        let splices = &mut self.engines[engine].splices;
        if count >= self.settings.topics_max && !splices.contains(&topic) {
            let to = applicant.asker;
            return self.reply(to, topic, Err(Refused::TopicsExhausted));
        }
        splices.subscribe(&topic, namespace, applicant, self.now);
    }

    /// Takes a grant back.
    pub(super) fn release_at_engine(
        &mut self,
        engine: usize,
        topic: &TopicName,
        place: (usize, usize),
    ) {
        let leave_at = self.leave_at();
        self.engines[engine].splices.release(topic, place, leave_at);
    }

    /// Passes a publication on to the engine's link, which answers.
    pub(super) fn publish_at_engine(&mut self, engine: usize, asker: Option<Asker>, draft: Draft) {
        let namespace = self.settings.conn.namespaces.of(&draft.topic);
        let keeps = namespace.is_some_and(|namespace| namespace.mode != Mode::Live);
        let refused = match () {
            () if keeps && draft.skip_history => Refused::MustKeep,
            () if !self.engines[engine].splices.is_up() => Refused::BrokerDown,
            () => return self.pass_on(engine, Request::Publish { asker, draft }),
        };
        if let Some(asker) = asker {
            self.reply(asker, draft.topic, Err(refused));
        }
    }

    /// Passes a question that only the engine can answer on to its link.
    pub(super) fn ask_engine(&mut self, engine: usize, asker: Asker, request: Request) {
        let Request::History { topic, .. } = &request else { return };
        let namespace = self.settings.conn.namespaces.of(topic);
        let keeps = namespace.is_some_and(|n| n.mode != Mode::Live && n.history_size > 0);
        let refused = match () {
            () if !keeps => Refused::NoHistory,
            () if !self.engines[engine].splices.is_up() => Refused::BrokerDown,
            () => return self.pass_on(engine, request),
        };
        let topic = topic.clone();
        self.reply(asker, topic, Err(refused));
    }

    /// Takes in what the link on thread `node` tells.
    pub(super) fn hear(&mut self, node: usize, news: News) {
        let Some(engine) = self.engines.iter().position(|engine| engine.node == node) else {
            debug_assert!(false, "news of an engine that is not there");
            return;
        };
        let leave_at = self.leave_at();
        let conn = Arc::clone(&self.settings.conn);
        let splices = &mut self.engines[engine].splices;
        let topic = match &news {
            News::Up => return splices.up(),
            News::Down => return splices.down(leave_at),
            News::Arrived { publication, .. } => &publication.topic,
            News::Listening { topic, .. }
            | News::Unknown { topic, .. }
            | News::Read { topic, .. } => topic,
        };
        let Some(namespace) = conn.namespaces.of(topic) else { return };
        splices.hear(news, namespace, self.now);
        let gaps = splices.take_gaps();
        self.numbers.count(Counter::BrokerGapsHealed, gaps.healed);
        self.numbers.count(Counter::BrokerGapsLost, gaps.lost);
    }

    /// Leaves the topics that nobody wants.
    pub(super) fn sweep_engines(&mut self) {
        for engine in &mut self.engines {
            engine.splices.sweep(self.now);
        }
    }

    /// Whether there are topics to be left.
    pub(super) fn awaits_departures(&self) -> bool {
        self.engines.iter().any(|engine| engine.splices.deadline().is_some())
    }

    /// Does what has followed from requests, as far as there is room.
    pub(super) fn carry_out_effects(&mut self) {
        for engine in 0..self.engines.len() {
            while self.can_carry_out(engine)
                && let Some(effect) = self.engines[engine].splices.take_effect()
            {
                self.carry_out(engine, effect);
            }
        }
    }

    /// Whether there is something to do for this engine, and room for all that it will cause.
    fn can_carry_out(&self, engine: usize) -> bool {
        let splices = &self.engines[engine].splices;
        let interested = |topic: &TopicName| {
            splices.interests(topic).iter().all(|i| self.post.has_delivery_room(i.node))
        };
        splices.effect().is_some_and(|effect| match effect {
            Effect::Ask(_) => true,
            Effect::Deliver(publication) => interested(&publication.topic),
            Effect::Lost(topic) => interested(topic),
            Effect::Granted { asker, .. } | Effect::Refused { asker, .. } => {
                self.post.has_delivery_room(asker.node)
            }
        })
    }

    fn carry_out(&mut self, engine: usize, effect: Effect<Asker>) {
        match effect {
            Effect::Ask(errand) => {
                let home = self.post.node();
                self.pass_on(engine, Request::Errand { home, errand });
            }
            Effect::Deliver(publication) => {
                let conn = Arc::clone(&self.settings.conn);
                let Some(namespace) = conn.namespaces.of(&publication.topic) else { return };
                self.numbers.count(Counter::Publications, 1);
                let Self { engines, desk, frames, post, .. } = self;
                let interests = engines[engine].splices.interests(&publication.topic);
                super::hub::post_to_all(
                    (desk, frames, post),
                    interests,
                    &publication,
                    namespace,
                    None,
                );
            }
            Effect::Granted { asker, topic, form, joined } => {
                let (position, recovery) = (joined.position, joined.recovery);
                let reply = Reply::Granted { topic: topic.clone(), form, position, recovery };
                self.reply(asker, topic, Ok(reply));
            }
            Effect::Refused { asker, topic } => {
                self.reply(asker, topic, Err(Refused::BrokerDown));
            }
            Effect::Lost(topic) => {
                let interests = self.engines[engine].splices.interests(&topic);
                for interest in interests {
                    self.post.deliver(interest.node, Delivery::Lost(topic.clone()));
                }
            }
        }
    }

    fn pass_on(&mut self, engine: usize, request: Request) {
        self.post_or_queue(self.engines[engine].node, request);
    }

    fn leave_at(&mut self) -> Instant {
        self.now + Duration::from_millis(self.desk.random.u64(LINGER_MS))
    }

    /// Publications of `topic` are lost: whoever listens to it here is told to begin anew.
    ///
    /// Returns how many there were.
    pub(super) fn lose_position(&mut self, topic: &TopicName) -> usize {
        let Some(id) = self.topics.id(topic) else { return 0 };
        let members = self.topics.all_members(id);
        for &index in &members {
            self.unsubscribe(index, topic);
            self.call(index, |conn, cx| conn.lose_position(topic, cx));
        }
        members.len()
    }
}
