//! Who, on one shard, listens to what.
//!
//! A subscriber is a slot of the shard; it remembers in a [`Membership`] where it stands in the list
//! of its topic, so that joining and leaving take constant time.

use hashbrown::HashMap;

use super::interests::FORMS_MAX;
use super::name::TopicName;

/// Names a topic on this shard while somebody here has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(u32);

/// One subscription of one slot.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// Of which topic.
    pub topic: TopicId,
    /// In which form publications are delivered.
    pub form: u8,
    /// How far the subscription has come.
    pub state: MembershipState,
}

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipState {
    /// The home has been asked, with this ticket.
    Pending(u32),
    /// In the list, at this index.
    Joined(u32),
}

/// The subscriptions of one slot; no heap memory for the first.
#[derive(Debug, Default)]
pub enum Memberships {
    /// None.
    #[default]
    None,
    /// One.
    One(Membership),
    /// More, or once more.
    Many(Box<Vec<Membership>>),
}

impl Memberships {
    /// All, in no order.
    pub fn as_slice(&self) -> &[Membership] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(many) => {
                size_of::<Vec<Membership>>() + many.capacity() * size_of::<Membership>()
            }
        }
    }

    /// The one of `topic`.
    pub fn find(&mut self, topic: TopicId) -> Option<&mut Membership> {
        match self {
            Self::None => None,
            Self::One(one) => Some(one).filter(|m| m.topic == topic),
            Self::Many(many) => many.iter_mut().find(|m| m.topic == topic),
        }
    }

    /// Adds one; its topic must not be there yet.
    pub fn push(&mut self, membership: Membership) {
        debug_assert!(self.find(membership.topic).is_none(), "subscribed twice");
        match self {
            Self::None => *self = Self::One(membership),
            Self::One(one) => *self = Self::Many(Box::new(vec![*one, membership])),
            Self::Many(many) => many.push(membership),
        }
    }

    /// Takes the one of `topic` out.
    pub fn remove(&mut self, topic: TopicId) -> Option<Membership> {
        match self {
            Self::None => None,
            Self::One(one) if one.topic == topic => {
                let one = *one;
                *self = Self::None;
                Some(one)
            }
            Self::One(_) => None,
            Self::Many(many) => {
                let index = many.iter().position(|m| m.topic == topic)?;
                let taken = many.swap_remove(index);
                if many.is_empty() {
                    *self = Self::None;
                }
                Some(taken)
            }
        }
    }
}

/// The subscriber lists of one shard.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: HashMap<TopicName, TopicId>,
    topics: Vec<Local>,
    vacant: Vec<TopicId>,
    subscribers: usize,
}

#[derive(Debug)]
struct Local {
    /// `None`: vacant.
    name: Option<TopicName>,
    lists: [Vec<u32>; FORMS_MAX],
    /// Subscriptions that wait for the home.
    pending: u32,
}

/// A slot whose place in a list has changed because another one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Which slot.
    pub slot: u32,
    /// Its new index.
    pub index: u32,
}

impl Topics {
    /// Subscribers in all lists.
    pub fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// Subscriptions that wait for the home.
    pub fn expected(&self) -> usize {
        self.topics.iter().map(|topic| topic.pending as usize).sum()
    }

    /// Topics that somebody here has to do with.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether nobody here has to do with any topic.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The id of `name`, if somebody here has to do with it.
    pub fn id(&self, name: &TopicName) -> Option<TopicId> {
        self.by_name.get(name).copied()
    }

    /// The name of `id`.
    ///
    /// # Panics
    /// If the id is vacant: ids live as long as their subscriptions.
    pub fn name(&self, id: TopicId) -> &TopicName {
        self.topics[id.0 as usize].name.as_ref().expect("ids live as long as their subscriptions")
    }

    /// Notes that a subscription waits for the home.
    pub fn expect(&mut self, name: &TopicName) -> TopicId {
        let id = match self.by_name.get(name) {
            Some(&id) => id,
            None => self.create(name),
        };
        self.topics[id.0 as usize].pending += 1;
        id
    }

