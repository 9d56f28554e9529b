//! JSON out: written twice, first to learn the length, then into memory of that length.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Takes the bytes of a JSON text.
pub(super) trait Sink {
    /// Takes `bytes` as they are.
    fn put(&mut self, bytes: &[u8]);

    /// Takes the Base64 text of `bytes`.
    fn put_base64(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_base64(&mut self, bytes: &[u8]) {
        let start = self.len();
        self.resize(start + base64_len(bytes), 0);
        let written = STANDARD.encode_slice(bytes, &mut self[start..]);
        debug_assert_eq!(written, Ok(self.len() - start));
    }
}

/// Counts the bytes it is given.
#[derive(Debug, Default)]
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn put_base64(&mut self, bytes: &[u8]) {
        self.0 += base64_len(bytes);
    }
}

const fn base64_len(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4
}

/// Writes `number` in decimal.
pub(super) fn number(out: &mut impl Sink, number: impl itoa::Integer) {
    out.put(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes `text`, which is UTF-8, as a JSON string.
pub(super) fn string(out: &mut impl Sink, text: &[u8]) {
    out.put(b"\"");
    let mut plain = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.put(&text[plain..at]);
        plain = at + 1;
        escaped(out, byte);
    }
    out.put(&text[plain..]);
    out.put(b"\"");
}

fn escaped(out: &mut impl Sink, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.put(b"\\\""),
        b'\\' => out.put(b"\\\\"),
        b'\n' => out.put(b"\\n"),
        b'\r' => out.put(b"\\r"),
        b'\t' => out.put(b"\\t"),
        _ => {
            let high = DIGITS[usize::from(byte >> 4)];
            let low = DIGITS[usize::from(byte & 0xF)];
            out.put(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

/// Writes `json` with spaces for its line breaks, which can only stand between tokens.
pub(super) fn one_line(out: &mut impl Sink, json: &[u8]) {
    let mut start = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', json) {
        out.put(&json[start..at]);
        out.put(b" ");
        start = at + 1;
    }
    out.put(&json[start..]);
}

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Object<'a, S> {
    out: &'a mut S,
    members: usize,
}

impl<'a, S: Sink> Object<'a, S> {
    /// Writes the opening brace.
    pub(super) fn open(out: &'a mut S) -> Self {
        out.put(b"{");
        Self { out, members: 0 }
    }

    /// Writes `name`, which needs no escapes; the value is to be written to what is returned.
    pub(super) fn member(&mut self, name: &str) -> &mut S {
        if self.members > 0 {
            self.out.put(b",");
        }
        self.members += 1;
        self.out.put(b"\"");
        self.out.put(name.as_bytes());
        self.out.put(b"\":");
        self.out
    }

    /// Writes a number, unless it is zero.
    pub(super) fn nonzero(&mut self, name: &str, value: u64) {
        if value != 0 {
            number(self.member(name), value);
        }
    }

    /// Writes a string, unless it is empty.
    pub(super) fn nonempty(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            string(self.member(name), value.as_bytes());
        }
    }

    /// Writes `true`.
    pub(super) fn mark(&mut self, name: &str) {
        self.member(name).put(b"true");
    }

    /// Writes the closing brace.
    pub(super) fn close(self) {
        self.out.put(b"}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_must_be_escaped_is() {
        let mut out = Vec::new();
        string(&mut out, "a\"b\\c\n\r\t\u{1}\u{1f}\u{7f}é/".as_bytes());
        assert_eq!(out, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\u{7f}é/\"".as_bytes());
    }

    #[test]
    fn line_breaks_become_spaces() {
        let mut out = Vec::new();
        one_line(&mut out, b"[1,\r\n2]\n");
        assert_eq!(out, b"[1,  2] ");
    }

    #[test]
    fn members_are_parted_and_zero_values_left_out() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.nonzero("a", 0);
        object.nonempty("b", "");
        object.nonzero("c", 7);
        object.mark("d");
        object.nonempty("e", "x\"");
        object.close();
        assert_eq!(out, br#"{"c":7,"d":true,"e":"x\""}"#);
    }

    proptest! {
        #[test]
        fn strings_read_back_and_lengths_agree(text in any::<String>()) {
            let (mut out, mut length) = (Vec::new(), Length::default());
            string(&mut out, text.as_bytes());
            string(&mut length, text.as_bytes());
            prop_assert_eq!(out.len(), length.0);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn base64_lengths_agree(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let (mut out, mut length) = (Vec::new(), Length::default());
            out.put_base64(&bytes);
            length.put_base64(&bytes);
            prop_assert_eq!(out.len(), length.0);
            prop_assert_eq!(STANDARD.decode(&out).unwrap(), bytes);
        }
    }
}
