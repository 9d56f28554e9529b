//! One topic of a model engine, which loses connections, messages, history and memory; whatever it
//! does, subscribers see one order without a silent gap.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::namespace::{Broker, PublishRight};
use super::super::publication::Payload;
use super::*;

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn namespace(mode: Mode) -> Namespace {
    Namespace {
        name: String::new(),
        mode,
        broker: Broker::Redis,
        history_size: 6,
        history_age: Duration::from_secs(100),
        history_bytes_max: 1 << 10,
        recovery: mode != Mode::Live,
        publish: PublishRight::Allow,
        compress: true,
    }
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn publication(offset: u64, id: u64) -> Arc<Publication> {
    Arc::new(Publication {
        topic: topic(),
        offset: Some(offset),
        payload: Payload::Text(Bytes::from(id.to_string())),
        publisher: None,
        tags: None,
    })
}

fn id_of(publication: &Publication) -> u64 {
    std::str::from_utf8(publication.payload.bytes()).unwrap().parse().unwrap()
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    Publish,
    /// The link carries out the oldest errand.
    Work,
    /// The oldest message of the subscription reaches the home.
    Arrive,
    /// The oldest answer reaches the home.
    Answer,
    /// The oldest messages of the subscription are dropped, since their queue is full.
    Overflow,
    /// The engine does not answer in time and counts as down; the connection lives, and what was
    /// asked is still answered.
    Silence,
    /// The engine says no to the next question of where it has come to.
    Refuse,
    Disconnect,
    /// The engine can be reached, by a new connection or the one that was silent.
    Connect,
    /// The engine forgets its oldest entry.
    Trim,
    /// The engine is started again and has forgotten so many of the newest entries.
    Restart {
        lost: usize,
    },
    /// The engine is started again and has forgotten everything.
    Wipe,
    Subscribe {
        back: Option<u64>,
    },
    Leave {
        which: usize,
    },
    Wait {
        seconds: u64,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => Just(Event::Publish),
        8 => Just(Event::Work),
        8 => Just(Event::Arrive),
        8 => Just(Event::Answer),
        1 => Just(Event::Overflow),
        1 => Just(Event::Silence),
        1 => Just(Event::Refuse),
        1 => Just(Event::Disconnect),
        3 => Just(Event::Connect),
        1 => Just(Event::Trim),
        1 => (0_usize..4).prop_map(|lost| Event::Restart { lost }),
        1 => Just(Event::Wipe),
        4 => proptest::option::of(0_u64..8).prop_map(|back| Event::Subscribe { back }),
        1 => any::<usize>().prop_map(|which| Event::Leave { which }),
        1 => (0_u64..4).prop_map(|seconds| Event::Wait { seconds }),
    ];
    proptest::collection::vec(event, 0..160)
}

/// The engine with its link.
#[derive(Default)]
struct Engine {
    lives: u64,
    top: u64,
    entries: Vec<Arc<Publication>>,
    restarts: u64,
    kept: u64,
    is_up: bool,
    /// What the link was asked to listen to, and does while it is connected.
    listening: Option<u32>,
    refuses_next: bool,
    /// Whether the link is to ask again, since the engine has said no.
    asks_again: bool,
    errands: VecDeque<Errand>,
    messages: VecDeque<(Epoch, Arc<Publication>)>,
    answers: VecDeque<News>,
}

impl Engine {
    fn epoch(&self) -> Epoch {
        Epoch::new(&format!("e{}", self.lives))
    }

    fn head(&self) -> Head {
        let position = Position { offset: self.top, epoch: self.epoch() };
        Head { position, restarts: self.restarts, kept: self.kept }
    }

    fn publish(&mut self, id: u64) {
        self.top += 1;
        let publication = publication(self.top, id);
        self.entries.push(Arc::clone(&publication));
        if self.entries.len() > 6 {
            self.entries.remove(0);
        }
        if self.is_up && self.listening.is_some() {
            self.messages.push_back((self.epoch(), publication));
        }
    }

    fn say_where_it_stands(&mut self, ticket: u32) {
        if std::mem::take(&mut self.refuses_next) {
            self.asks_again = true;
            return self.answers.push_back(News::Unknown { topic: topic(), ticket });
        }
        let head = Some(self.head());
        self.answers.push_back(News::Listening { topic: topic(), ticket, head });
    }

    fn begin_new_life(&mut self) {
        self.lives += 1;
        (self.top, self.restarts, self.kept) = (0, 0, 0);
        self.entries.clear();
    }

    fn work(&mut self) {
        if !self.is_up {
            return;
        }
        match self.errands.pop_front() {
            None => {
                if std::mem::take(&mut self.asks_again)
                    && let Some(ticket) = self.listening
                {
                    self.say_where_it_stands(ticket);
                }
            }
            Some(Errand::Listen { ticket, .. }) => {
                self.listening = Some(ticket);
                self.say_where_it_stands(ticket);
            }
            Some(Errand::Ignore { .. }) => {
                self.listening = None;
                self.messages.clear();
            }
            Some(Errand::Read { ticket, since, .. }) => {
                let after = self.entries.iter().filter(|p| p.offset.unwrap() > since);
                let publications = after.cloned().collect();
                let found = Some(Found { head: self.head().position, publications });
                self.answers.push_back(News::Read { topic: topic(), ticket, found });
            }
            Some(Errand::Renew { ticket, epoch, .. }) => {
                if self.epoch() == epoch && !self.refuses_next {
                    self.begin_new_life();
                }
                self.say_where_it_stands(ticket);
            }
        }
    }

    fn disconnect(&mut self) {
        self.is_up = false;
        self.messages.clear();
        self.answers.clear();
        self.asks_again = false;
        // The link remembers what it is to listen to; other questions are not answered.
        for errand in std::mem::take(&mut self.errands) {
            match errand {
                Errand::Listen { ticket, .. } => self.listening = Some(ticket),
                Errand::Ignore { .. } => self.listening = None,
                Errand::Read { .. } | Errand::Renew { .. } => {}
            }
        }
    }
}

#[derive(Debug)]
struct Subscriber {
    epoch: Epoch,
    at: u64,
}

/// A home, its engine and its subscribers.
struct Stage {
    namespace: Namespace,
    engine: Engine,
    splices: Splices<u64>,
    now: Instant,
    published: u64,
    asked: BTreeMap<u64, Option<Position>>,
    last_asker: u64,
    subscribers: Vec<Subscriber>,
    /// Places that subscribers have come to.
    places: Vec<Position>,
    /// What is at a place.
    content: BTreeMap<(String, u64), u64>,
    lost: u64,
}

impl Stage {
    fn new(mode: Mode) -> Self {
        Self {
            namespace: namespace(mode),
            engine: Engine::default(),
            splices: Splices::default(),
            now: start(),
            published: 0,
            asked: BTreeMap::new(),
            last_asker: 0,
            subscribers: Vec::new(),
            places: Vec::new(),
            content: BTreeMap::new(),
            lost: 0,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Publish => {
                self.published += 1;
                self.engine.publish(self.published);
            }
            Event::Work => self.engine.work(),
            Event::Arrive => {
                if let Some((epoch, publication)) = self.engine.messages.pop_front() {
                    self.hear(News::Arrived { epoch: Some(epoch), publication });
                }
            }
            Event::Answer => {
                if let Some(news) = self.engine.answers.pop_front() {
                    self.hear(news);
                }
            }
            Event::Overflow if self.engine.is_up => {
                self.engine.messages.pop_front();
                if let Some(ticket) = self.engine.listening {
                    self.engine.say_where_it_stands(ticket);
                }
            }
            Event::Overflow => {}
            Event::Silence if self.engine.is_up => self.go_down(),
            Event::Silence => {}
            Event::Refuse => self.engine.refuses_next = true,
            Event::Disconnect => self.disconnect(),
            Event::Connect => self.connect(),
            Event::Trim if !self.engine.entries.is_empty() => drop(self.engine.entries.remove(0)),
            Event::Trim => {}
            Event::Restart { lost } => {
                self.disconnect();
                let engine = &mut self.engine;
                engine.top -= engine.top.min(lost as u64);
                let (top, epoch) = (engine.top, engine.epoch());
                // What no gateway remembers any more is lost without a trace: docs/brokers.md tells.
                let mut phases = self.splices.topics.values().map(|splice| &splice.phase);
                if !phases.any(|phase| matches!(phase, Phase::Following(_))) {
                    self.content.retain(|at, _| at.0 != epoch.as_str() || at.1 <= top);
                }
                let engine = &mut self.engine;
                engine.entries.retain(|p| p.offset.unwrap() <= top);
                engine.restarts += 1;
                engine.kept = top;
            }
            Event::Wipe => {
                self.disconnect();
                self.engine.begin_new_life();
            }
            Event::Subscribe { back } => {
                let back = back.and_then(|back| usize::try_from(back).ok());
                let at = back.and_then(|back| self.places.len().checked_sub(back + 1));
                self.subscribe(at.map(|at| self.places[at].clone()));
            }
            Event::Leave { which } if !self.subscribers.is_empty() => {
                let which = which % self.subscribers.len();
                self.leave(which);
            }
            Event::Leave { .. } => {}
            Event::Wait { seconds } => {
                self.now += Duration::from_secs(seconds);
                self.splices.sweep(self.now);
            }
        }
        self.take_effects();
    }

    fn disconnect(&mut self) {
        if std::mem::take(&mut self.engine.is_up) {
            self.engine.disconnect();
            self.go_down();
        }
    }

    fn go_down(&mut self) {
        self.splices.down(self.now + Duration::from_secs(2));
        self.take_effects();
        assert!(self.asked.is_empty(), "nobody waits for an engine that is down");
    }

    fn connect(&mut self) {
        self.engine.is_up = true;
        if !self.splices.is_up() {
            self.splices.up();
            if let Some(ticket) = self.engine.listening {
                self.engine.say_where_it_stands(ticket);
            }
        }
    }

    fn hear(&mut self, news: News) {
        self.splices.hear(news, &self.namespace, self.now);
        self.take_effects();
    }

    fn subscribe(&mut self, since: Option<Position>) {
        self.last_asker += 1;
        let asker = self.last_asker;
        self.asked.insert(asker, since.clone());
        let applicant = Applicant { asker, node: 0, form: 0, since };
        self.splices.subscribe(&topic(), &self.namespace, applicant, self.now);
    }

    fn leave(&mut self, which: usize) {
        let gone = self.subscribers.swap_remove(which);
        self.places.push(Position { offset: gone.at, epoch: gone.epoch });
        self.splices.release(&topic(), (0, 0), self.now + Duration::from_secs(2));
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.splices.take_effect() {
            match effect {
                Effect::Ask(Errand::Listen { ticket, .. }) if !self.engine.is_up => {
                    self.engine.listening = Some(ticket);
                }
                Effect::Ask(Errand::Ignore { .. }) if !self.engine.is_up => {
                    self.engine.listening = None;
                }
                Effect::Ask(errand) => self.engine.errands.push_back(errand),
                Effect::Deliver(publication) => self.delivered(&publication),
                Effect::Granted { asker, joined, .. } => self.granted(asker, joined),
                Effect::Refused { asker, .. } => {
                    self.asked.remove(&asker).expect("asked");
                }
                Effect::Lost(_) => {
                    assert_ne!(self.namespace.mode, Mode::Latest, "every value could be read");
                    self.lost += 1;
                    while !self.subscribers.is_empty() {
                        self.leave(0);
                    }
                }
            }
        }
    }

    fn granted(&mut self, asker: u64, joined: Joined) {
        let since = self.asked.remove(&asker).expect("asked");
        let position = joined.position.expect("a topic with positions");
        if let Recovery::Recovered(missed) = joined.recovery {
            let since = since.expect("only who asks recovers");
            if self.namespace.mode == Mode::Stream {
                assert_eq!(since.epoch, position.epoch, "G2: recovered from another life");
                let offsets: Vec<u64> = missed.iter().map(|p| p.offset.unwrap()).collect();
                let all: Vec<u64> = (since.offset + 1..=position.offset).collect();
                assert_eq!(offsets, all, "G3: all that was missed, or nothing");
            }
            missed.iter().for_each(|p| self.note(&position.epoch, p));
        }
        self.places.push(position.clone());
        self.subscribers.push(Subscriber { epoch: position.epoch, at: position.offset });
    }

    fn delivered(&mut self, publication: &Publication) {
        let offset = publication.offset.unwrap();
        let Some(first) = self.subscribers.first() else { return };
        let epoch = first.epoch.clone();
        for subscriber in &mut self.subscribers {
            assert_eq!(subscriber.epoch, epoch, "one life at a time");
            match self.namespace.mode {
                Mode::Latest => assert!(offset > subscriber.at, "older than what came before"),
                _ => assert_eq!(offset, subscriber.at + 1, "a gap, or a repetition"),
            }
            subscriber.at = offset;
        }
        self.note(&epoch, publication);
    }

    fn note(&mut self, epoch: &Epoch, publication: &Publication) {
        let place = (epoch.as_str().to_owned(), publication.offset.unwrap());
        let id = id_of(publication);
        let there = *self.content.entry(place.clone()).or_insert(id);
        assert_eq!(there, id, "two publications at {place:?}");
    }

    /// Lets everything come to rest; then all subscribers have all there is.
    fn rest(&mut self) {
        self.connect();
        self.take_effects();
        for _ in 0..1000 {
            let engine = &self.engine;
            let is_empty = engine.errands.is_empty() && engine.messages.is_empty();
            if is_empty && engine.answers.is_empty() && !engine.asks_again {
                break;
            }
            [Event::Work, Event::Arrive, Event::Answer].into_iter().for_each(|e| self.happen(e));
        }
        assert!(self.engine.answers.is_empty() && self.engine.errands.is_empty(), "no rest");
        assert!(self.asked.is_empty(), "everybody was answered");
        for subscriber in &self.subscribers {
            let end = (subscriber.at, &subscriber.epoch);
            if self.namespace.mode == Mode::Stream {
                assert_eq!(end, (self.engine.top, &self.engine.epoch()), "I10: at the head");
            }
        }
        while !self.subscribers.is_empty() {
            self.leave(0);
        }
        self.happen(Event::Wait { seconds: 10 });
        assert!(self.splices.is_empty() && self.splices.deadline().is_none(), "nothing is left");
        assert_eq!((self.splices.kept_bytes(), self.splices.kept_len()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_engine_loses_subscribers_see_one_order_or_are_told(events in events()) {
        let mut stage = Stage::new(Mode::Stream);
        stage.connect();
        events.into_iter().for_each(|event| stage.happen(event));
        stage.rest();
    }
}

#[test]
fn a_gap_is_read_and_closed_before_anything_behind_it_is_delivered() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    stage.happen(Event::Work);
    stage.happen(Event::Answer);
    (0..3).for_each(|_| stage.happen(Event::Publish));
    stage.happen(Event::Arrive);
    stage.engine.messages.pop_front();
    stage.happen(Event::Arrive);
    assert_eq!(stage.subscribers[0].at, 1, "the third waits for the second");
    stage.happen(Event::Work);
    stage.happen(Event::Answer);
    assert_eq!(stage.subscribers[0].at, 3);
    assert_eq!(stage.splices.take_gaps(), Gaps { healed: 1, lost: 0 });
}

#[test]
fn an_engine_that_forgot_what_it_sent_begins_a_new_life() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    for event in [Event::Work, Event::Answer, Event::Publish, Event::Arrive] {
        stage.happen(event);
    }
    assert_eq!(stage.subscribers[0].at, 1);
    stage.happen(Event::Restart { lost: 1 });
    // Another gateway publishes first: the offset is taken by something else.
    stage.happen(Event::Publish);
    stage.happen(Event::Connect);
    stage.happen(Event::Answer);
    assert_eq!((stage.lost, stage.subscribers.len()), (1, 0));
    let place = stage.places[1].clone();
    assert_eq!((place.offset, place.epoch.as_str()), (1, "e0"));
    stage.happen(Event::Work);
    stage.subscribe(Some(place));
    stage.happen(Event::Answer);
    assert_eq!((stage.subscribers[0].at, stage.subscribers[0].epoch.as_str()), (0, "e1"));
}

#[test]
fn a_topic_that_nobody_wants_is_kept_until_the_engine_has_said_what_it_remembers() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    for event in [Event::Work, Event::Answer, Event::Publish, Event::Arrive] {
        stage.happen(event);
    }
    stage.leave(0);
    stage.happen(Event::Restart { lost: 1 });
    stage.happen(Event::Wait { seconds: 10 });
    // Another gateway publishes first: the offset is taken by something else.
    stage.happen(Event::Publish);
    stage.happen(Event::Connect);
    stage.subscribe(Some(Position { offset: 0, epoch: Epoch::new("e0") }));
    stage.rest();
    assert_eq!(stage.engine.epoch().as_str(), "e1");
}

#[test]
fn what_is_asked_of_a_silent_engine_is_asked_again_when_the_connection_has_ended() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    stage.happen(Event::Work);
    stage.happen(Event::Answer);
    (0..2).for_each(|_| stage.happen(Event::Publish));
    // The answer to a question of before comes while the engine counts as down.
    stage.happen(Event::Overflow);
    stage.happen(Event::Silence);
    stage.happen(Event::Answer);
    assert!(matches!(stage.engine.errands[0], Errand::Read { .. }), "it is behind, and asks");
    stage.happen(Event::Disconnect);
    stage.rest();
}

