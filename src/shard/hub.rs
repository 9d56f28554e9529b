//! The home of topics: requests from all threads, taken when their answers have room.

use std::sync::Arc;

use crate::dialect::cause::Farewell;
use crate::dialect::client_id::ClientId;
use crate::dialect::variant::{self, Compression};
use crate::mail::frames::Frames;
use crate::mail::message::{Asker, Delivery, Encoded, Refused, Reply, Request};
use crate::mail::post::Post;
use crate::metrics::catalogue::Counter;
use crate::ring::Ring;
use crate::topic::history::HistoryQuery;
use crate::topic::home::{Draft, HomeError};
use crate::topic::interests::Interest;
use crate::topic::name::TopicName;
use crate::topic::namespace::Namespace;
use crate::topic::publication::{Position, Publication};
use crate::topic::splice::Applicant;

use super::{Desk, Shard};

/// Requests that one turn takes from one lane.
const REQUESTS_MAX: usize = 256;

impl<R: Ring> Shard<R> {
    /// Takes requests from all lanes, within the limits of a turn.
    pub(super) fn handle_requests(&mut self) {
        self.carry_out_effects();
        for from in self.lanes() {
            for _ in 0..REQUESTS_MAX {
                if !self.can_serve(from) {
                    break;
                }
                let Some(request) = self.post.take_request(from) else { break };
                self.serve(request);
                self.carry_out_effects();
            }
        }
    }

    /// All threads, beginning with another one in each turn: what one turn can take is limited, and
    /// no thread is to be left out for ever.
    pub(super) fn lanes(&self) -> impl Iterator<Item = usize> + use<R> {
        let (first, nodes) = (self.first_lane, self.post.nodes());
        (first..nodes).chain(0..first)
    }

    /// Whether the oldest request of any lane can be served now.
    pub(super) fn can_serve_any(&self) -> bool {
        (0..self.post.nodes()).any(|from| self.can_serve(from))
    }

    /// Whether there is an oldest request of thread `from`, and room for all that it will cause.
    fn can_serve(&self, from: usize) -> bool {
        let Some(request) = self.post.peek_request(from) else { return false };
        let has_room = |node| self.post.has_delivery_room(node);
        match request {
            Request::Publish { asker, draft } => {
                if let Some(engine) = self.engine_of(&draft.topic) {
                    return self.has_link_room(engine)
                        && asker.is_none_or(|asker| has_room(asker.node));
                }
                let interests = self.homes.interests(&draft.topic);
                interests.iter().all(|interest| has_room(interest.node))
                    && asker.is_none_or(|asker| has_room(asker.node))
            }
            Request::Subscribe { asker, topic, .. } => {
                (self.engine_of(topic).is_none() || self.are_effects_out()) && has_room(asker.node)
            }
            Request::History { asker, topic, .. } => {
                let engine = self.engine_of(topic);
                engine.is_none_or(|engine| self.has_link_room(engine)) && has_room(asker.node)
            }
            Request::News { .. } => self.are_effects_out(),
            Request::Census { asker }
            | Request::Closes { asker, .. }
            | Request::Ping { asker }
            | Request::Renew { asker }
            | Request::Disconnect { asker, .. } => has_room(asker.node),
            Request::Release { .. }
            | Request::Errand { .. }
            | Request::Memory(_)
            | Request::Shed { .. }
            | Request::Drain { .. }
            | Request::Stop => true,
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Subscribe { asker, topic, form, since } => {
                if let Some(engine) = self.engine_of(&topic) {
                    let applicant = Applicant { asker, node: asker.node, form, since };
                    return self.subscribe_at_engine(engine, topic, applicant);
                }
                let reply = self.subscribe_at_home(asker, &topic, form, since.as_ref());
                self.reply(asker, topic, reply);
            }
            Request::Release { node, topic, form } => {
                let place = (node, usize::from(form));
                match self.engine_of(&topic) {
                    Some(engine) => self.release_at_engine(engine, &topic, place),
                    None => self.homes.release(&topic, place, self.now),
                }
            }
            Request::Publish { asker, draft } => match self.engine_of(&draft.topic) {
                Some(engine) => self.publish_at_engine(engine, asker, draft),
                None => self.publish(asker, draft),
            },
            Request::History { asker, topic, query } => {
                if let Some(engine) = self.engine_of(&topic) {
                    let request = Request::History { asker, topic, query };
                    return self.ask_engine(engine, asker, request);
                }
                let reply = self.history_at_home(&topic, &query);
                self.reply(asker, topic, reply);
            }
            Request::Errand { .. } => debug_assert!(false, "only engine links are asked that"),
            Request::News { link, news } => self.hear(link, news),
            Request::Census { asker } => {
                let engines = self.engines.iter().flat_map(|engine| engine.splices.census());
                let census = self.homes.census().chain(engines);
                let census = census.map(|(name, n)| (name.clone(), n)).collect();
                self.post.deliver(
                    asker.node,
                    Delivery::Reply { to: asker, reply: Reply::Census(census) },
                );
            }
            Request::Disconnect { asker, client, code, reason } => {
                let count = self.disconnect(&client, code, &reason);
                let reply = Reply::Disconnected(count);
                self.post.deliver(asker.node, Delivery::Reply { to: asker, reply });
            }
            Request::Closes { asker, filter } => {
                let reply = Reply::Closes(self.closes.find(&filter));
                self.post.deliver(asker.node, Delivery::Reply { to: asker, reply });
            }
            Request::Ping { asker } => {
                self.post.deliver(asker.node, Delivery::Reply { to: asker, reply: Reply::Pong });
            }
            Request::Renew { asker } => {
                self.take_over_settings();
                self.post.deliver(asker.node, Delivery::Reply { to: asker, reply: Reply::Pong });
            }
            Request::Memory(shortage) => self.set_shortage(shortage),
            Request::Shed { bytes } => self.shed(bytes),
            Request::Drain { window_ms } => self.begin_drain(window_ms),
            Request::Stop => self.stop(),
        }
    }