    /// Turns an expected subscription into a member; returns its index for
    /// [`MembershipState::Joined`].
    pub fn join(&mut self, id: TopicId, form: u8, slot: u32) -> u32 {
        let local = &mut self.topics[id.0 as usize];
        debug_assert!(local.pending > 0, "joined without being expected");
        local.pending -= 1;
        let list = &mut local.lists[usize::from(form)];
        list.push(slot);
        self.subscribers += 1;
        u32::try_from(list.len() - 1).expect("a shard has fewer slots than u32 can count")
    }

    /// Gives an expected subscription up.
    pub fn forget(&mut self, id: TopicId) {
        let local = &mut self.topics[id.0 as usize];
        debug_assert!(local.pending > 0, "forgotten without being expected");
        local.pending -= 1;
        self.free_unused(id);
    }

    /// Takes the member at `index` out; tells which other one has moved to its place.
    pub fn leave(&mut self, id: TopicId, form: u8, index: u32) -> Option<Moved> {
        let list = &mut self.topics[id.0 as usize].lists[usize::from(form)];
        list.swap_remove(index as usize);
        self.subscribers -= 1;
        let moved = list.get(index as usize).map(|&slot| Moved { slot, index });
        self.free_unused(id);
        moved
    }

    /// The slots that want publications of `id` in `form`.
    pub fn members(&self, id: TopicId, form: usize) -> &[u32] {
        &self.topics[id.0 as usize].lists[form]
    }

    /// The slots that want publications of `id` in any form.
    pub fn all_members(&self, id: TopicId) -> Vec<u32> {
        self.topics[id.0 as usize].lists.concat()
    }

