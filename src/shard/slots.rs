//! The connections of one shard, in places that never move.

use std::time::Instant;

use crate::conn::connection::{Connection, Stage};
use crate::conn::outbox::Outbox;
use crate::dialect::cause::Cause;
use crate::ring::{Socket, Token};
use crate::topic::subscribers::Memberships;

use super::closes::Story;
use super::extras::Extras;
use super::wheel::Tick;

/// Slots that are allocated together.
const CHUNK: usize = 64;

/// Whether bytes of a socket arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A receive is armed.
    Armed,
    /// A receive is armed and is being cancelled.
    Cancelling,
    /// No receive is armed, and none is wanted for now.
    Paused,
    /// No receive is armed because no buffer was free.
    Starved,
    /// Nothing more will come.
    Ended,
}

/// What a place takes, whether anybody is in it or not.
pub(super) const SLOT_BYTES: usize = size_of::<Place>();

/// One connection and what its shard keeps for it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) conn: Connection,
    pub(super) outbox: Outbox,
    pub(super) memberships: Memberships,
    pub(super) extras: Extras,
    pub(super) socket: Socket,
    pub(super) story: Story,
    /// Where it stands in the wheel; 0: nowhere.
    pub(super) scheduled: Tick,
    pub(super) reading: Reading,
    pub(super) flags: Flags,
}

impl Slot {
    /// When the client is to be called slow, if it does not read. While the closing handshake lasts
    /// its own deadline counts: also a client that took nothing for long may find our Close in time.
    pub(super) fn slow_at(&self) -> Option<Instant> {
        self.outbox.deadline().filter(|_| self.conn.stage() != Stage::LastWords)
    }

    /// Why the client is to be called slow at `now`, if it is.
    pub(super) fn slowness(&self, now: Instant) -> Option<Cause> {
        self.outbox.slowness(now).filter(|_| self.conn.stage() != Stage::LastWords)
    }
}

/// In which of the shard's lists a slot stands, and what was already done for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// In the list of those to be flushed.
    pub(super) dirty: bool,
    /// In the list of those with received bytes to go on with.
    pub(super) ready: bool,
    /// In the list of those to be looked at after the flush because they are ending.
    pub(super) leaving: bool,
    /// The write side was shut.
    pub(super) shut: bool,
    /// The ring was told to close the socket.
    pub(super) closing: bool,
    /// It has no seat: there was no room, and it only waits to be told so.
    pub(super) turned_away: bool,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    slot: Option<Slot>,
}

/// All connections of a shard.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Box<[Place]>>,
    vacant: Vec<u32>,
    len: usize,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest index that may be in use.
    pub(super) fn end(&self) -> u32 {
        index_u32(self.chunks.len() * CHUNK)
    }

    pub(super) fn insert(&mut self, slot: Slot) -> Token {
        if self.vacant.is_empty() {
            let first = self.chunks.len() * CHUNK;
            self.chunks.push((0..CHUNK).map(|_| Place { generation: 0, slot: None }).collect());
            self.vacant.extend((first..first + CHUNK).rev().map(index_u32));
        }
        let index = self.vacant.pop().expect("a chunk was just added");
        let place = self.place_mut(index).expect("vacant places exist");
        place.slot = Some(slot);
        let generation = place.generation;
        self.len += 1;
        Token { slot: index, generation }
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Slot> {
        let place = self.place_mut(token.slot)?;
        if place.generation != token.generation {
            return None;
        }
        let slot = place.slot.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.vacant.push(token.slot);
        self.len -= 1;
        Some(slot)
    }

    /// The slot, unless it was used again.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let place = self.place_mut(token.slot)?;
        if place.generation == token.generation { place.slot.as_mut() } else { None }
    }

    /// The slot at `index`, whoever uses it.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.place_mut(index)?.slot.as_mut()
    }

    /// All slots in use, with their indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let places = self.chunks.iter().flatten().enumerate();
        places.filter_map(|(index, place)| Some((index_u32(index), place.slot.as_ref()?)))
    }

    /// The token of whoever uses `index`.
    pub(super) fn token(&self, index: u32) -> Option<Token> {
        let place = self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)?;
        place.slot.as_ref().map(|_| Token { slot: index, generation: place.generation })
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a shard has fewer slots than u32 can count")
}

