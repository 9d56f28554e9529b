//! Who, on one shard, listens to what.
//!
//! A subscriber is a slot of the shard; it remembers in a [`Membership`] where it stands in the list
//! of its topic, so that joining and leaving take constant time.

use hashbrown::HashMap;

use super::home::FORMS_MAX;
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
