//! Where topics are at home: the shard that numbers their publications, keeps their history and
//! knows which threads are interested.
//!
//! Interest is counted: grants minus releases for each thread and form, so that an unsubscribe
//! which crosses a new subscription on its way does no harm.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;

use super::history::{History, HistoryQuery, Recovery};
use super::name::TopicName;
use super::namespace::{Mode, Namespace};
use super::publication::{Epoch, Payload, Position, Publication, Publisher};

/// Most forms in which a publication can be encoded.
pub const FORMS_MAX: usize = 4;

/// How many subscribers a thread has for a topic, by the form they want.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    /// The thread.
    pub node: usize,
    /// Grants minus releases for each form.
    pub grants: [u32; FORMS_MAX],
}

/// Why a home does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeError {
    /// The shard has its share of `topics_max` already.
    TopicsExhausted,
    /// The topic has no positions or keeps no history.
    NoHistory,
    /// The position is of another epoch.
    OtherEpoch,
}

/// The answer to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The newest publication before the first delivery; `None` on topics without positions.
    pub position: Option<Position>,
    /// What became of the wish to recover.
    pub recovery: Recovery,
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
    /// Keep it out of the history, and give it no offset.
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
    top: u64,
    epoch: Epoch,
    history: History,
    interests: Vec<Interest>,
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
        self.topics.iter().flatten().map(|topic| {
            let grants = topic.interests.iter().flat_map(|i| i.grants).map(u64::from).sum();
            (&topic.name, grants)
        })
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
        topic.grant(node, form);
        Ok(topic.join(namespace, since))
    }

    /// Takes a grant back.
    pub fn release(&mut self, name: &TopicName, (node, form): (usize, usize), now: Instant) {
        let Some(&index) = self.by_name.get(name) else {
            debug_assert!(false, "release of a topic that is not alive");
            return;
        };
        let Some(topic) = &mut self.topics[index as usize] else { return };
        topic.touched = now;
        topic.release(node, form);
        // Without positions there is nothing to come back to.
        if topic.interests.is_empty() && topic.position().is_none() {
            self.remove(index);
        }
    }

    /// Numbers and keeps a publication.
    ///
    /// Errors: [`HomeError::TopicsExhausted`].
    pub fn publish(
        &mut self,
        draft: Draft,
        namespace: &Namespace,
        now: Instant,
    ) -> Result<Arc<Publication>, HomeError> {
        let keeps = namespace.mode != Mode::Live && !draft.skip_history;
        if !keeps && !self.by_name.contains_key(&draft.topic) {
            return Ok(Arc::new(number(draft, None)));
        }
        let topic = self.enter(&draft.topic, namespace, now)?;
        topic.touched = now;
        if !keeps {
            return Ok(Arc::new(number(draft, None)));
        }
        topic.top += 1;
        let before = Weight::of(&topic.history);
        let publication = Arc::new(number(draft, Some(topic.top)));
        topic.history.push(Arc::clone(&publication), namespace, now);
        let after = Weight::of(&topic.history);
        self.weigh(before, after);
        Ok(publication)
    }

    /// The threads that want publications of this topic.
    pub fn interests(&self, name: &TopicName) -> &[Interest] {
        self.topic(name).map_or(&[], |topic| &topic.interests)
    }

    /// The topic's position; `None` when it is not alive or has no positions.
    pub fn position(&self, name: &TopicName) -> Option<Position> {
        self.topic(name).and_then(Topic::position)
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
        let position = topic.position().ok_or(HomeError::NoHistory)?;
        if query.since.as_ref().is_some_and(|since| !same_epoch(&since.epoch, &position.epoch)) {
            return Err(HomeError::OtherEpoch);
        }
        Ok((topic.history.read(query), position))
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
            let before = Weight::of(&topic.history);
            let is_worth_keeping = namespace_of(&topic.name).is_some_and(|namespace| {
                topic.history.expire(namespace, now);
                let quiet = now.saturating_duration_since(topic.touched);
                !topic.history.is_empty()
                    || (namespace.mode != Mode::Live && quiet < namespace.history_age)
            });
            let is_dead = topic.interests.is_empty() && !is_worth_keeping;
            let after = Weight::of(&topic.history);
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
        let before = Weight::of(&topic.history);
        topic.history.expire(namespace, now);
        let after = Weight::of(&topic.history);
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
            top: 0,
            epoch,
            history: History::default(),
            interests: Vec::new(),
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
            self.weigh(Weight::of(&topic.history), Weight::default());
            self.by_name.remove(&topic.name);
            self.vacant.push(index);
        }
    }
}

/// What a history weighs on the ledger.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    bytes: usize,
    len: usize,
}

impl Weight {
    fn of(history: &History) -> Self {
        Self { bytes: history.bytes(), len: history.len() }
    }
}

impl Topic {
    /// `None` on topics without positions: their epoch is empty.
    fn position(&self) -> Option<Position> {
        (!self.epoch.as_str().is_empty())
            .then(|| Position { offset: self.top, epoch: self.epoch.clone() })
    }

    fn join(&self, namespace: &Namespace, since: Option<&Position>) -> Joined {
        let position = self.position();
        let recovery = match (since, &position) {
            (None, _) => Recovery::NotAsked,
            (Some(_), None) => Recovery::Lost,
            (Some(_), Some(_)) if !namespace.recovery => Recovery::Lost,
            (Some(since), Some(position)) => match namespace.mode {
                Mode::Latest => self.recover_latest(since, position),
                Mode::Stream | Mode::Live => self.recover_all(since, position),
            },
        };
        Joined { position, recovery }
    }

    fn recover_all(&self, since: &Position, position: &Position) -> Recovery {
        if !same_epoch(&since.epoch, &position.epoch) {
            return Recovery::Lost;
        }
        self.history.after(since.offset, self.top).map_or(Recovery::Lost, Recovery::Recovered)
    }

    fn recover_latest(&self, since: &Position, position: &Position) -> Recovery {
        if since == position {
            return Recovery::Recovered(Vec::new());
        }
        self.history
            .newest()
            .map_or(Recovery::Lost, |newest| Recovery::Recovered(vec![Arc::clone(newest)]))
    }

    fn grant(&mut self, node: usize, form: usize) {
        let interest = match self.interests.iter_mut().find(|i| i.node == node) {
            Some(interest) => interest,
            None => {
                self.interests.push(Interest { node, grants: [0; FORMS_MAX] });
                let last = self.interests.len() - 1;
                &mut self.interests[last]
            }
        };
        interest.grants[form] += 1;
    }

    fn release(&mut self, node: usize, form: usize) {
        let Some(index) = self.interests.iter().position(|i| i.node == node) else {
            debug_assert!(false, "release without a grant");
            return;
        };
        let grants = &mut self.interests[index].grants;
        debug_assert!(grants[form] > 0, "more releases than grants");
        grants[form] = grants[form].saturating_sub(1);
        if grants.iter().all(|&n| n == 0) {
            self.interests.swap_remove(index);
        }
    }
}

/// Clients that know no epoch yet adopt the one they find.
fn same_epoch(theirs: &Epoch, ours: &Epoch) -> bool {
    theirs.as_str().is_empty() || theirs == ours
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