#[cfg(test)]
mod tests {
    use hashbrown::HashMap;
    use proptest::prelude::*;

    use super::super::closes::Registry;
    use super::*;
    use crate::conn::guest::Room;
    use crate::dialect::cause::Cause;
    use crate::ring::sim::{Faults, World};
    use crate::ring::{Completion, Ring, Wait};

    struct NoSends;

    impl crate::ring::Sends for NoSends {
        fn len(&self) -> usize {
            0
        }

        fn get(&self, _: usize) -> (Socket, &[u8]) {
            unreachable!("there are none")
        }
    }

    fn socket() -> Socket {
        let world = World::new(1, Faults::none());
        let mut ring = world.attach(1);
        ring.accept(0);
        let _client = world.connect(0, 0);
        let mut completions = Vec::new();
        for _ in 0..100 {
            ring.turn(&NoSends, Wait::No, &mut completions).unwrap();
            for completion in completions.drain(..) {
                if let Completion::Accepted { socket, .. } = completion {
                    return socket;
                }
            }
            world.advance(std::time::Duration::from_millis(1));
        }
        panic!("nobody came");
    }

    fn slot(socket: Socket, now: Instant) -> Slot {
        let settings = crate::conn::tests::settings();
        Slot {
            conn: Connection::new(0, Room::Free, now, &settings),
            outbox: Outbox::default(),
            memberships: Memberships::default(),
            extras: Extras::default(),
            socket,
            story: Registry::new(0, now).story(now),
            scheduled: 0,
            reading: Reading::Armed,
            flags: Flags::default(),
        }
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Place>() <= 240, "{}", size_of::<Place>());
    }

    #[test]
    fn nothing_is_found_where_nobody_is() {
        let mut slots = Slots::default();
        assert_eq!((slots.len(), slots.end()), (0, 0));
        let token = Token { slot: 7, generation: 0 };
        assert!(slots.get_mut(token).is_none() && slots.remove(token).is_none());
        assert!(slots.at_mut(7).is_none() && slots.token(7).is_none());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn an_earlier_user_of_a_slot_is_not_mistaken_for_the_next() {
        let (mut slots, socket, now) = (Slots::default(), socket(), Instant::now());
        let first = slots.insert(slot(socket, now));
        slots.get_mut(first).unwrap().conn.abandon(Cause::Reset);
        assert!(slots.remove(first).is_some() && slots.remove(first).is_none());
        let second = slots.insert(slot(socket, now));
        assert_eq!(second.slot, first.slot);
        assert!(slots.get_mut(first).is_none() && slots.remove(first).is_none());
        assert_eq!(slots.get_mut(second).unwrap().conn.stage(), Stage::Talking);
        assert_eq!((slots.token(first.slot), slots.len()), (Some(second), 1));
    }

    proptest! {
        #[test]
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        fn tokens_are_distinct_and_find_their_slot_until_it_is_removed(
            steps in proptest::collection::vec(any::<(bool, usize)>(), 0..300)
        ) {
            let (mut slots, socket, now) = (Slots::default(), socket(), Instant::now());
            let mut live: HashMap<Token, u32> = HashMap::new();
            let mut gone: Vec<Token> = Vec::new();
            for (mark, (grows, which)) in (0_u32..).zip(steps) {
                if grows || live.is_empty() {
                    let token = slots.insert(Slot { scheduled: mark, ..slot(socket, now) });
                    prop_assert!(!gone.contains(&token));
                    prop_assert!(live.insert(token, mark).is_none());
                } else {
                    let mut tokens: Vec<Token> = live.keys().copied().collect();
                    tokens.sort_by_key(|token| token.slot);
                    let token = tokens[which % tokens.len()];
                    prop_assert_eq!(slots.remove(token).unwrap().scheduled, live[&token]);
                    live.remove(&token);
                    gone.push(token);
                }
                prop_assert_eq!(slots.len(), live.len());
            }
            for (&token, &mark) in &live {
                prop_assert_eq!(slots.get_mut(token).unwrap().scheduled, mark);
                prop_assert_eq!(slots.token(token.slot), Some(token));
                prop_assert!(token.slot < slots.end());
            }
            for token in gone {
                prop_assert!(slots.get_mut(token).is_none());
            }
        }
    }
}