#[test]
fn a_topic_that_the_engine_refused_is_asked_for_by_the_next_who_comes() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.happen(Event::Refuse);
    stage.subscribe(None);
    stage.take_effects();
    [Event::Work, Event::Answer].into_iter().for_each(|event| stage.happen(event));
    assert!(stage.asked.is_empty() && stage.splices.is_empty(), "refused, and gone");
    stage.subscribe(None);
    stage.take_effects();
    [Event::Work, Event::Work, Event::Answer].into_iter().for_each(|event| stage.happen(event));
    assert_eq!(stage.subscribers.len(), 1);
    stage.rest();
}

#[test]
fn whoever_is_subscribed_hears_on_after_the_engine_has_refused() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    [Event::Work, Event::Answer].into_iter().for_each(|event| stage.happen(event));
    stage.happen(Event::Disconnect);
    stage.happen(Event::Publish);
    stage.happen(Event::Refuse);
    stage.happen(Event::Connect);
    stage.happen(Event::Answer);
    assert_eq!((stage.subscribers.len(), stage.subscribers[0].at), (1, 0));
    stage.happen(Event::Work);
    stage.rest();
}

#[test]
fn a_new_life_that_is_found_has_restarts_of_its_own() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    [Event::Work, Event::Answer].into_iter().for_each(|event| stage.happen(event));
    stage.happen(Event::Restart { lost: 0 });
    stage.happen(Event::Connect);
    stage.happen(Event::Answer);
    // Somebody else has the topic begin a new life; the home learns of it by what comes.
    stage.engine.begin_new_life();
    for event in [Event::Publish, Event::Arrive, Event::Work, Event::Answer] {
        stage.happen(event);
    }
    assert_eq!((stage.lost, stage.subscribers.len()), (1, 0));
    stage.subscribe(None);
    stage.take_effects();
    for event in [Event::Publish, Event::Arrive] {
        stage.happen(event);
    }
    assert_eq!((stage.subscribers[0].at, stage.subscribers[0].epoch.as_str()), (2, "e1"));
    // The second publication is forgotten, and its offset taken by something else.
    stage.happen(Event::Restart { lost: 1 });
    stage.happen(Event::Publish);
    stage.happen(Event::Connect);
    stage.happen(Event::Answer);
    assert_eq!((stage.lost, stage.subscribers.len()), (2, 0));
    stage.rest();
}

