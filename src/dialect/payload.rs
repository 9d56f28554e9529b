//! Payloads that must be JSON.

use super::scratch::{NotJson, Scratch};
use crate::topic::publication::Payload;

/// The payload that is the JSON text `json`: its bytes, with spaces for line breaks between tokens.
///
/// Errors: [`NotJson`].
pub fn from_json(bytes: &[u8], scratch: &mut Scratch) -> Result<Payload, NotJson> {
    scratch.parse(bytes, |_| ())?;
    Ok(Payload::from_valid_json(bytes))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn json_is_kept_byte_for_byte() {
        let json = br#"{ "b":1.50,"a":"\u00e9","b":1e2}"#;
        let payload = from_json(json, &mut Scratch::default());
        assert_eq!(payload, Ok(Payload::Json(Bytes::from_static(json))));
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        let payload = from_json(b"{\r\n\"a\":\n1}", &mut Scratch::default());
        assert_eq!(payload, Ok(Payload::Json(Bytes::from_static(b"{  \"a\": 1}"))));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "{", "hello", "1 2", "{\"a\":1}x"] {
            assert_eq!(from_json(bad.as_bytes(), &mut Scratch::default()), Err(NotJson), "{bad}");
        }
    }
}
