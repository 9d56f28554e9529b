//! Close codes and the payload of Close frames.

use super::error::ProtocolError;
use super::header::{CONTROL_BYTES_MAX, Opcode, encode_frame};

/// Longest reason of a Close frame, in bytes.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Why a connection ends, as a number (RFC 6455 §7.4 and the IANA registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server is taken away, or the browser left the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the other end broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: binary where text is spoken, or the reverse.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: a Close without a code was received. Never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the transport ended without a Close. Never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: text that is not UTF-8, or data that does not inflate.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a rule of ours was broken.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: the message is too big.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client wanted an extension. Only clients send it.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: our fault.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts; connect again.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: overloaded; connect later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a server behind this one failed.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: TLS failed. Never sent.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// Whether a Close frame may carry this code. What we send is a subset.
    ///
    /// Source: RFC 6455 §7.4.1, §7.4.2; IANA registry for 1012–1014.
    pub const fn may_receive(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Takes the payload of a Close frame apart; `None` when it is empty.
///
/// Errors: `BadCloseLength`, `BadCloseCode`, `InvalidUtf8`.
/// Source: RFC 6455 §5.5.1.
pub fn decode_close(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(ProtocolError::BadCloseLength),
        [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
    };
    if !code.may_receive() {
        return Err(ProtocolError::BadCloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
    Ok(Some((code, reason)))
}

/// Appends a Close frame; `None` makes an empty one, which is how an empty one is echoed.
///
/// A reason of more than [`REASON_BYTES_MAX`] bytes is cut before the character that crosses it.
pub fn encode_close(out: &mut Vec<u8>, close: Option<(CloseCode, &str)>) {
    let Some((code, reason)) = close else {
        return encode_frame(out, Opcode::Close, &[]);
    };
    assert!(code.may_receive(), "close code {} must not be sent", code.0);
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.0.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    encode_frame(out, Opcode::Close, &payload[..2 + reason.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_must_not_travel_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!CloseCode(code).may_receive(), "{code}");
            let decoded = decode_close(&code.to_be_bytes()).map(|_| ());
            assert_eq!(decoded, Err(ProtocolError::BadCloseCode), "{code}");
        }
        for code in (1000..=1003_u16).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
            assert_eq!(decode_close(&code.to_be_bytes()), Ok(Some((CloseCode(code), ""))));
        }
    }

    #[test]
    fn a_close_payload_is_empty_or_code_and_utf8() {
        assert_eq!(decode_close(b""), Ok(None));
        assert_eq!(decode_close(b"\x03"), Err(ProtocolError::BadCloseLength));
        assert_eq!(decode_close(b"\x03\xe8bye"), Ok(Some((CloseCode::NORMAL, "bye"))));
        assert_eq!(decode_close(b"\x03\xe8\xff"), Err(ProtocolError::InvalidUtf8));
        assert_eq!(decode_close(b"\x03\xe8\xc3"), Err(ProtocolError::InvalidUtf8));
    }

    #[test]
    fn a_close_frame_has_code_and_reason_or_nothing() {
        let mut out = Vec::new();
        encode_close(&mut out, None);
        assert_eq!(out, [0x88, 0x00]); // RFC 6455 §5.5.1
        out.clear();
        encode_close(&mut out, Some((CloseCode::GOING_AWAY, "bye")));
        assert_eq!(out, b"\x88\x05\x03\xe9bye");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        encode_close(&mut out, Some((CloseCode(4000), &"x".repeat(200))));
        assert_eq!(out[..2], [0x88, 125]);
        assert_eq!(out.len(), 127);
        out.clear();
        // 61 characters of two bytes end at 122; the 62nd would cross 123.
        encode_close(&mut out, Some((CloseCode(4000), &"é".repeat(100))));
        assert_eq!(out[..2], [0x88, 124]);
        assert_eq!(std::str::from_utf8(&out[4..]).unwrap(), "é".repeat(61));
    }

    #[test]
    #[should_panic(expected = "close code 1006 must not be sent")]
    fn a_code_that_must_not_travel_is_never_sent() {
        encode_close(&mut Vec::new(), Some((CloseCode::ABNORMAL, "")));
    }
}
