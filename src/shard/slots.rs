//! The connections of one shard, in places that never move.

use crate::conn::connection::Connection;
use crate::conn::outbox::Outbox;
use crate::ring::{Socket, Token};
use crate::topic::subscribers::Memberships;

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

/// One connection and what its shard keeps for it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) conn: Connection,
    pub(super) outbox: Outbox,
    pub(super) memberships: Memberships,
    pub(super) socket: Socket,
    /// Where it stands in the wheel; 0: nowhere.
    pub(super) scheduled: Tick,
    pub(super) reading: Reading,
    pub(super) flags: Flags,
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
