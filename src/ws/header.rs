//! Frame headers.

use super::error::ProtocolError;

/// Most bytes in the payload of a control frame.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Longest header of a client's frame, in bytes: 2, a 64-bit length, the mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a fragmented message.
    Continuation = 0x0,
    /// A text message or the first part of one.
    Text = 0x1,
    /// A binary message or the first part of one.
    Binary = 0x2,
    /// The end of the conversation.
    Close = 0x8,
    /// A question for life.
    Ping = 0x9,
    /// The answer to a Ping.
    Pong = 0xA,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is Close, Ping or Pong.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Whether a frame ends its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fin {
    /// Continuations follow.
    More,
    /// The message ends here.
    Last,
}

/// Reserved bits, in their places within the first byte of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rsv(u8);

impl Rsv {
    /// No bit: what is allowed when no extension was agreed on.
    pub const NONE: Self = Self(0);
    /// RSV1, to which permessage-deflate gives a meaning.
    pub const RSV1: Self = Self(0x40);
    const ALL: u8 = 0x70;

    /// Whether no bit is set.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

/// A decoded header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether the message ends with this frame.
    pub fin: Fin,
    /// Reserved bits set on it; a subset of those allowed.
    pub rsv: Rsv,
    /// What the frame is.
    pub opcode: Opcode,
    /// Key of the payload's mask.
    pub mask: [u8; 4],
    /// Bytes of payload, before inflation; less than 2^63.
    pub payload_len: u64,
}

/// Decodes one client's frame header at the front of `input`: the header and its length.
///
/// `Ok(None)`: the header (6–14 bytes) is not all here yet, and nothing is wrong with what is.
/// `rsv_allowed` are the reserved bits that extensions gave a meaning to; control frames and
/// continuations may not use them.
///
/// Errors: `ReservedBitSet`, `UnknownOpcode`, `ControlFragmented`, `UnmaskedClientFrame`,
/// `ControlTooLong`, `LengthNotMinimal`, `LengthTopBitSet`; the first byte that is wrong decides.
/// Source: RFC 6455 §5.2, §5.5.
pub fn decode_header(
    input: &[u8],
    rsv_allowed: Rsv,
) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
    let Some(&first) = input.first() else { return Ok(None) };
    let opcode = Opcode::from_bits(first & 0x0F).ok_or(ProtocolError::UnknownOpcode);
    let rsv = Rsv(first & Rsv::ALL);
    let rsv_allowed = match opcode {
        Ok(Opcode::Text | Opcode::Binary) => rsv_allowed,
        _ => Rsv::NONE,
    };
    if !rsv.is_subset_of(rsv_allowed) {
        return Err(ProtocolError::ReservedBitSet);
    }
    let opcode = opcode?;
    let fin = if first & 0x80 == 0 { Fin::More } else { Fin::Last };
    if opcode.is_control() && fin == Fin::More {
        return Err(ProtocolError::ControlFragmented);
    }

    let Some(&second) = input.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(ProtocolError::UnmaskedClientFrame);
    }
    let short_len = second & 0x7F;
    if opcode.is_control() && usize::from(short_len) > CONTROL_BYTES_MAX {
        return Err(ProtocolError::ControlTooLong);
    }
    let Some((payload_len, mask_at)) = decode_length(short_len, input)? else { return Ok(None) };
    let Some(&mask) = input[mask_at..].first_chunk::<4>() else { return Ok(None) };
    Ok(Some((FrameHeader { fin, rsv, opcode, mask, payload_len }, mask_at + 4)))
}

/// The payload length and where it ends.
fn decode_length(short_len: u8, input: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    let (payload_len, end, minimum) = match short_len {
        126 => {
            let Some(&bytes) = input[2..].first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(bytes)), 4, 126)
        }
        127 => {
            let Some(&bytes) = input[2..].first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(bytes), 10, 1 << 16)
        }
        _ => (u64::from(short_len), 2, 0),
    };
    if payload_len < minimum {
        return Err(ProtocolError::LengthNotMinimal);
    }
    if payload_len >> 63 != 0 {
        return Err(ProtocolError::LengthTopBitSet);
    }
    Ok(Some((payload_len, end)))
}

