//! Where topics are at home: the shard that numbers their publications, keeps their history and
//! knows which threads are interested.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;

use super::history::{HistoryQuery, Weight};
use super::interests::{Interest, Interests};
use super::name::TopicName;
use super::namespace::{Mode, Namespace};
use super::publication::{Epoch, Payload, Position, Publication, Publisher};
use super::sequence::{Joined, Sequence, same_epoch};

/// Why a home does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeError {
    /// The shard has its share of `topics_max` already.
    TopicsExhausted,
    /// The topic has no positions or keeps no history.
    NoHistory,
    /// The position is of another epoch.
    OtherEpoch,
    /// On a topic with positions every publication has one, and stays in the history: subscribers
    /// count on it.
    MustKeep,
}

/// What a publisher hands over.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where to publish.
    pub topic: TopicName,
    /// What.
    pub payload: Payload,
    /// Who, as subscribers see it.
    pub publisher: Option<Arc<Publisher>>,
    /// A JSON object of strings.
    pub tags: Option<Bytes>,
    /// Keep it out of the history; only where nothing is kept anyway.
    pub skip_history: bool,
}

/// The topics at home on one shard.
#[derive(Debug)]
pub struct Homes {
    by_name: HashMap<TopicName, u32>,
    topics: Vec<Option<Topic>>,
    vacant: Vec<u32>,
    topics_max: usize,
    nonce: String,
    created: u64,
    swept: usize,
    history_bytes: usize,
    history_len: usize,
}

#[derive(Debug)]
struct Topic {
    name: TopicName,
    sequence: Sequence,
    interests: Interests,
    /// The last time it had interest or was published to.
    touched: Instant,
}

impl Homes {
    /// No topics yet. `nonce` is what sets the epochs of this shard of this process apart from all
    /// others; `topics_max` is this shard's share of the limit.
    pub fn new(nonce: String, topics_max: usize) -> Self {
        Self {
            by_name: HashMap::new(),
            topics: Vec::new(),
            vacant: Vec::new(),
            topics_max,
            nonce,
            created: 0,
            swept: 0,
            history_bytes: 0,
            history_len: 0,
        }
    }

    /// Topics alive.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether no topic is alive.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Payload bytes in all histories.
    pub fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Publications in all histories.
    pub fn history_len(&self) -> usize {
        self.history_len
    }

    /// Each topic with its number of subscribers.
    pub fn census(&self) -> impl Iterator<Item = (&TopicName, u64)> {
        self.topics.iter().flatten().map(|topic| (&topic.name, topic.interests.subscribers()))
    }

    /// Grants a subscription of thread `node` in `form` and says where it starts.
    ///
    /// Errors: [`HomeError::TopicsExhausted`].
    pub fn subscribe(
        &mut self,
        name: &TopicName,
        namespace: &Namespace,
        (node, form): (usize, usize),
        since: Option<&Position>,
        now: Instant,
    ) -> Result<Joined, HomeError> {
        let topic = self.enter(name, namespace, now)?;
        topic.interests.grant(node, form);
        Ok(topic.sequence.join(namespace, since))
    }

    /// From now on there may be so many topics; those that are there stay.
    pub fn set_topics_max(&mut self, topics_max: usize) {
        self.topics_max = topics_max;
    }

    /// Takes a grant back.
    pub fn release(&mut self, name: &TopicName, (node, form): (usize, usize), now: Instant) {
        let Some(&index) = self.by_name.get(name) else {
            debug_assert!(false, "release of a topic that is not alive");
            return;
        };
        let Some(topic) = &mut self.topics[index as usize] else { return };
        topic.touched = now;
        topic.interests.release(node, form);
        // Without positions there is nothing to come back to.
        if topic.interests.is_empty() && topic.sequence.position().is_none() {
            self.remove(index);
        }
    }

