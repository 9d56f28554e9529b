//! The control thread: the server API and the witness that hears every publication.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ringway::dialect::variant::Variant;
use ringway::mail::message::{Asker, Delivery, Reply, Request};
use ringway::mail::post::Post;
use ringway::ring::sim::World;
use ringway::topic::home::Draft;
use ringway::topic::name::TopicName;
use ringway::topic::publication::Payload;

use crate::codec::frame;
use crate::journal::note;
use crate::plan::TOPICS;
use crate::truth::{Truth, id_of, payload_of};

/// What waits for its reply.
#[derive(Debug)]
enum Call {
    Witness(usize),
    Publish { topic: usize, id: usize },
    Census,
    Disconnect,
    Renew,
}

pub(crate) struct Control {
    post: Post,
    world: World,
    shards: usize,
    outgoing: Vec<VecDeque<Request>>,
    calls: BTreeMap<u32, Call>,
    last: u32,
    /// Topics that are witnessed, once they are.
    witnessed: Vec<usize>,
    /// Subscribers by topic, from censuses.
    pub(crate) census: BTreeMap<String, u64>,
    /// Connections that were disconnected.
    pub(crate) disconnected: usize,
}

pub(crate) fn topic_name(topic: usize) -> TopicName {
    TopicName::new(TOPICS[topic]).expect("a good name")
}

impl Control {
    pub(crate) fn new(post: Post, world: World, shards: usize) -> Self {
        Self {
            post,
            world,
            shards,
            outgoing: vec![VecDeque::new(); shards],
            calls: BTreeMap::new(),
            last: 0,
            witnessed: Vec::new(),
            census: BTreeMap::new(),
            disconnected: 0,
        }
    }

