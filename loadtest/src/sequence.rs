//! Numbered messages: what a payload says about itself, and whether every number came once.

use std::ops::Range;

/// Length of an encoded [`Stamp`]; a payload cannot be shorter.
pub(crate) const STAMP_BYTES: usize = 32;
/// Holes that a checker tells apart; what falls into an older one counts as a duplicate.
const HOLES_MAX: usize = 1024;

/// The head of every fan-out payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Tells runs apart.
    pub(crate) run: u32,
    /// Whose numbers these are.
    pub(crate) publisher: u16,
    /// Its position among the publisher's messages, from 0.
    pub(crate) sequence: u32,
    /// When it was due, in nanoseconds of the run's clock, modulo 2^48.
    pub(crate) due: u64,
}

impl Stamp {
    /// Appends the stamp as 32 hexadecimal digits, filled up with `x` to `size` bytes.
    pub(crate) fn encode(self, size: usize, out: &mut Vec<u8>) {
        let end = out.len() + size;
        push_hex(out, u64::from(self.run), 8);
        push_hex(out, u64::from(self.publisher), 4);
        push_hex(out, u64::from(self.sequence), 8);
        push_hex(out, self.due & 0xffff_ffff_ffff, 12);
        out.resize(end, b'x');
    }

    /// Reads a payload of `size` bytes back; `None`: it was not made by [`Stamp::encode`].
    pub(crate) fn decode(payload: &[u8], size: usize) -> Option<Self> {
        if payload.len() != size {
            return None;
        }
        let (head, filler) = payload.split_at_checked(STAMP_BYTES)?;
        if filler.iter().any(|byte| *byte != b'x') {
            return None;
        }
        Some(Self {
            run: u32::try_from(parse_hex(&head[..8])?).ok()?,
            publisher: u16::try_from(parse_hex(&head[8..12])?).ok()?,
            sequence: u32::try_from(parse_hex(&head[12..20])?).ok()?,
            due: parse_hex(&head[20..])?,
        })
    }
}

/// Appends the last `digits` hexadecimal digits of `value`.
pub(crate) fn push_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[usize::from((value >> (4 * place)).to_le_bytes()[0] & 0xf)]);
    }
}

/// Reads lower-case hexadecimal digits.
pub(crate) fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value: u64, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// Sees the numbers that one receiver got from one sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checker {
    next: u32,
    /// Numbers below `next` that have not come, ascending.
    holes: Vec<Range<u32>>,
    tally: Arrivals,
}

/// What checkers counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// Different numbers.
    pub(crate) distinct: u64,
    /// Numbers that had come before.
    pub(crate) duplicated: u64,
    /// Numbers that came after a higher one, for the first time.
    pub(crate) out_of_order: u64,
}

impl Arrivals {
    /// Adds what another checker counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.distinct += other.distinct;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
    }
}

impl Checker {
    /// Takes note of a number.
    pub(crate) fn note(&mut self, number: u32) {
        if number >= self.next {
            if number > self.next {
                if self.holes.len() == HOLES_MAX {
                    self.holes.remove(0);
                }
                self.holes.push(self.next..number);
            }
            self.next = number + 1;
            self.tally.distinct += 1;
            return;
        }
        let Some(index) = self.holes.iter().position(|hole| hole.contains(&number)) else {
            self.tally.duplicated += 1;
            return;
        };
        let hole = self.holes[index].clone();
        let parts = [hole.start..number, number + 1..hole.end];
        self.holes.splice(index..=index, parts.into_iter().filter(|part| !part.is_empty()));
        self.tally.distinct += 1;
        self.tally.out_of_order += 1;
    }

    /// What was seen so far.
    pub(crate) fn arrivals(&self) -> Arrivals {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(numbers: impl IntoIterator<Item = u32>) -> Arrivals {
        let mut checker = Checker::default();
        numbers.into_iter().for_each(|number| checker.note(number));
        checker.arrivals()
    }

    #[test]
    fn an_unbroken_row_is_clean() {
        let clean = Arrivals { distinct: 1000, duplicated: 0, out_of_order: 0 };
        assert_eq!(check(0..1000), clean);
    }

    #[test]
    fn every_single_drop_is_missed() {
        for dropped in 0..50 {
            let seen = check((0..50).filter(|number| *number != dropped));
            assert_eq!(seen, Arrivals { distinct: 49, duplicated: 0, out_of_order: 0 });
        }
    }

    #[test]
    fn every_single_swap_is_out_of_order() {
        for first in 0..49 {
            let mut row: Vec<u32> = (0..50).collect();
            row.swap(first, first + 1);
            assert_eq!(check(row), Arrivals { distinct: 50, duplicated: 0, out_of_order: 1 });
        }
    }

    #[test]
    fn every_single_duplicate_is_seen_however_late() {
        for number in 0..50 {
            for place in number + 1..=50 {
                let row = (0..place).chain([number]).chain(place..50);
                let seen = check(row);
                assert_eq!(seen, Arrivals { distinct: 50, duplicated: 1, out_of_order: 0 });
            }
        }
    }

    #[test]
    fn a_late_number_fills_its_hole_once() {
        let seen = check([0, 5, 2, 2, 1, 4, 3, 3]);
        assert_eq!(seen, Arrivals { distinct: 6, duplicated: 2, out_of_order: 4 });
    }

    #[test]
    fn holes_are_bounded() {
        let odd = (0..10_000).map(|number| 2 * number + 1);
        let mut checker = Checker::default();
        odd.for_each(|number| checker.note(number));
        assert_eq!(checker.holes.len(), HOLES_MAX);
        checker.note(0); // its hole was given up: no longer told from a duplicate
        let seen = checker.arrivals();
        assert_eq!(seen, Arrivals { distinct: 10_000, duplicated: 1, out_of_order: 0 });
    }

    #[test]
    fn a_stamp_reads_as_written() {
        let stamp = Stamp { run: 0xdead_beef, publisher: 7, sequence: 258, due: 0x1234_5678_9abc };
        let mut payload = Vec::new();
        stamp.encode(40, &mut payload);
        assert_eq!(payload, b"deadbeef000700000102123456789abcxxxxxxxx");
        assert_eq!(Stamp::decode(&payload, 40), Some(stamp));
    }

    #[test]
    fn a_damaged_payload_has_no_stamp() {
        let good = b"deadbeef000700000102123456789abcxxxx";
        assert!(Stamp::decode(good, 36).is_some());
        assert_eq!(Stamp::decode(&good[..35], 36), None);
        assert_eq!(Stamp::decode(&good[..31], 31), None);
        for place in 0..36 {
            let mut bad = *good;
            bad[place] = b'?';
            assert_eq!(Stamp::decode(&bad, 36), None, "byte {place}");
        }
    }
}