    /// Numbers and keeps a publication.
    ///
    /// Errors: [`HomeError::TopicsExhausted`], [`HomeError::MustKeep`].
    pub fn publish(
        &mut self,
        draft: Draft,
        namespace: &Namespace,
        now: Instant,
    ) -> Result<Arc<Publication>, HomeError> {
        let keeps = namespace.mode != Mode::Live;
        if keeps && draft.skip_history {
            return Err(HomeError::MustKeep);
        }
        if !keeps && !self.by_name.contains_key(&draft.topic) {
            return Ok(Arc::new(number(draft, None)));
        }
        let topic = self.enter(&draft.topic, namespace, now)?;
        topic.touched = now;
        if !keeps {
            return Ok(Arc::new(number(draft, None)));
        }
        topic.sequence.top += 1;
        let before = Weight::of(&topic.sequence.history);
        let publication = Arc::new(number(draft, Some(topic.sequence.top)));
        topic.sequence.history.push(Arc::clone(&publication), namespace, now);
        let after = Weight::of(&topic.sequence.history);
        self.weigh(before, after);
        Ok(publication)
    }

    /// The threads that want publications of this topic.
    pub fn interests(&self, name: &TopicName) -> &[Interest] {
        self.topic(name).map_or(&[], |topic| topic.interests.as_slice())
    }

    /// The topic's position; `None` when it is not alive or has no positions.
    pub fn position(&self, name: &TopicName) -> Option<Position> {
        self.topic(name).and_then(|topic| topic.sequence.position())
    }

    /// Reads the history.
    ///
    /// Errors: [`HomeError::NoHistory`], [`HomeError::OtherEpoch`], [`HomeError::TopicsExhausted`].
    pub fn history(
        &mut self,
        name: &TopicName,
        namespace: &Namespace,
        query: &HistoryQuery,
        now: Instant,
    ) -> Result<(Vec<Arc<Publication>>, Position), HomeError> {
        if namespace.mode == Mode::Live || namespace.history_size == 0 {
            return Err(HomeError::NoHistory);
        }
        let topic = self.enter(name, namespace, now)?;
        let position = topic.sequence.position().ok_or(HomeError::NoHistory)?;
        if query.since.as_ref().is_some_and(|since| !same_epoch(&since.epoch, &position.epoch)) {
            return Err(HomeError::OtherEpoch);
        }
        Ok((topic.sequence.history.read(query), position))
    }

    /// Drops old publications and dead topics, looking at no more than `budget` topics. Without a
    /// namespace a topic lives only as long as somebody is subscribed.
    pub fn sweep<'n>(
        &mut self,
        namespace_of: impl Fn(&TopicName) -> Option<&'n Namespace>,
        budget: usize,
        now: Instant,
    ) {
        for _ in 0..budget.min(self.topics.len()) {
            self.swept = (self.swept + 1) % self.topics.len();
            let Some(topic) = &mut self.topics[self.swept] else { continue };
            let before = Weight::of(&topic.sequence.history);
            let is_worth_keeping = namespace_of(&topic.name).is_some_and(|namespace| {
                topic.sequence.history.expire(namespace, now);
                let quiet = now.saturating_duration_since(topic.touched);
                !topic.sequence.history.is_empty()
                    || (namespace.mode != Mode::Live && quiet < namespace.history_age)
            });
            let is_dead = topic.interests.is_empty() && !is_worth_keeping;
            let after = Weight::of(&topic.sequence.history);
            self.weigh(before, after);
            if is_dead && let Ok(index) = u32::try_from(self.swept) {
                self.remove(index);
            }
        }
    }

    fn topic(&self, name: &TopicName) -> Option<&Topic> {
        self.by_name.get(name).and_then(|&index| self.topics[index as usize].as_ref())
    }

    /// The topic, made when it is not alive; its history is trimmed to `now`.
    fn enter(
        &mut self,
        name: &TopicName,
        namespace: &Namespace,
        now: Instant,
    ) -> Result<&mut Topic, HomeError> {
        let index = match self.by_name.get(name) {
            Some(&index) => index,
            None => self.create(name, namespace, now)?,
        };
        let topic = self.topics[index as usize].as_mut().ok_or(HomeError::TopicsExhausted)?;
        let before = Weight::of(&topic.sequence.history);
        topic.sequence.history.expire(namespace, now);
        let after = Weight::of(&topic.sequence.history);
        self.history_bytes = self.history_bytes + after.bytes - before.bytes;
        self.history_len = self.history_len + after.len - before.len;
        Ok(topic)
    }

    fn create(
        &mut self,
        name: &TopicName,
        namespace: &Namespace,
        now: Instant,
    ) -> Result<u32, HomeError> {
        if self.by_name.len() >= self.topics_max {
            return Err(HomeError::TopicsExhausted);
        }
        let epoch = if namespace.mode == Mode::Live {
            Epoch::new("")
        } else {
            self.created += 1;
            Epoch::new(&format!("{}.{}", self.nonce, self.created))
        };
        let topic = Topic {
            name: name.clone(),
            sequence: Sequence::new(epoch, 0),
            interests: Interests::default(),
            touched: now,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.topics[index as usize] = Some(topic);
                index
            }
            None => {
                let index =
                    u32::try_from(self.topics.len()).map_err(|_| HomeError::TopicsExhausted)?;
                self.topics.push(Some(topic));
                index
            }
        };
        self.by_name.insert(name.clone(), index);
        Ok(index)
    }

    fn weigh(&mut self, before: Weight, after: Weight) {
        self.history_bytes = self.history_bytes + after.bytes - before.bytes;
        self.history_len = self.history_len + after.len - before.len;
    }

    fn remove(&mut self, index: u32) {
        if let Some(topic) = self.topics[index as usize].take() {
            self.weigh(Weight::of(&topic.sequence.history), Weight::default());
            self.by_name.remove(&topic.name);
            self.vacant.push(index);
        }
    }
}