    fn create(&mut self, name: &TopicName) -> TopicId {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.topics.push(Local { name: None, lists: Default::default(), pending: 0 });
            TopicId(u32::try_from(self.topics.len() - 1).expect("fewer topics than memory"))
        });
        self.topics[id.0 as usize].name = Some(name.clone());
        self.by_name.insert(name.clone(), id);
        id
    }

    fn free_unused(&mut self, id: TopicId) {
        let local = &mut self.topics[id.0 as usize];
        if local.pending > 0 || local.lists.iter().any(|list| !list.is_empty()) {
            return;
        }
        local.lists = Default::default();
        if let Some(name) = local.name.take() {
            self.by_name.remove(&name);
        }
        self.vacant.push(id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const SLOTS: usize = 6;

    fn topic(number: usize) -> TopicName {
        TopicName::new(&format!("t{number}")).unwrap()
    }

    #[test]
    fn a_topic_is_known_while_somebody_waits_for_it_or_listens() {
        let mut topics = Topics::default();
        let id = topics.expect(&topic(1));
        assert_eq!(topics.expect(&topic(1)), id);
        topics.forget(id);
        assert_eq!(topics.id(&topic(1)), Some(id));
        assert_eq!(topics.join(id, 0, 7), 0);
        assert_eq!((topics.name(id), topics.members(id, 0)), (&topic(1), &[7][..]));
        assert_eq!(topics.leave(id, 0, 0), None);
        assert!(topics.is_empty() && topics.id(&topic(1)).is_none());
        assert_eq!(topics.expect(&topic(2)), id, "ids are used again");
    }

    #[test]
    fn memberships_are_found_by_topic_however_many_there_are() {
        let mut topics = Topics::default();
        let ids: Vec<TopicId> = (0..3).map(|i| topics.expect(&topic(i))).collect();
        let mut memberships = Memberships::default();
        assert!(memberships.find(ids[0]).is_none() && memberships.remove(ids[0]).is_none());
        for (index, &id) in ids.iter().enumerate() {
            let state = MembershipState::Pending(0);
            memberships.push(Membership { topic: id, form: 0, state });
            assert_eq!(memberships.as_slice().len(), index + 1);
            assert_eq!(memberships.heap_bytes() > 0, index > 0, "one needs no memory");
        }
        assert_eq!(memberships.remove(ids[0]).unwrap().topic, ids[0]);
        assert!(memberships.remove(ids[0]).is_none());
        assert_eq!(memberships.find(ids[2]).unwrap().topic, ids[2]);
        assert_eq!(memberships.remove(ids[1]).unwrap().topic, ids[1]);
        assert_eq!(memberships.remove(ids[2]).unwrap().topic, ids[2]);
        assert!(matches!(memberships, Memberships::None));
    }

    /// The lists with their subscribers' memory, as a shard keeps them.
    #[derive(Default)]
    struct Shard {
        topics: Topics,
        slots: [Memberships; SLOTS],
        /// What is true: (slot, topic) → form, `None` while pending.
        model: BTreeMap<(usize, usize), Option<u8>>,
    }

    impl Shard {
        fn toggle(&mut self, slot: usize, number: usize, form: u8) {
            let index = u32::try_from(slot).unwrap();
            match self.model.get(&(slot, number)) {
                None => {
                    let id = self.topics.expect(&topic(number));
                    let state = MembershipState::Pending(9);
                    self.slots[slot].push(Membership { topic: id, form, state });
                    self.model.insert((slot, number), None);
                }
                Some(None) => {
                    let id = self.topics.id(&topic(number)).unwrap();
                    let at = self.topics.join(id, form, index);
                    let membership = self.slots[slot].find(id).unwrap();
                    (membership.form, membership.state) = (form, MembershipState::Joined(at));
                    self.model.insert((slot, number), Some(form));
                }
                Some(Some(_)) => self.leave(slot, number),
            }
        }

        fn leave(&mut self, slot: usize, number: usize) {
            let Some(id) = self.topics.id(&topic(number)) else { return };
            let Some(membership) = self.slots[slot].remove(id) else { return };
            match membership.state {
                MembershipState::Pending(_) => self.topics.forget(id),
                MembershipState::Joined(at) => {
                    if let Some(moved) = self.topics.leave(id, membership.form, at) {
                        let other = self.slots[moved.slot as usize].find(id).unwrap();
                        other.state = MembershipState::Joined(moved.index);
                    }
                }
            }
            self.model.remove(&(slot, number));
        }

        fn check(&self) {
            let joined = self.model.iter().filter_map(|(&(s, t), form)| form.map(|f| (t, f, s)));
            let joined: BTreeSet<_> = joined.collect();
            assert_eq!(self.topics.subscribers(), joined.len());
            let known: BTreeSet<usize> = self.model.keys().map(|&(_, t)| t).collect();
            assert_eq!(self.topics.len(), known.len());
            let mut listed = BTreeSet::new();
            for &number in &known {
                let id = self.topics.id(&topic(number)).unwrap();
                for form in 0..u8::try_from(FORMS_MAX).unwrap() {
                    let members = self.topics.members(id, usize::from(form));
                    for (at, &slot) in members.iter().enumerate() {
                        assert!(listed.insert((number, form, slot as usize)), "listed twice");
                        let remembered = self.slots[slot as usize].as_slice();
                        let membership = remembered.iter().find(|m| m.topic == id).unwrap();
                        let at = u32::try_from(at).unwrap();
                        assert_eq!(membership.state, MembershipState::Joined(at));
                        assert_eq!(membership.form, form);
                    }
                }
            }
            assert_eq!(listed, joined);
        }
    }

    proptest! {
        #[test]
        fn every_subscriber_knows_its_place_whoever_comes_and_goes(
            steps in proptest::collection::vec(
                (any::<bool>(), 0..SLOTS, 0_usize..3, 0_u8..2), 0..120,
            )
        ) {
            let mut shard = Shard::default();
            for (toggles, slot, number, form) in steps {
                if toggles {
                    shard.toggle(slot, number, form);
                } else {
                    shard.leave(slot, number);
                }
                shard.check();
            }
        }
    }
}
