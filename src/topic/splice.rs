//! Topics whose order is an engine's: the home only joins the pieces.
//!
//! An engine numbers publications and keeps them. What it sends by itself may have gaps, after a
//! broken connection or a full queue; what is read from it has none, and is late. A [`Splice`] makes
//! one order of both: it delivers what follows on the last offset, has read what is missing, and
//! only when that is gone says so ([`Effect::Lost`]). Nothing is skipped in silence.
//!
//! A subscriber is answered only when the engine has confirmed that it sends the topic, and what it
//! missed comes from what is remembered here, or is read. What is remembered is contiguous and was
//! told by the engine, so it is the same as the engine's own history, if shorter.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::history::{Recovery, Weight};
use super::interests::{Interest, Interests};
use super::name::TopicName;
use super::namespace::{Mode, Namespace};
use super::publication::{Epoch, Position, Publication};
use super::sequence::{Joined, same_epoch};

mod following;
mod message;

use following::{Following, Step};
pub use message::{Applicant, Effect, Errand, Found, Gaps, Head, News};

/// How much longer a topic is kept whose life is still to be ended.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// The topics of one engine at home on one shard; `A` names those who ask.
#[derive(Debug)]
pub struct Splices<A> {
    topics: HashMap<TopicName, Splice<A>>,
    effects: VecDeque<Effect<A>>,
    /// Topics that nobody wants any more, by the time they are to be left.
    departures: BTreeMap<(Instant, u32), TopicName>,
    is_up: bool,
    last_ticket: u32,
    kept: Weight,
    gaps: Gaps,
}

/// One topic.
#[derive(Debug)]
struct Splice<A> {
    interests: Interests,
    waiting: Vec<Waiting<A>>,
    /// Of [`Errand::Listen`].
    ticket: u32,
    phase: Phase,
    /// When it is to be left; `None`: somebody wants it.
    leave_at: Option<(Instant, u32)>,
}

#[derive(Debug)]
enum Phase {
    /// The engine has been asked to send it.
    Asked {
        /// What it has sent already, before it said from where on.
        seen: Option<Position>,
        /// The life that the topic must not have any more.
        outdated: Option<Epoch>,
    },
    /// The engine sends it.
    Following(Following),
}

impl<A> Splice<A> {
    /// Whether the engine is still to end the topic's life, or to say whether it has forgotten what was
    /// delivered: nobody else would know.
    fn is_unsettled(&self) -> bool {
        matches!(&self.phase, Phase::Asked { outdated: Some(_), .. })
            || matches!(&self.phase, Phase::Following(following) if following.is_suspended())
    }
}

#[derive(Debug)]
struct Waiting<A> {
    applicant: Applicant<A>,
    source: Source,
}

/// From where a subscriber gets what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// From memory, if it reaches back so far.
    Memory,
    /// The engine has been asked, with this ticket.
    Asked(u32),
    /// The engine has said what there is.
    Told,
}

impl<A: Copy> Default for Splices<A> {
    fn default() -> Self {
        Self {
            topics: HashMap::new(),
            effects: VecDeque::new(),
            departures: BTreeMap::new(),
            is_up: false,
            last_ticket: 0,
            kept: Weight::default(),
            gaps: Gaps::default(),
        }
    }
}

impl<A: Copy> Splices<A> {
    /// Topics that the engine sends or is asked to send.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Whether the engine can be reached.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether the topic is there.
    pub fn contains(&self, name: &TopicName) -> bool {
        self.topics.contains_key(name)
    }

    /// Payload bytes that are remembered.
    pub fn kept_bytes(&self) -> usize {
        self.kept.bytes
    }

    /// Publications that are remembered.
    pub fn kept_len(&self) -> usize {
        self.kept.len
    }

    /// How gaps have ended since the last call.
    pub fn take_gaps(&mut self) -> Gaps {
        std::mem::take(&mut self.gaps)
    }

    /// Each topic with its number of subscribers.
    pub fn census(&self) -> impl Iterator<Item = (&TopicName, u64)> {
        self.topics.iter().map(|(name, splice)| (name, splice.interests.subscribers()))
    }

    /// The threads that want publications of this topic.
    pub fn interests(&self, name: &TopicName) -> &[Interest] {
        self.topics.get(name).map_or(&[], |splice| splice.interests.as_slice())
    }

