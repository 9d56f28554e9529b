//! Patterns of channel names.

/// Most characters other than `*` in a pattern, in bytes.
pub(super) const ITEMS_MAX: usize = 127;

/// A pattern: `*` stands for any characters, `?` for one, every other character for itself.
///
/// The bits of one word say which prefixes of the pattern match what was read so far, so that
/// matching takes a few instructions per byte of the name, whatever the pattern.
pub(super) struct Glob {
    /// Bit i: this byte matches item i.
    takes: Box<[u128; 256]>,
    /// Bit i: a `*` stands before item i.
    stars: u128,
    /// Bit i: item i - 1 is a `?`, which takes the rest of its character, too.
    marks: u128,
    /// The bit after the last item.
    end: u128,
}

impl Glob {
    /// The pattern written as `text`; `None` when it has more than [`ITEMS_MAX`] items.
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut glob = Self { takes: Box::new([0; 256]), stars: 0, marks: 0, end: 1 };
        for byte in text.bytes() {
            if byte == b'*' {
                glob.stars |= glob.end;
                continue;
            }
            if glob.end == 1 << ITEMS_MAX {
                return None;
            }
            let item = glob.end;
            glob.end <<= 1;
            if byte == b'?' {
                let starts = glob.takes.iter_mut().enumerate().filter(|(b, _)| !continues(*b));
                starts.for_each(|(_, takes)| *takes |= item);
                glob.marks |= glob.end;
            } else {
                glob.takes[usize::from(byte)] |= item;
            }
        }
        Some(glob)
    }

    /// Whether the whole of `name` matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        let mut state: u128 = 1;
        for byte in name.bytes() {
            let index = usize::from(byte);
            let rest = if continues(index) { state & self.marks } else { 0 };
            state = ((state & self.takes[index]) << 1) | (state & self.stars) | rest;
        }
        state & self.end != 0
    }
}

/// Whether this byte of UTF-8 goes on with a character.
fn continues(byte: usize) -> bool {
    byte & 0xC0 == 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::oracle::matches_naively;
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "chat:1", true),
            ("chat:*", "chat:1", true),
            ("chat:*", "chat", false),
            ("*:1", "chat:1", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("a??c", "aéc", false),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "a", false),
            ("[a]", "a", false),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!(glob.matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_have_a_limit() {
        assert!(Glob::new(&"x".repeat(127)).unwrap().matches(&"x".repeat(127)));
        assert!(Glob::new(&"x*".repeat(127)).is_some());
        assert!(Glob::new(&"x".repeat(128)).is_none());
    }

    proptest! {
        #[test]
        fn matches_are_those_of_the_definition(pattern in "[ab?*é€]{0,8}", name in "[abé€]{0,8}") {
            let characters: Vec<char> = pattern.chars().collect();
            let expected = matches_naively(&characters, &name.chars().collect::<Vec<_>>());
            prop_assert_eq!(Glob::new(&pattern).unwrap().matches(&name), expected);
        }
    }
}
