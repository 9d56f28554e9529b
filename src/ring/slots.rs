//! What is in flight for each token: when a slot is free, and what a caller must never do.

use super::{SLOTS_MAX, Token};

/// One operation that a token can have in flight; of each at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    /// A multishot receive.
    Receive = 1,
    /// The cancellation of the receive.
    CancelReceive = 1 << 1,
    /// An owned send.
    Send = 1 << 2,
    /// The cancellation of everything before a close.
    CancelAll = 1 << 3,
    /// The close.
    Close = 1 << 4,
}

const IN_FLIGHT: u8 = 0b1_1111;
/// `close` was called and `Closed` has not been reported.
const CLOSING: u8 = 1 << 5;
/// `Closed` was reported for this generation.
const CLOSED: u8 = 1 << 6;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    /// Where the bytes of the owned send are kept; meaningful while [`Part::Send`] is in flight.
    send: u32,
    state: u8,
}

/// The slots of one ring. Grows with the highest slot that was ever named.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// Notes that `part` is now in flight.
    ///
    /// Panics when the caller broke the contract: the token is closed, or the part is in flight.
    pub(super) fn begin(&mut self, token: Token, part: Part) {
        let slot = self.claim(token);
        assert!(slot.state & CLOSING == 0, "{part:?} of {token:?} after close");
        assert!(slot.state & part as u8 == 0, "second {part:?} of {token:?}");
        slot.state |= part as u8;
    }

    /// Notes that the socket is being closed; the caller gets what was in flight before.
    pub(super) fn begin_close(&mut self, token: Token) -> InFlight {
        let slot = self.claim(token);
        assert!(slot.state & CLOSING == 0, "second close of {token:?}");
        let before = InFlight(slot.state & IN_FLIGHT);
        slot.state |= CLOSING | Part::Close as u8;
        if !before.is_empty() {
            slot.state |= Part::CancelAll as u8;
        }
        before
    }

    /// Notes that `part` came back. `false`: it was not in flight.
    pub(super) fn end(&mut self, token: Token, part: Part) -> bool {
        if !self.has(token, part) {
            return false;
        }
        self.0[token.slot as usize].state &= !(part as u8);
        true
    }

    /// Frees the slot when it is closing and nothing of it is in flight; `true` exactly then.
    pub(super) fn free(&mut self, token: Token) -> bool {
        let Some(slot) = self.0.get_mut(token.slot as usize) else { return false };
        if slot.generation != token.generation || slot.state != CLOSING {
            return false;
        }
        slot.state = CLOSED;
        true
    }

    /// Whether `part` of the token is in flight.
    pub(super) fn has(&self, token: Token, part: Part) -> bool {
        self.0
            .get(token.slot as usize)
            .is_some_and(|slot| slot.generation == token.generation && slot.state & part as u8 != 0)
    }

    /// Whether `close` was called for the token and `Closed` is still to come.
    pub(super) fn is_closing(&self, token: Token) -> bool {
        self.0
            .get(token.slot as usize)
            .is_some_and(|slot| slot.generation == token.generation && slot.state & CLOSING != 0)
    }

    /// Remembers where the bytes of the token's owned send are kept.
    pub(super) fn set_send(&mut self, token: Token, index: u32) {
        self.0[token.slot as usize].send = index;
    }

    /// Where the bytes of the token's owned send are kept.
    pub(super) fn send(&self, token: Token) -> u32 {
        self.0[token.slot as usize].send
    }

    fn claim(&mut self, token: Token) -> &mut Slot {
        assert!(token.slot < SLOTS_MAX, "{token:?} is out of range");
        let index = token.slot as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, Slot::default());
        }
        let slot = &mut self.0[index];
        if slot.state & (IN_FLIGHT | CLOSING) == 0 {
            let reused = slot.state & CLOSED != 0 && slot.generation == token.generation;
            assert!(!reused, "{token:?} was used after Closed");
            slot.generation = token.generation;
            slot.state = 0;
        }
        assert_eq!(slot.generation, token.generation, "slot {} is in use", token.slot);
        slot
    }
}

/// The operations that a token had in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight(u8);

impl InFlight {
    /// Whether there were none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token { slot: 2, generation: 7 };

    #[test]
    fn a_slot_takes_at_most_sixteen_bytes() {
        assert!(size_of::<Slot>() <= 16);
    }

    #[test]
    fn a_slot_is_free_when_everything_of_it_came_back() {
        let mut slots = Slots::default();
        slots.begin(TOKEN, Part::Receive);
        assert!(!slots.begin_close(TOKEN).is_empty());
        assert!(!slots.free(TOKEN));
        assert!(slots.end(TOKEN, Part::CancelAll));
        assert!(slots.end(TOKEN, Part::Close));
        assert!(!slots.free(TOKEN));
        assert!(slots.end(TOKEN, Part::Receive));
        assert!(slots.free(TOKEN));
        assert!(!slots.free(TOKEN));
    }

    #[test]
    fn a_part_of_another_generation_is_unknown() {
        let mut slots = Slots::default();
        slots.begin(TOKEN, Part::Receive);
        assert!(!slots.end(Token { generation: 6, ..TOKEN }, Part::Receive));
        assert!(slots.end(TOKEN, Part::Receive));
        assert!(!slots.end(TOKEN, Part::Receive));
    }

    #[test]
    #[should_panic(expected = "was used after Closed")]
    fn a_closed_token_is_not_used_again() {
        let mut slots = Slots::default();
        slots.begin_close(TOKEN);
        slots.end(TOKEN, Part::Close);
        assert!(slots.free(TOKEN));
        slots.begin(TOKEN, Part::Receive);
    }

    #[test]
    #[should_panic(expected = "second Receive")]
    fn a_second_receive_is_refused() {
        let mut slots = Slots::default();
        slots.begin(TOKEN, Part::Receive);
        slots.begin(TOKEN, Part::Receive);
    }
}
