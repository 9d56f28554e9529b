//! What an outbox is made of.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

/// One or several whole frames.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes of the turn's arena: gone when the turn ends.
    Turn(Range<u32>),
    /// Bytes that stay, shared between the connections of a shard.
    Frame(Rc<Bytes>),
    /// Bytes that stay and are this connection's alone.
    Own(Rc<Bytes>),
}

impl Piece {
    /// Bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Turn(range) => range.len(),
            Self::Frame(frame) | Self::Own(frame) => frame.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub fn bytes<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Turn(range) => &arena[range.start as usize..range.end as usize],
            Self::Frame(frame) | Self::Own(frame) => frame,
        }
    }

    /// Bytes that nobody else has.
    pub(super) fn own_bytes(&self) -> usize {
        match self {
            Self::Own(frame) => frame.len(),
            Self::Turn(_) | Self::Frame(_) => 0,
        }
    }

    /// The bytes from `start` on, in memory that stays.
    pub fn into_owned(self, start: usize, arena: &[u8]) -> Bytes {
        match self {
            Self::Turn(_) => Bytes::copy_from_slice(&self.bytes(arena)[start..]),
            Self::Frame(frame) | Self::Own(frame) => frame.slice(start..),
        }
    }
}
