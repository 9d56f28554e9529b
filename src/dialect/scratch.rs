//! Buffers for reading JSON that are kept from one message to the next.

use std::fmt;
use std::mem;

use simd_json::tape::Value;
use simd_json::{Buffers, INPUT_PADDING, Tape};

use super::variant::Compression;

/// Deepest nesting of arrays and objects that is read.
pub const DEPTH_MAX: usize = 32;

/// The bytes are not one JSON text, or it is nested deeper than [`DEPTH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// What reading JSON needs; one for each thread that reads.
///
/// It grows to the largest message read and stays there.
pub struct Scratch {
    bytes: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
    /// Replies that wait for the header of their frame.
    pub(super) replies: Vec<u8>,
    /// Whether their frame may be compressed.
    pub(super) compression: Compression,
}

impl Scratch {
    /// Reads `json` from a copy, since simd-json writes into its input, and gives it to `read`.
    ///
    /// Errors: [`NotJson`].
    pub(super) fn parse<T>(
        &mut self,
        json: &[u8],
        read: impl FnOnce(Value<'_, '_>) -> T,
    ) -> Result<T, NotJson> {
        self.bytes.clear();
        self.bytes.extend_from_slice(json);
        self.bytes.resize(json.len() + INPUT_PADDING, 0);
        let mut tape = mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let parsed =
            simd_json::fill_tape_padded(&mut self.bytes, json.len(), &mut self.buffers, &mut tape);
        let result = parsed.map(|()| read(tape.as_value())).map_err(|_| NotJson);
        self.tape = tape.reset();
        result
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            buffers: Buffers::with_max_depth(0, DEPTH_MAX),
            tape: Tape(Vec::new()),
            replies: Vec::new(),
            compression: Compression::Allowed,
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("bytes", &self.bytes.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(json: &[u8]) -> bool {
        Scratch::default().parse(json, |_| ()).is_ok()
    }

    #[test]
    fn nesting_ends_at_32() {
        let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(accepts(nested(32).as_bytes()));
        assert!(!accepts(nested(33).as_bytes()));
        assert!(!accepts("[".repeat(32 * 1024).as_bytes()));
        assert!(!accepts("{\"a\":".repeat(10 * 1024).as_bytes()));
    }

    #[test]
    fn strange_texts_are_judged() {
        for good in ["0", "\"\"", "null", " [1 , 2]\r", "-0", "1e3", "100000000000000000000"] {
            assert!(accepts(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            " ",
            "01",
            "1.",
            "+1",
            "nul",
            "[1,]",
            "{\"a\"}",
            "1 2",
            "\"\\ud800\"",
            "\"\t\"",
            "1e999",
        ] {
            assert!(!accepts(bad.as_bytes()), "{bad}");
        }
        assert!(!accepts("9".repeat(100_000).as_bytes()));
    }

    #[test]
    fn a_refused_text_leaves_nothing_behind() {
        let mut scratch = Scratch::default();
        assert_eq!(scratch.parse(b"[1,{\"a\":", |_| ()), Err(NotJson));
        let nodes = scratch.parse(b"[true]", |value| value.as_array().map(|a| a.len()));
        assert_eq!(nodes, Ok(Some(1)));
    }

    /// JSON, or bytes that were JSON before one to three bytes were changed.
    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
            ".{0,12}".prop_map(|s| serde_json::to_string(&s).unwrap()),
            Just("\"\\u00e9\\ud83d\\ude00\\n\"".to_owned()),
        ];
        let value = leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|items| format!("[{}]", items.join(" , "))),
                prop::collection::vec(("[a-c\"\\\\é]{0,3}", inner), 0..5).prop_map(|members| {
                    let members = members.iter().map(|(key, value)| {
                        format!("{} : {value}", serde_json::to_string(key).unwrap())
                    });
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }),
            ]
        });
        let change = (
            any::<prop::sample::Index>(),
            prop::sample::select(b"\"\\{}[],:0e.-u \n\x01\xFF".to_vec()),
        );
        (value, prop::collection::vec(change, 0..4)).prop_map(|(text, changes)| {
            let mut bytes = text.into_bytes();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_serde_json(json in nearly_json()) {
            let theirs = serde_json::from_slice::<serde_json::Value>(&json);
            prop_assert_eq!(accepts(&json), theirs.is_ok(), "{:?} {:?}", String::from_utf8_lossy(&json), theirs);
        }

        #[test]
        fn arbitrary_bytes_are_judged_alike(json in prop::collection::vec(any::<u8>(), 0..200)) {
            let theirs = serde_json::from_slice::<serde_json::Value>(&json).is_ok();
            prop_assert_eq!(accepts(&json), theirs);
        }
    }
}
