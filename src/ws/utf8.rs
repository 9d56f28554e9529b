//! UTF-8 that arrives in pieces.

use super::error::ProtocolError;

/// Validates text piece by piece and fails at the first byte that cannot belong to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Validator {
    /// The beginning of a character whose end has not come.
    begun: [u8; 3],
    begun_len: u8,
}

impl Utf8Validator {
    /// Takes the next piece.
    ///
    /// Errors: `InvalidUtf8` as soon as no continuation could make it valid.
    /// Source: RFC 6455 §5.6, §8.1; RFC 3629.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), ProtocolError> {
        let rest = self.complete(piece)?;
        match simdutf8::compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(ProtocolError::InvalidUtf8),
            Err(error) => {
                self.begin(&rest[error.valid_up_to()..]);
                Ok(())
            }
        }
    }

    /// Ends the text.
    ///
    /// Errors: `InvalidUtf8` when a character was begun and not ended.
    pub fn finish(self) -> Result<(), ProtocolError> {
        if self.begun_len == 0 { Ok(()) } else { Err(ProtocolError::InvalidUtf8) }
    }

    /// Gives the begun character its bytes; what it does not need comes back.
    fn complete<'p>(&mut self, piece: &'p [u8]) -> Result<&'p [u8], ProtocolError> {
        if self.begun_len == 0 {
            return Ok(piece);
        }
        let mut character = [0; 4];
        let mut len = usize::from(self.begun_len);
        character[..len].copy_from_slice(&self.begun[..len]);
        for (taken, &byte) in piece.iter().enumerate() {
            character[len] = byte;
            len += 1;
            match std::str::from_utf8(&character[..len]) {
                Ok(_) => {
                    self.begun_len = 0;
                    return Ok(&piece[taken + 1..]);
                }
                Err(error) if error.error_len().is_some() => {
                    return Err(ProtocolError::InvalidUtf8);
                }
                Err(_) => {}
            }
        }
        self.begin(&character[..len]);
        Ok(&[])
    }

    fn begin(&mut self, bytes: &[u8]) {
        self.begun[..bytes.len()].copy_from_slice(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "a begun character has 1 to 3 bytes")]
        {
            self.begun_len = bytes.len() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many bytes are taken, one at a time, before the text is refused.
    fn accepted(text: &[u8]) -> usize {
        let mut validator = Utf8Validator::default();
        text.iter().position(|&byte| validator.push(&[byte]).is_err()).unwrap_or(text.len())
    }

    #[test]
    fn it_fails_at_the_first_impossible_byte() {
        for (text, possible) in [
            (&b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80"[..], 6), // Autobahn 6.4: beyond U+10FFFF
            (b"\xed\xa0\x80", 1),                              // a surrogate
            (b"\xe0\x80\x80", 1),                              // overlong
            (b"\xf0\x8f\xbf\xbf", 1),                          // overlong
            (b"\xc0\xaf", 0),                                  // overlong
            (b"\xf5\x80", 0),                                  // beyond U+10FFFF
            (b"a\x80", 1),                                     // a continuation alone
            (b"\xe2\x82\x41", 2),                              // a character broken off
        ] {
            assert_eq!(accepted(text), possible, "{text:x?}");
        }
        assert_eq!(accepted("κόσμε €𝄞".as_bytes()), "κόσμε €𝄞".len());
    }

    #[test]
    fn a_text_must_not_end_within_a_character() {
        let mut validator = Utf8Validator::default();
        validator.push(b"\xf0\x9d\x84").unwrap();
        assert_eq!(validator.finish(), Err(ProtocolError::InvalidUtf8));
        validator.push(b"\x9e").unwrap();
        assert_eq!(validator.finish(), Ok(()));
        assert!(size_of::<Utf8Validator>() <= 8);
    }

    fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
        let broken = (any::<String>(), any::<prop::sample::Index>(), any::<u8>());
        prop_oneof![
            any::<String>().prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..12),
            broken.prop_map(|(text, at, byte)| {
                let mut bytes = text.into_bytes();
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            }),
        ]
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_std_for_any_split(
            text in nearly_text(),
            piece_len in 1_usize..9,
        ) {
            let mut validator = Utf8Validator::default();
            let pushed = text.chunks(piece_len).try_for_each(|piece| validator.push(piece));
            let verdict = pushed.and_then(|()| validator.finish());
            prop_assert_eq!(verdict.is_ok(), std::str::from_utf8(&text).is_ok());
        }
    }
}