    pub(super) fn reply(&mut self, to: Asker, topic: TopicName, reply: Result<Reply, Refused>) {
        let reply = reply.unwrap_or_else(|why| Reply::Refused { topic, why });
        self.post.deliver(to.node, Delivery::Reply { to, reply });
    }

    fn history_at_home(
        &mut self,
        topic: &TopicName,
        query: &HistoryQuery,
    ) -> Result<Reply, Refused> {
        let conn = Arc::clone(&self.settings.conn);
        let namespace = conn.namespaces.of(topic).ok_or(Refused::UnknownNamespace)?;
        let read = self.homes.history(topic, namespace, query, self.now);
        let (publications, position) = read.map_err(refused)?;
        Ok(Reply::History { publications, position })
    }

    fn subscribe_at_home(
        &mut self,
        asker: Asker,
        topic: &TopicName,
        form: u8,
        since: Option<&Position>,
    ) -> Result<Reply, Refused> {
        let conn = Arc::clone(&self.settings.conn);
        let namespace = conn.namespaces.of(topic).ok_or(Refused::UnknownNamespace)?;
        let place = (asker.node, usize::from(form));
        let joined = self.homes.subscribe(topic, namespace, place, since, self.now);
        let joined = joined.map_err(refused)?;
        let (position, recovery) = (joined.position, joined.recovery);
        Ok(Reply::Granted { topic: topic.clone(), form, position, recovery })
    }

    /// Numbers a publication, encodes it in the forms that are wanted, and posts it to the threads
    /// that want it.
    fn publish(&mut self, asker: Option<Asker>, draft: Draft) {
        let topic = draft.topic.clone();
        let conn = Arc::clone(&self.settings.conn);
        let published = match conn.namespaces.of(&topic) {
            Some(namespace) => {
                let publication = self.homes.publish(draft, namespace, self.now);
                publication.map(|publication| (publication, namespace)).map_err(refused)
            }
            None => Err(Refused::UnknownNamespace),
        };
        let (publication, namespace) = match published {
            Ok(published) => published,
            Err(why) => {
                if let Some(asker) = asker {
                    self.reply(asker, topic, Err(why));
                }
                return;
            }
        };
        self.numbers.count(Counter::Publications, 1);
        let position = publication.offset.and_then(|_| self.homes.position(&topic));
        let ack = asker.map(|asker| (asker, position));
        let interests = self.homes.interests(&topic);
        let threads = (&mut self.desk, &mut self.frames, &mut self.post);
        let ack = post_to_all(threads, interests, &publication, namespace, ack);
        if let Some((to, position)) = ack {
            let reply = Reply::Published(position);
            self.post.deliver(to.node, Delivery::Reply { to, reply });
        }
    }

    /// Ends the connection of this id; returns how many there were.
    fn disconnect(&mut self, id: &str, code: u16, reason: &str) -> usize {
        let Some(id) = ClientId::parse(id) else { return 0 };
        let farewell = Farewell { code, reason: reason.to_owned().into() };
        let mut count = 0;
        for index in 0..self.slots.end() {
            let Some(slot) = self.slots.at_mut(index) else { continue };
            if slot.conn.client_id() == Some(id) {
                self.call(index, |conn, cx| conn.disconnect(&farewell, cx));
                count += 1;
            }
        }
        count
    }
}

/// Encodes a publication in the forms that are wanted, and posts it to the threads that want it. `ack`
/// goes along to the publisher's thread; what is returned is still to be delivered.
pub(super) fn post_to_all(
    (desk, frames, post): (&mut Desk, &mut Frames, &mut Post),
    interests: &[Interest],
    publication: &Publication,
    namespace: &Namespace,
    mut ack: Option<(Asker, Option<Position>)>,
) -> Option<(Asker, Option<Position>)> {
    if interests.is_empty() {
        return ack;
    }
    let compression =
        if namespace.compress { Compression::Allowed } else { Compression::Forbidden };
    let is_wanted = |form| interests.iter().any(|i| i.grants[usize::from(form)] > 0);
    let Desk { codec, scratch, .. } = desk;
    let mut forms = variant::encode_all(publication, is_wanted, compression, codec, scratch);
    frames.enter(&mut forms);
    let topic = publication.topic.clone();
    let encoded = Arc::new(Encoded { topic, mode: namespace.mode, forms });
    for interest in interests {
        let ack = ack.take_if(|(asker, _)| asker.node == interest.node);
        let encoded = Arc::clone(&encoded);
        post.deliver(interest.node, Delivery::Publication { encoded, ack });
    }
    ack
}

fn refused(error: HomeError) -> Refused {
    match error {
        HomeError::TopicsExhausted => Refused::TopicsExhausted,
        HomeError::NoHistory => Refused::NoHistory,
        HomeError::OtherEpoch => Refused::OtherEpoch,
        HomeError::MustKeep => Refused::MustKeep,
    }
}