fn number(draft: Draft, offset: Option<u64>) -> Publication {
    Publication {
        topic: draft.topic,
        offset,
        payload: draft.payload,
        publisher: draft.publisher,
        tags: draft.tags,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hashbrown::HashSet;
    use proptest::prelude::*;

    use super::super::history::Recovery;
    use super::super::interests::FORMS_MAX;
    use super::super::namespace::{Broker, PublishRight};
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn namespace(mode: Mode) -> Namespace {
        Namespace {
            name: String::new(),
            mode,
            broker: Broker::Embedded,
            history_size: 3,
            history_age: Duration::from_secs(10),
            history_bytes_max: 12,
            recovery: true,
            publish: PublishRight::Allow,
            compress: true,
        }
    }

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn draft(name: &str, payload: &str) -> Draft {
        let payload = Payload::Text(Bytes::copy_from_slice(payload.as_bytes()));
        Draft { topic: topic(name), payload, publisher: None, tags: None, skip_history: false }
    }

    fn offsets(recovery: &Recovery) -> Option<Vec<u64>> {
        match recovery {
            Recovery::NotAsked | Recovery::Lost => None,
            Recovery::Recovered(publications) => {
                Some(publications.iter().map(|p| p.offset.unwrap()).collect())
            }
        }
    }

    #[test]
    fn a_topic_without_positions_lives_as_long_as_its_subscribers() {
        let (mut homes, live, now) = (Homes::new("n".into(), 9), namespace(Mode::Live), start());
        let joined = homes.subscribe(&topic("a"), &live, (0, 0), None, now).unwrap();
        assert_eq!(joined, Joined { position: None, recovery: Recovery::NotAsked });
        let published = homes.publish(draft("a", "x"), &live, now).unwrap();
        assert_eq!((published.offset, homes.history_len()), (None, 0));
        let since = Position { offset: 0, epoch: Epoch::new("") };
        let joined = homes.subscribe(&topic("a"), &live, (0, 1), Some(&since), now).unwrap();
        assert_eq!(joined.recovery, Recovery::Lost);
        homes.release(&topic("a"), (0, 0), now);
        assert_eq!(homes.len(), 1);
        homes.release(&topic("a"), (0, 1), now);
        assert!(homes.is_empty());
        homes.publish(draft("a", "x"), &live, now).unwrap();
        assert!(homes.is_empty(), "nobody listens and nothing is kept");
    }

    #[test]
    fn a_latest_topic_keeps_one_publication_and_recovers_to_it() {
        let (mut homes, latest, now) =
            (Homes::new("n".into(), 9), namespace(Mode::Latest), start());
        for payload in ["a", "b", "c"] {
            homes.publish(draft("t", payload), &latest, now).unwrap();
        }
        assert_eq!((homes.history_len(), homes.history_bytes()), (1, 1));
        let top = homes.position(&topic("t")).unwrap();
        assert_eq!(top.offset, 3);
        let mut recovered = |since: &Position| {
            let joined = homes.subscribe(&topic("t"), &latest, (0, 0), Some(since), now).unwrap();
            assert_eq!(joined.position.as_ref(), Some(&top));
            offsets(&joined.recovery)
        };
        assert_eq!(recovered(&top), Some(vec![]));
        assert_eq!(recovered(&Position { offset: 1, ..top.clone() }), Some(vec![3]));
        // The newest state is all that counts: also to one who knows another life of the topic.
        assert_eq!(recovered(&Position { offset: 3, epoch: Epoch::new("other") }), Some(vec![3]));
    }

    #[test]
    fn only_topics_without_positions_let_a_publication_skip_the_history() {
        let mut homes = Homes::new("n".into(), 9);
        let now = start();
        let skipping = |name| Draft { skip_history: true, ..draft(name, "b") };
        for mode in [Mode::Stream, Mode::Latest] {
            let refused = homes.publish(skipping("t"), &namespace(mode), now);
            assert_eq!(refused, Err(HomeError::MustKeep));
        }
        let live = homes.publish(skipping("l"), &namespace(Mode::Live), now).unwrap();
        assert_eq!(live.offset, None);
    }

    #[test]
    fn a_publication_too_large_for_the_history_is_delivered_and_makes_recovery_impossible() {
        let (mut homes, stream, now) =
            (Homes::new("n".into(), 9), namespace(Mode::Stream), start());
        homes.publish(draft("t", "a"), &stream, now).unwrap();
        let before = homes.position(&topic("t")).unwrap();
        let large = homes.publish(draft("t", "thirteen bytes"), &stream, now).unwrap();
        assert_eq!(large.offset, Some(2));
        assert_eq!((homes.history_len(), homes.history_bytes()), (0, 0));
        let joined = homes.subscribe(&topic("t"), &stream, (0, 0), Some(&before), now).unwrap();
        assert_eq!(joined.recovery, Recovery::Lost);
    }

    #[test]
    fn a_history_of_no_age_keeps_nothing_and_still_counts() {
        let stream = Namespace { history_age: Duration::ZERO, ..namespace(Mode::Stream) };
        let (mut homes, now) = (Homes::new("n".into(), 9), start());
        homes.subscribe(&topic("t"), &stream, (0, 0), None, now).unwrap();
        for offset in 1..4 {
            let published = homes.publish(draft("t", "a"), &stream, now).unwrap();
            assert_eq!(published.offset, Some(offset));
        }
        assert_eq!(homes.history_len(), 0);
        homes.release(&topic("t"), (0, 0), now);
        homes.sweep(|_| Some(&stream), 1, now);
        assert!(homes.is_empty());
    }

    #[test]
    fn history_is_read_from_either_end_and_refuses_other_epochs() {
        let (mut homes, stream, now) =
            (Homes::new("n".into(), 9), namespace(Mode::Stream), start());
        for payload in ["a", "b", "c", "d"] {
            homes.publish(draft("t", payload), &stream, now).unwrap();
        }
        let top = homes.position(&topic("t")).unwrap();
        let mut read = |limit, since: Option<u64>, order| {
            let since = since.map(|offset| Position { offset, ..top.clone() });
            let query = HistoryQuery { limit, since, order };
            let (publications, position) =
                homes.history(&topic("t"), &stream, &query, now).unwrap();
            assert_eq!(position, top);
            publications.iter().map(|p| p.offset.unwrap()).collect::<Vec<_>>()
        };
        use super::super::history::Order::{Forward, Reverse};
        assert_eq!(read(9, None, Forward), [2, 3, 4]);
        assert_eq!(read(2, None, Forward), [2, 3]);
        assert_eq!(read(9, Some(3), Forward), [4]);
        assert_eq!(read(2, None, Reverse), [4, 3]);
        assert_eq!(read(9, Some(4), Reverse), [3, 2]);
        assert_eq!(read(0, None, Forward), [0; 0]);
        let since = Some(Position { offset: 2, epoch: Epoch::new("other") });
        let query = HistoryQuery { limit: 9, since, order: Forward };
        let refused = homes.history(&topic("t"), &stream, &query, now).unwrap_err();
        assert_eq!(refused, HomeError::OtherEpoch);
        let query = HistoryQuery { since: None, ..query };
        let none = Namespace { history_size: 0, ..stream };
        let refused = homes.history(&topic("t"), &none, &query, now).unwrap_err();
        assert_eq!(refused, HomeError::NoHistory);
    }

    #[test]
    fn strangers_cannot_make_more_topics_than_allowed() {
        let (mut homes, stream, now) =
            (Homes::new("n".into(), 1), namespace(Mode::Stream), start());
        homes.publish(draft("a", "x"), &stream, now).unwrap();
        homes.publish(draft("a", "y"), &stream, now).unwrap();
        let refused = homes.publish(draft("b", "x"), &stream, now).unwrap_err();
        assert_eq!(refused, HomeError::TopicsExhausted);
        let refused = homes.subscribe(&topic("b"), &stream, (0, 0), None, now).unwrap_err();
        assert_eq!(refused, HomeError::TopicsExhausted);
        assert!(homes.interests(&topic("b")).is_empty());
    }

    #[test]
    fn crossing_releases_and_grants_add_up() {
        let (mut homes, stream, now) =
            (Homes::new("n".into(), 9), namespace(Mode::Stream), start());
        let name = topic("t");
        // A thread subscribes, leaves, and subscribes again before its first release has arrived.
        homes.subscribe(&name, &stream, (1, 0), None, now).unwrap();
        homes.subscribe(&name, &stream, (1, 0), None, now).unwrap();
        homes.release(&name, (1, 0), now);
        let interests = homes.interests(&name);
        assert_eq!((interests.len(), interests[0].node), (1, 1));
        assert_eq!(interests[0].grants, [1, 0, 0, 0, 0, 0]);
        assert_eq!(homes.census().map(|(_, n)| n).collect::<Vec<_>>(), [1]);
        homes.release(&name, (1, 0), now);
        assert!(homes.interests(&name).is_empty());
    }

    #[test]
    fn a_topic_whose_namespace_is_gone_dies_with_its_last_subscriber() {
        let (mut homes, stream, now) =
            (Homes::new("n".into(), 9), namespace(Mode::Stream), start());
        homes.subscribe(&topic("t"), &stream, (0, 0), None, now).unwrap();
        homes.publish(draft("t", "a"), &stream, now).unwrap();
        homes.sweep(|_| None, 9, now);
        assert_eq!(homes.len(), 1);
        homes.release(&topic("t"), (0, 0), now);
        homes.sweep(|_| None, 9, now);
        assert_eq!((homes.len(), homes.history_len(), homes.history_bytes()), (0, 0, 0));
    }

    /// What may happen to a topic.
    #[derive(Clone, Debug)]
    enum Step {
        Publish { payload_len: usize },
        Join { node: usize, form: usize, back: Option<u64> },
        Release { which: usize },
        Wait { seconds: u64 },
        Sweep,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_usize..8).prop_map(|payload_len| Step::Publish { payload_len }),
            3 => (0_usize..3, 0..FORMS_MAX, proptest::option::of(0_u64..6))
                .prop_map(|(node, form, back)| Step::Join { node, form, back }),
            2 => any::<usize>().prop_map(|which| Step::Release { which }),
            1 => (0_u64..8).prop_map(|seconds| Step::Wait { seconds }),
            2 => Just(Step::Sweep),
        ];
        proptest::collection::vec(step, 0..80)
    }

    /// The topic as a simple person would keep it: all publications of this life, for ever.
    #[derive(Default)]
    struct Model {
        epoch: Option<Epoch>,
        published: Vec<(Instant, String)>,
        grants: Vec<(usize, usize)>,
        seen: Vec<Position>,
        epochs: HashSet<String>,
    }

    impl Model {
        /// The oldest offset that the bounds still keep.
        fn oldest_kept(&self, namespace: &Namespace, now: Instant) -> usize {
            let mut bytes = 0;
            let kept = self.published.iter().rev().take(namespace.history_size);
            // A publication that once was too much pushed out all before it.
            let kept = kept.take_while(|(published, payload)| {
                bytes += payload.len();
                bytes <= namespace.history_bytes_max && now - *published < namespace.history_age
            });
            self.published.len() - kept.count()
        }

        fn meet(&mut self, position: &Position) {
            assert_eq!(position.offset, self.published.len() as u64);
            match &self.epoch {
                Some(epoch) => assert_eq!(*epoch, position.epoch),
                None => {
                    assert!(self.epochs.insert(position.epoch.as_str().into()), "an epoch again");
                    self.epoch = Some(position.epoch.clone());
                }
            }
            self.seen.push(position.clone());
        }
    }

    fn join(
        homes: &mut Homes,
        model: &mut Model,
        namespace: &Namespace,
        (node, form, back): (usize, usize, Option<u64>),
        now: Instant,
    ) {
        let count = model.seen.len() as u64;
        let since = back.and_then(|back| count.checked_sub(back + 1));
        let since = since.map(|at| model.seen[usize::try_from(at).unwrap()].clone());
        let name = topic("t");
        let joined = homes.subscribe(&name, namespace, (node, form), since.as_ref(), now).unwrap();
        model.grants.push((node, form));
        model.meet(&joined.position.unwrap());
        let kept = model.oldest_kept(namespace, now);
        let top = model.published.len();
        match (since, joined.recovery) {
            (None, recovery) => assert_eq!(recovery, Recovery::NotAsked),
            (Some(since), Recovery::Recovered(missed)) => {
                assert_eq!(Some(&since.epoch), model.epoch.as_ref(), "G2");
                let from = usize::try_from(since.offset).unwrap();
                assert!(from >= kept, "more than is kept");
                let got: Vec<_> = missed
                    .iter()
                    .map(|p| (p.offset.unwrap(), p.payload.bytes().to_vec()))
                    .collect();
                let want: Vec<_> = (from..top)
                    .map(|i| (i as u64 + 1, model.published[i].1.clone().into_bytes()))
                    .collect();
                assert_eq!(got, want, "G3: all that was missed, in order");
            }
            (Some(since), recovery) => {
                assert_eq!(recovery, Recovery::Lost);
                let same = Some(&since.epoch) == model.epoch.as_ref();
                assert!(!same || since.offset < kept as u64, "what is kept can be recovered");
            }
        }
    }

    proptest! {
        #[test]
        fn offsets_recovery_bounds_and_lives_are_those_of_a_simple_list(steps in steps()) {
            let stream = namespace(Mode::Stream);
            let mut homes = Homes::new("n".into(), 1);
            let mut model = Model::default();
            let mut now = start();
            for step in steps {
                match step {
                    Step::Publish { payload_len } => {
                        let payload = "x".repeat(payload_len);
                        let published = homes.publish(draft("t", &payload), &stream, now).unwrap();
                        model.published.push((now, payload));
                        prop_assert_eq!(published.offset, Some(model.published.len() as u64));
                        model.meet(&homes.position(&topic("t")).unwrap());
                    }
                    Step::Join { node, form, back } => {
                        join(&mut homes, &mut model, &stream, (node, form, back), now);
                    }
                    Step::Release { which } if !model.grants.is_empty() => {
                        let grant = model.grants.swap_remove(which % model.grants.len());
                        homes.release(&topic("t"), grant, now);
                    }
                    Step::Release { .. } => {}
                    Step::Wait { seconds } => now += Duration::from_secs(seconds),
                    Step::Sweep => {
                        homes.sweep(|_| Some(&stream), 4, now);
                        if homes.is_empty() {
                            prop_assert!(model.grants.is_empty(), "granted topics live");
                            prop_assert_eq!(
                                model.oldest_kept(&stream, now), model.published.len(),
                                "topics with history live"
                            );
                            model.epoch = None;
                            model.published.clear();
                        }
                        let kept = model.published.len() - model.oldest_kept(&stream, now);
                        prop_assert_eq!(homes.history_len(), kept);
                    }
                }
                let mut granted = [[0_u32; FORMS_MAX]; 3];
                model.grants.iter().for_each(|&(node, form)| granted[node][form] += 1);
                for (node, grants) in granted.iter().enumerate() {
                    let told = homes.interests(&topic("t")).iter().find(|i| i.node == node);
                    prop_assert_eq!(told.map_or([0; FORMS_MAX], |i| i.grants), *grants);
                    prop_assert!(told.is_none_or(|i| i.grants != [0; FORMS_MAX]));
                }
                prop_assert!(homes.history_len() <= stream.history_size);
                prop_assert!(homes.history_bytes() <= stream.history_bytes_max);
            }
        }
    }
}
