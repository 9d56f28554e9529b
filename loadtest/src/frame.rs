//! The client's half of RFC 6455 framing.

use std::ops::Range;

/// Continuation of a fragmented message.
pub(crate) const CONTINUATION: u8 = 0x0;
/// UTF-8 text.
pub(crate) const TEXT: u8 = 0x1;
/// Bytes.
pub(crate) const BINARY: u8 = 0x2;
/// The closing handshake.
pub(crate) const CLOSE: u8 = 0x8;
/// Asks for a pong.
pub(crate) const PING: u8 = 0x9;
/// Answers a ping.
pub(crate) const PONG: u8 = 0xA;

/// Longest payload we take from a server, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

/// One frame of the server, its payload still in the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Last of its message.
    pub(crate) fin: bool,
    /// One of the constants above.
    pub(crate) opcode: u8,
    /// Where the payload lies in the input; the frame ends where it ends.
    pub(crate) payload: Range<usize>,
}

/// What a server may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// No extension was agreed on.
    ReservedBitSet,
    /// Not one of the six.
    UnknownOpcode,
    /// Servers do not mask.
    Masked,
    /// A control frame that is fragmented or longer than 125 bytes.
    BadControl,
    /// A longer form than needed, or the top bit of 64.
    BadLength,
    /// More than this program keeps.
    TooLong,
}

/// Reads the frame at the front of `input`; `Ok(None)`: not all here yet.
///
/// Source: RFC 6455 §5.2, §5.5.
pub(crate) fn decode(input: &[u8]) -> Result<Option<Frame>, FrameError> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::ReservedBitSet);
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(FrameError::UnknownOpcode);
    }
    if opcode >= CLOSE && (!fin || *second > 125) {
        return Err(FrameError::BadControl);
    }
    let (length, header, shortest) = match second {
        126 => match rest.first_chunk() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4, 126),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10, 1 << 16),
            None => return Ok(None),
        },
        short => (u64::from(*short), 2, 0),
    };
    if length < shortest || length >> 63 != 0 {
        return Err(FrameError::BadLength);
    }
    if length > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    let end = header + usize::try_from(length).map_err(|_| FrameError::TooLong)?;
    Ok((input.len() >= end).then_some(Frame { fin, opcode, payload: header..end }))
}

/// Appends one whole message (or control frame), masked with `key`.
///
/// Source: RFC 6455 §5.1-§5.3.
pub(crate) fn encode(out: &mut Vec<u8>, opcode: u8, payload: &[u8], key: [u8; 4]) {
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    for chunk in out[start..].chunks_mut(4) {
        for (byte, mask) in chunk.iter_mut().zip(key) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fin: bool, opcode: u8, payload: Range<usize>) -> Result<Option<Frame>, FrameError> {
        Ok(Some(Frame { fin, opcode, payload }))
    }

    #[test]
    fn the_examples_of_the_rfc_decode() {
        // RFC 6455 §5.7: "Hello" unmasked, its two fragments, a ping.
        assert_eq!(decode(b"\x81\x05Hello"), frame(true, TEXT, 2..7));
        assert_eq!(decode(b"\x01\x03Hel\x80\x02lo"), frame(false, TEXT, 2..5));
        assert_eq!(decode(b"\x80\x02lo"), frame(true, CONTINUATION, 2..4));
        assert_eq!(decode(b"\x89\x05Hello"), frame(true, PING, 2..7));
    }

    #[test]
    fn the_masked_example_of_the_rfc_encodes() {
        let mut out = Vec::new();
        encode(&mut out, TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"); // RFC 6455 §5.7
    }

    #[test]
    fn each_length_form_is_read_and_written() {
        for (length, header) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            let mut input = header.to_vec();
            input.resize(header.len() + length, b'x');
            assert_eq!(decode(&input), frame(true, BINARY, header.len()..input.len()));
            assert_eq!(decode(&input[..input.len() - 1]), Ok(None));

            let mut out = Vec::new();
            encode(&mut out, BINARY, &vec![b'x'; length], [0; 4]);
            assert_eq!(out[1], header[1] | 0x80);
            assert_eq!(out[2..header.len()], header[2..]);
            assert_eq!(out.len(), header.len() + 4 + length);
        }
    }

    #[test]
    fn half_a_header_is_no_frame_yet() {
        for input in [&b""[..], b"\x81", b"\x81\x7e\x01", b"\x81\x7f\0\0\0\0\0\x01\0"] {
            assert_eq!(decode(input), Ok(None));
        }
    }

    #[test]
    fn what_servers_may_not_send_is_refused() {
        for (input, error) in [
            (&b"\xc1\x00"[..], FrameError::ReservedBitSet),
            (b"\x83\x00", FrameError::UnknownOpcode),
            (b"\x8b\x00", FrameError::UnknownOpcode),
            (b"\x81\x80\0\0\0\0", FrameError::Masked),
            (b"\x09\x00", FrameError::BadControl),
            (b"\x88\x7e\x00\x7e", FrameError::BadControl),
            (b"\x82\x7e\x00\x7d", FrameError::BadLength),
            (b"\x82\x7f\0\0\0\0\0\0\xff\xff", FrameError::BadLength),
            (b"\x82\x7f\x80\0\0\0\0\0\0\0", FrameError::BadLength),
            (b"\x82\x7f\0\0\0\x01\0\0\0\0", FrameError::TooLong),
        ] {
            assert_eq!(decode(input), Err(error), "{input:x?}");
        }
    }
}
