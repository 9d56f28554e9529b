//! The 64 bits that travel with an operation: its kind (8), a slot or index (24), a generation or
//! index (32).

use crate::ring::Token;

/// What kind of operation a completion answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Accepting on the listener in the slot bits.
    Accept = 1,
    /// The cancellation of that.
    CancelAccept,
    /// Receiving of a token.
    Receive,
    /// The cancellation of that.
    CancelReceive,
    /// A send of the turn; its index is in the generation bits.
    Send,
    /// The owned send of a token.
    SendOwned,
    /// The cancellation of everything of a token's socket.
    CancelAll,
    /// The close of a token's socket.
    Close,
    /// The poll of our own eventfd.
    Eventfd,
    /// A wake that we sent to the node in the slot bits; seen only when it failed.
    Wake,
    /// A wake that another ring sent to us.
    Woken,
    /// The start-up test of the restrictions.
    SelfTest,
    /// The cancellation of everything when the ring goes.
    CancelRing,
}

const KINDS: [Kind; 13] = [
    Kind::Accept,
    Kind::CancelAccept,
    Kind::Receive,
    Kind::CancelReceive,
    Kind::Send,
    Kind::SendOwned,
    Kind::CancelAll,
    Kind::Close,
    Kind::Eventfd,
    Kind::Wake,
    Kind::Woken,
    Kind::SelfTest,
    Kind::CancelRing,
];

/// A kind and the two numbers that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UserData {
    pub(super) kind: Kind,
    /// Below 2^24: a slot, a listener or a node.
    pub(super) slot: u32,
    /// A generation or the index of a send.
    pub(super) generation: u32,
}

impl UserData {
    /// For an operation of a connection.
    pub(super) fn of_token(kind: Kind, token: Token) -> Self {
        Self { kind, slot: token.slot, generation: token.generation }
    }

    /// For an operation on something with an index below 2^24.
    pub(super) fn of_index(kind: Kind, index: usize) -> Self {
        let slot = u32::try_from(index).ok().filter(|&slot| slot < 1 << 24);
        Self { kind, slot: slot.expect("an index below 2^24"), generation: 0 }
    }

    /// For send `index` of a turn.
    pub(super) fn of_send(index: usize) -> Self {
        let generation = u32::try_from(index).expect("fewer than 2^32 sends in a turn");
        Self { kind: Kind::Send, slot: 0, generation }
    }

    /// The token, for the kinds that have one.
    pub(super) fn token(self) -> Token {
        Token { slot: self.slot, generation: self.generation }
    }

    /// As it travels.
    pub(super) fn encode(self) -> u64 {
        debug_assert!(self.slot < 1 << 24);
        (self.kind as u64) << 56 | u64::from(self.slot) << 32 | u64::from(self.generation)
    }

    /// As it came back; `None` when no operation of ours has such bits.
    pub(super) fn decode(bits: u64) -> Option<Self> {
        let kind = usize::try_from(bits >> 56).ok()?.checked_sub(1)?;
        let slot = u32::try_from(bits >> 32 & 0xff_ffff).ok()?;
        let generation = u32::try_from(bits & 0xffff_ffff).ok()?;
        Some(Self { kind: *KINDS.get(kind)?, slot, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_as_it_went() {
        for kind in KINDS {
            let token = Token { slot: 0xab_cdef, generation: 0xfedc_ba98 };
            let sent = UserData::of_token(kind, token);
            assert_eq!(sent.encode() & 0x00ff_ffff_ffff_ffff, 0x00ab_cdef_fedc_ba98);
            assert_eq!(UserData::decode(sent.encode()), Some(sent));
        }
    }

    #[test]
    fn bits_of_nobody_are_refused() {
        assert_eq!(UserData::decode(0), None);
        assert_eq!(UserData::decode(u64::MAX), None);
    }
}