    /// What is to be done next.
    pub fn effect(&self) -> Option<&Effect<A>> {
        self.effects.front()
    }

    /// Takes what is to be done next.
    pub fn take_effect(&mut self) -> Option<Effect<A>> {
        self.effects.pop_front()
    }

    /// When [`Splices::sweep`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.departures.keys().next().map(|(at, _)| *at)
    }

    /// Takes in somebody who wants to subscribe; [`Effect::Granted`] or [`Effect::Refused`] follows.
    pub fn subscribe(
        &mut self,
        name: &TopicName,
        namespace: &Namespace,
        applicant: Applicant<A>,
        now: Instant,
    ) {
        if !self.is_up {
            let refused = Effect::Refused { asker: applicant.asker, topic: name.clone() };
            return self.effects.push_back(refused);
        }
        if !self.topics.contains_key(name) {
            self.last_ticket = self.last_ticket.wrapping_add(1);
            let ticket = self.last_ticket;
            let splice = Splice {
                interests: Interests::default(),
                waiting: Vec::new(),
                ticket,
                phase: Phase::Asked { seen: None, outdated: None },
                leave_at: None,
            };
            self.topics.insert(name.clone(), splice);
            let listen = Errand::Listen { topic: name.clone(), ticket };
            self.effects.push_back(Effect::Ask(listen));
        }
        if let Some(splice) = self.topics.get_mut(name) {
            if let Some(departure) = splice.leave_at.take() {
                self.departures.remove(&departure);
            }
            splice.waiting.push(Waiting { applicant, source: Source::Memory });
        }
        self.settle(name, namespace, now);
    }

    /// Takes a grant back. When it was the last, the topic is left at `leave_at`, unless somebody
    /// comes before.
    pub fn release(&mut self, name: &TopicName, (node, form): (usize, usize), leave_at: Instant) {
        let Some(splice) = self.topics.get_mut(name) else {
            debug_assert!(false, "release of a topic that is not there");
            return;
        };
        splice.interests.release(node, form);
        self.depart_unless_wanted(name, leave_at);
    }

    /// Takes in what the engine link tells about a topic.
    pub fn hear(&mut self, news: News, namespace: &Namespace, now: Instant) {
        match news {
            News::Up | News::Down => debug_assert!(false, "of no topic"),
            News::Listening { topic, ticket, head } => {
                self.listening(&topic, ticket, head, namespace, now);
                self.settle(&topic, namespace, now);
            }
            News::Unknown { topic, ticket } => self.refuse(&topic, ticket, now),
            News::Arrived { epoch, publication } => {
                let topic = publication.topic.clone();
                self.arrived(epoch, publication, namespace, now);
                self.settle(&topic, namespace, now);
            }
            News::Read { topic, ticket, found } => {
                self.read(&topic, ticket, found, namespace, now);
                self.settle(&topic, namespace, now);
            }
        }
    }

    /// The engine can be reached.
    pub fn up(&mut self) {
        self.is_up = true;
    }

    /// The engine cannot be reached: nobody waits any longer, and whoever is subscribed stays so.
    pub fn down(&mut self, leave_at: Instant) {
        self.is_up = false;
        let mut unwanted = Vec::new();
        for (name, splice) in &mut self.topics {
            for waiting in splice.waiting.drain(..) {
                let asker = waiting.applicant.asker;
                self.effects.push_back(Effect::Refused { asker, topic: name.clone() });
            }
            match &mut splice.phase {
                Phase::Asked { seen, .. } => *seen = None,
                Phase::Following(following) => following.suspend(),
            }
            if splice.interests.is_empty() {
                unwanted.push(name.clone());
            }
        }
        unwanted.iter().for_each(|name| self.depart_unless_wanted(name, leave_at));
    }

    /// Leaves the topics that nobody wanted in time.
    pub fn sweep(&mut self, now: Instant) {
        while let Some(entry) = self.departures.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let topic = entry.remove();
            if let Some(splice) = self.topics.get_mut(&topic).filter(|s| s.is_unsettled()) {
                splice.leave_at = None;
                self.depart_unless_wanted(&topic, now + RENEWAL_PAUSE);
                continue;
            }
            self.leave(topic);
        }
    }

    /// Nobody can be told where the topic begins. The link asks again for whoever is subscribed, and
    /// to settle what is open; a topic that is only beginning is left, and the next who comes begins
    /// it again.
    fn refuse(&mut self, name: &TopicName, ticket: u32, now: Instant) {
        let Some(splice) = self.topics.get_mut(name).filter(|s| s.ticket == ticket) else { return };
        for waiting in splice.waiting.drain(..) {
            let asker = waiting.applicant.asker;
            self.effects.push_back(Effect::Refused { asker, topic: name.clone() });
        }
        if !splice.interests.is_empty() || splice.is_unsettled() {
            return self.depart_unless_wanted(name, now + RENEWAL_PAUSE);
        }
        if let Some(departure) = splice.leave_at {
            self.departures.remove(&departure);
        }
        self.leave(name.clone());
    }

    fn leave(&mut self, topic: TopicName) {
        if let Some(splice) = self.topics.remove(&topic) {
            debug_assert!(splice.interests.is_empty() && splice.waiting.is_empty());
            if let Phase::Following(following) = &splice.phase {
                self.kept.change(following.weight(), Weight::default());
            }
        }
        self.effects.push_back(Effect::Ask(Errand::Ignore { topic }));
    }

    fn depart_unless_wanted(&mut self, name: &TopicName, leave_at: Instant) {
        let Some(splice) = self.topics.get_mut(name) else { return };
        let is_wanted = !splice.interests.is_empty() || !splice.waiting.is_empty();
        if is_wanted || splice.leave_at.is_some() {
            return;
        }
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let departure = (leave_at, self.last_ticket);
        splice.leave_at = Some(departure);
        self.departures.insert(departure, name.clone());
    }

    fn listening(
        &mut self,
        name: &TopicName,
        ticket: u32,
        head: Option<Head>,
        namespace: &Namespace,
        now: Instant,
    ) {
        let Some(splice) = self.topics.get_mut(name).filter(|s| s.ticket == ticket) else { return };
        let outdated = match (&mut splice.phase, &head) {
            (Phase::Asked { outdated, .. }, Some(head)) => {
                outdated.take_if(|epoch| *epoch == head.position.epoch)
            }
            (Phase::Following(following), Some(head)) if following.has_seen_more_than(head) => {
                self.kept.change(following.weight(), Weight::default());
                self.gaps.lost += 1;
                self.effects.push_back(Effect::Lost(name.clone()));
                Some(head.position.epoch.clone())
            }
            (Phase::Asked { .. } | Phase::Following(_), _) => None,
        };
        if let Some(epoch) = outdated {
            let renew = Errand::Renew { topic: name.clone(), ticket, epoch: epoch.clone() };
            self.effects.push_back(Effect::Ask(renew));
            splice.phase = Phase::Asked { seen: None, outdated: Some(epoch) };
            return;
        }
        match (&mut splice.phase, head) {
            (Phase::Asked { seen, .. }, head) => {
                let seen = seen.take();
                splice.phase = Phase::Following(Following::new(head));
                if let Some(seen) = seen {
                    self.step(name, namespace, now, |following, step| {
                        following.meet_foreign(seen, step);
                    });
                }
            }
            (Phase::Following(_), Some(head)) => {
                self.step(name, namespace, now, |following, step| following.resume(&head, step));
            }
            (Phase::Following(_), None) => {}
        }
    }

    fn arrived(
        &mut self,
        epoch: Option<Epoch>,
        publication: Arc<Publication>,
        namespace: &Namespace,
        now: Instant,
    ) {
        // Of topics that were left, some may still be on its way.
        let Some(splice) = self.topics.get_mut(&publication.topic) else { return };
        let position = epoch.zip(publication.offset);
        let position = position.map(|(epoch, offset)| Position { offset, epoch });
        match (&mut splice.phase, position) {
            (Phase::Asked { seen, .. }, Some(position)) => *seen = Some(position),
            (Phase::Asked { .. }, None) => {}
            (Phase::Following(_), None) => self.effects.push_back(Effect::Deliver(publication)),
            (Phase::Following(_), Some(position)) => {
                let name = publication.topic.clone();
                self.step(&name, namespace, now, |following, step| {
                    following.arrived(position.epoch, publication, step);
                });
            }
        }
    }

    fn read(
        &mut self,
        name: &TopicName,
        ticket: u32,
        found: Option<Found>,
        namespace: &Namespace,
        now: Instant,
    ) {
        let Some(splice) = self.topics.get_mut(name) else { return };
        let Phase::Following(following) = &splice.phase else { return };
        if !following.is_reading(ticket) {
            return;
        }
        for waiting in splice.waiting.iter_mut().filter(|w| w.source == Source::Asked(ticket)) {
            waiting.source = Source::Told;
        }
        self.step(name, namespace, now, |following, step| match found {
            Some(found) => following.found(found, step),
            None => following.failed(step),
        });
    }

    /// Answers those who wait, as far as that is possible now.
    fn settle(&mut self, name: &TopicName, namespace: &Namespace, now: Instant) {
        let Some(splice) = self.topics.get_mut(name) else { return };
        let Phase::Following(following) = &mut splice.phase else { return };
        if splice.waiting.is_empty() || following.is_behind() {
            return;
        }
        let mut unread: Option<u64> = None;
        let mut later = Vec::new();
        for mut waiting in splice.waiting.drain(..) {
            match waiting.source {
                Source::Asked(ticket) if following.is_reading(ticket) => {
                    later.push(waiting);
                    continue;
                }
                // The topic has begun a new life meanwhile.
                Source::Asked(_) => waiting.source = Source::Memory,
                Source::Memory | Source::Told => {}
            }
            let Applicant { asker, node, form, since } = &waiting.applicant;
            let joined = following.join(namespace, since.as_ref());
            if waiting.source == Source::Memory
                && joined.recovery == Recovery::Lost
                && let Some(since) = unread_since(namespace, since.as_ref(), &joined)
            {
                unread = Some(unread.map_or(since, |least| least.min(since)));
                later.push(waiting);
                continue;
            }
            splice.interests.grant(*node, usize::from(*form));
            let (asker, form) = (*asker, *form);
            let granted = Effect::Granted { asker, topic: name.clone(), form, joined };
            self.effects.push_back(granted);
        }
        splice.waiting = later;
        let Some(since) = unread else { return };
        let asked = self.step(name, namespace, now, |following, step| following.ask(since, step));
        if let Some(Some(ticket)) = asked
            && let Some(splice) = self.topics.get_mut(name)
        {
            for waiting in splice.waiting.iter_mut().filter(|w| w.source == Source::Memory) {
                waiting.source = Source::Asked(ticket);
            }
        }
    }

    /// Lets a topic take one step, and does what follows from it.
    fn step<T>(
        &mut self,
        name: &TopicName,
        namespace: &Namespace,
        now: Instant,
        take: impl FnOnce(&mut Following, &mut Step<'_>) -> T,
    ) -> Option<T> {
        let splice = self.topics.get_mut(name)?;
        let Phase::Following(following) = &mut splice.phase else { return None };
        let before = following.weight();
        let last_ticket = &mut self.last_ticket;
        let mut step =
            Step { namespace, now, last_ticket, gaps: &mut self.gaps, moves: Vec::new() };
        let result = take(following, &mut step);
        let moves = step.moves;
        self.kept.change(before, following.weight());
        self.effects.extend(moves.into_iter().map(|made| match made {
            following::Move::Deliver(publication) => Effect::Deliver(publication),
            following::Move::Lost => Effect::Lost(name.clone()),
            following::Move::Read { ticket, since } => {
                Effect::Ask(Errand::Read { topic: name.clone(), ticket, since })
            }
        }));
        Some(result)
    }
}

/// From where on the engine is to be read for a subscriber that memory does not help; `None`: the
/// engine could not help either.
fn unread_since(namespace: &Namespace, since: Option<&Position>, joined: &Joined) -> Option<u64> {
    let (since, position) = (since?, joined.position.as_ref()?);
    if !namespace.recovery || position.offset == 0 {
        return None;
    }
    if namespace.mode == Mode::Latest {
        return Some(position.offset - 1);
    }
    (same_epoch(&since.epoch, &position.epoch) && since.offset < position.offset)
        .then_some(since.offset)
}

#[cfg(test)]
mod tests;