#[test]
fn offsets_that_nobody_gives_do_no_harm() {
    let mut stage = Stage::new(Mode::Stream);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    [Event::Work, Event::Answer].into_iter().for_each(|event| stage.happen(event));
    let epoch = stage.engine.epoch();
    for (arrived, offsets) in [(3, vec![0, 0, 1, 2, 3]), (u64::MAX, vec![u64::MAX])] {
        for offset in [1, arrived] {
            let publication = publication(offset, offset);
            stage.hear(News::Arrived { epoch: Some(epoch.clone()), publication });
        }
        let Some(Errand::Read { ticket, .. }) = stage.engine.errands.pop_front() else {
            panic!("there is a gap");
        };
        let head = Position { offset: arrived, epoch: epoch.clone() };
        let publications = offsets.into_iter().map(|offset| publication(offset, offset)).collect();
        let found = Some(Found { head, publications });
        stage.hear(News::Read { topic: topic(), ticket, found });
    }
    assert_eq!((stage.lost, stage.splices.kept_len()), (1, 1));
}

#[test]
fn of_a_latest_topic_the_newest_value_comes_after_an_outage() {
    let mut stage = Stage::new(Mode::Latest);
    stage.connect();
    stage.subscribe(None);
    stage.take_effects();
    stage.happen(Event::Work);
    stage.happen(Event::Answer);
    stage.happen(Event::Disconnect);
    (0..5).for_each(|_| stage.happen(Event::Publish));
    stage.happen(Event::Connect);
    stage.happen(Event::Answer);
    stage.happen(Event::Work);
    stage.happen(Event::Answer);
    assert_eq!((stage.subscribers[0].at, stage.lost), (5, 0));
}