    /// Whether everything that was asked has been answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.calls.is_empty() && self.outgoing.iter().all(VecDeque::is_empty)
    }

    pub(crate) fn witnessed(&self) -> &[usize] {
        &self.witnessed
    }

    fn asker(&mut self, call: Call) -> Asker {
        self.last += 1;
        self.calls.insert(self.last, call);
        Asker { node: self.shards, slot: self.last, generation: 1, ticket: self.last }
    }

    fn send(&mut self, to: usize, request: Request) {
        self.outgoing[to].push_back(request);
        self.pump_requests();
    }

    /// Begins to hear everything that is published to `topic`.
    pub(crate) fn witness(&mut self, topic: usize) {
        let asker = self.asker(Call::Witness(topic));
        let name = topic_name(topic);
        let form = Variant::RAW.form();
        let home = name.home(self.shards);
        self.send(home, Request::Subscribe { asker, topic: name, form, since: None });
    }

    /// Gives all grants back.
    pub(crate) fn release(&mut self) {
        for topic in std::mem::take(&mut self.witnessed) {
            let name = topic_name(topic);
            let home = name.home(self.shards);
            let form = Variant::RAW.form();
            self.send(home, Request::Release { node: self.shards, topic: name, form });
        }
    }

    pub(crate) fn publish(&mut self, topic: usize, truth: &mut Truth) -> usize {
        let id = truth.draft(topic, None);
        note!("the API publishes {id} to {}", TOPICS[topic]);
        let asker = Some(self.asker(Call::Publish { topic, id }));
        let draft = Draft {
            topic: topic_name(topic),
            payload: Payload::Json(Bytes::from(payload_of(id, 0))),
            publisher: None,
            tags: None,
            skip_history: false,
        };
        self.send(draft.topic.home(self.shards), Request::Publish { asker, draft });
        id
    }

    pub(crate) fn take_census(&mut self) {
        self.census.clear();
        for shard in 0..self.shards {
            let asker = self.asker(Call::Census);
            self.send(shard, Request::Census { asker });
        }
    }

    /// Has all shards take their settings over again.
    pub(crate) fn renew(&mut self) {
        for shard in 0..self.shards {
            let asker = self.asker(Call::Renew);
            self.send(shard, Request::Renew { asker });
        }
    }

    pub(crate) fn disconnect(&mut self, client: &str) {
        note!("the API disconnects {client}");
        for shard in 0..self.shards {
            let asker = self.asker(Call::Disconnect);
            let client = Arc::from(client);
            let reason = Arc::from("bye");
            self.send(shard, Request::Disconnect { asker, client, code: 3999, reason });
        }
    }

    pub(crate) fn tell_all(&mut self, request: &Request) {
        note!("all shards are told {request:?}");
        (0..self.shards).for_each(|shard| self.send(shard, request.clone()));
    }

    fn pump_requests(&mut self) -> bool {
        let mut moved = false;
        for (to, queue) in self.outgoing.iter_mut().enumerate() {
            while let Some(request) = queue.pop_front() {
                if let Err(request) = self.post.request(to, request) {
                    queue.push_front(request);
                    break;
                }
                moved = true;
            }
        }
        moved
    }

    /// Sends what waits and takes what has come.
    pub(crate) fn pump(&mut self, truth: &mut Truth) -> bool {
        self.post.wake_up();
        let mut moved = self.pump_requests();
        for from in 0..self.shards {
            while let Some(delivery) = self.post.take_delivery(from) {
                moved = true;
                self.take(delivery, truth);
            }
        }
        let world = &self.world;
        self.post.wakes(|node| world.wake(node));
        self.post.fall_asleep();
        moved
    }

    fn take(&mut self, delivery: Delivery, truth: &mut Truth) {
        match delivery {
            Delivery::Publication { encoded, ack } => {
                let topic = TOPICS.iter().position(|name| *name == encoded.topic.as_str());
                let topic = topic.expect("a known topic");
                assert!(self.witnessed.contains(&topic), "a publication after the release");
                let bytes = encoded.forms[usize::from(Variant::RAW.form())].as_ref();
                let id = heard(bytes.expect("the form that was asked for"));
                note!("the witness of {} hears {id}", TOPICS[topic]);
                truth.witnessed(topic, id);
                if let Some((asker, _)) = ack {
                    match self.calls.remove(&asker.ticket) {
                        Some(Call::Publish { id: of, .. }) => {
                            assert_eq!(of, id, "the answer of another publication");
                            truth.acked(id);
                        }
                        other => panic!("{other:?} is no publication"),
                    }
                }
            }
            Delivery::Lost(topic) => panic!("{topic:?} has no engine that could lose anything"),
            Delivery::Reply { to, reply } => {
                let call = self.calls.remove(&to.ticket).expect("an open call");
                self.replied(call, reply, truth);
            }
        }
    }

    fn replied(&mut self, call: Call, reply: Reply, truth: &mut Truth) {
        match (call, reply) {
            (Call::Witness(topic), Reply::Granted { .. }) => {
                self.witnessed.push(topic);
                truth.witnesses.entry(topic).or_default();
            }
            (Call::Publish { topic, id }, Reply::Published(position)) => {
                truth.acked(id);
                assert!(
                    !self.witnessed.contains(&topic),
                    "the answer came without its publication"
                );
                assert_eq!(position.is_some(), !TOPICS[topic].starts_with('l'));
                if let Some(position) = position {
                    let place = (position.epoch.as_str(), position.offset);
                    truth.seen(topic, Some(place), id);
                }
            }
            (Call::Publish { id, .. }, Reply::Refused { .. }) => truth.refused(id),
            (Call::Witness(_), Reply::Refused { .. }) => {}
            (Call::Census, Reply::Census(topics)) => {
                for (name, count) in topics {
                    *self.census.entry(name.as_str().to_owned()).or_default() += count;
                }
            }
            (Call::Disconnect, Reply::Disconnected(count)) => self.disconnected += count,
            (Call::Renew, Reply::Pong) => {}
            (call, reply) => panic!("{call:?} was answered {reply:?}"),
        }
    }
}

/// The number of the publication in a server's frame.
fn heard(bytes: &Bytes) -> usize {
    // A client's frame of the same payload is as long and four bytes of mask.
    let header = if bytes[1] < 126 { 2 } else { 4 };
    let payload = &bytes[header..];
    assert_eq!(bytes.len() + 4, frame(bytes[0], [0; 4], payload).len(), "a frame of its length");
    id_of(payload)
}