/// Bytes of the header that a server writes before `payload_len` bytes.
pub const fn server_header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Appends a header as a server sends it: without a mask, the length in the fewest bytes.
///
/// Source: RFC 6455 §5.1, §5.2.
pub fn encode_header(opcode: Opcode, fin: Fin, rsv: Rsv, payload_len: usize, out: &mut Vec<u8>) {
    if opcode.is_control() {
        assert!(rsv.is_none());
        assert!(payload_len <= CONTROL_BYTES_MAX);
        assert!(fin == Fin::Last);
    }
    let fin_bit = match fin {
        Fin::More => 0,
        Fin::Last => 0x80,
    };
    out.push(fin_bit | rsv.0 | opcode as u8);
    match (u8::try_from(payload_len), u16::try_from(payload_len)) {
        (Ok(len), _) if len < 126 => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

/// Appends `payload` as one unfragmented frame.
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    encode_header(opcode, Fin::Last, Rsv::NONE, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends `payload`, the compressed form of a message, as one unfragmented frame.
///
/// Source: RFC 7692 §6.
pub fn encode_compressed_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    encode_header(opcode, Fin::Last, Rsv::RSV1, payload.len(), out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8]) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        decode_header(input, Rsv::NONE)
    }

    #[test]
    fn the_masked_hello_of_the_rfc_is_decoded() {
        let frame = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let (header, len) = decode(&frame).unwrap().unwrap(); // RFC 6455 §5.7
        assert_eq!(len, 6);
        assert_eq!(header.opcode, Opcode::Text);
        assert_eq!(header.fin, Fin::Last);
        assert_eq!(header.payload_len, 5);
        assert_eq!(header.mask, [0x37, 0xfa, 0x21, 0x3d]);
        for cut in 0..6 {
            assert_eq!(decode(&frame[..cut]), Ok(None));
        }
    }

    #[test]
    fn lengths_are_read_from_the_bytes_they_need_and_no_more() {
        use ProtocolError::*;
        for (bytes, expected) in [
            (&b"\x82\xfe\x00\x7emask"[..], Ok(126)),
            (b"\x82\xfe\xff\xffmask", Ok(65535)),
            (b"\x82\xff\0\0\0\0\0\x01\0\0mask", Ok(65536)),
            (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask", Ok((1 << 63) - 1)),
            (b"\x82\xfe\x00\x7d", Err(LengthNotMinimal)),
            (b"\x82\xff\0\0\0\0\0\0\xff\xff", Err(LengthNotMinimal)),
            (b"\x82\xff\x80\0\0\0\0\0\0\0", Err(LengthTopBitSet)),
            (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", Err(LengthTopBitSet)),
        ] {
            let decoded = decode(bytes).map(|found| found.unwrap().0.payload_len);
            assert_eq!(decoded, expected, "{bytes:x?}");
            let (_, short) = bytes.split_last().unwrap();
            assert_eq!(decode(short), Ok(None), "{short:x?}");
        }
    }

    #[test]
    fn each_wrong_bit_is_named() {
        use ProtocolError::*;
        for rsv in [0x40, 0x20, 0x10] {
            assert_eq!(decode(&[0x81 | rsv]), Err(ReservedBitSet));
        }
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(decode(&[0x80 | opcode]), Err(UnknownOpcode));
        }
        for opcode in [8, 9, 0xa] {
            assert_eq!(decode(&[opcode]), Err(ControlFragmented));
            assert_eq!(decode(&[0x80 | opcode, 0xfe]), Err(ControlTooLong));
            assert_eq!(decode(&[0x80 | opcode, 0xff]), Err(ControlTooLong));
        }
        assert_eq!(decode(&[0x81, 0x05]), Err(UnmaskedClientFrame));
    }

    #[test]
    fn an_agreed_bit_is_allowed_at_the_start_of_messages_only() {
        let decode = |first: u8| decode_header(&[first, 0x80, 1, 2, 3, 4], Rsv::RSV1);
        assert_eq!(decode(0xc1).unwrap().unwrap().0.rsv, Rsv::RSV1);
        assert_eq!(decode(0x42).unwrap().unwrap().0.rsv, Rsv::RSV1);
        for first in [0xc0, 0xc8, 0xc9, 0xca, 0xa1] {
            assert_eq!(decode(first), Err(ProtocolError::ReservedBitSet), "{first:x}");
        }
    }

    #[test]
    fn headers_are_written_unmasked_in_the_fewest_bytes() {
        let encode = |opcode, fin, len| {
            let mut out = Vec::new();
            encode_header(opcode, fin, Rsv::NONE, len, &mut out);
            out
        };
        // RFC 6455 §5.7
        assert_eq!(encode(Opcode::Text, Fin::Last, 5), [0x81, 0x05]);
        assert_eq!(encode(Opcode::Text, Fin::More, 3), [0x01, 0x03]);
        assert_eq!(encode(Opcode::Continuation, Fin::Last, 2), [0x80, 0x02]);
        assert_eq!(encode(Opcode::Binary, Fin::Last, 256), [0x82, 0x7E, 0x01, 0x00]);
        assert_eq!(encode(Opcode::Binary, Fin::Last, 65536), [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(encode(Opcode::Text, Fin::Last, 125), [0x81, 125]);
        assert_eq!(encode(Opcode::Text, Fin::Last, 126), [0x81, 126, 0, 126]);
        assert_eq!(encode(Opcode::Text, Fin::Last, 65535), [0x81, 126, 0xff, 0xff]);
        let mut out = Vec::new();
        encode_frame(&mut out, Opcode::Ping, b"Hello");
        assert_eq!(out, b"\x89\x05Hello");
        out.clear();
        encode_compressed_frame(&mut out, Opcode::Text, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        assert_eq!(out, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"); // RFC 7692 §7.2.3.1
    }
}
