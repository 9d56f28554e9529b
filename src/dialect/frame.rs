//! Server frames: unmasked, unfragmented.

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// A text message.
    Text = 0x1,
    /// A binary message.
    Binary = 0x2,
    /// A ping.
    Ping = 0x9,
}

/// Bytes of the header of a frame with `payload_len` bytes.
pub(super) const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Appends the header of a frame with `payload_len` bytes.
pub(super) fn encode_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    const FIN: u8 = 0x80;
    out.push(FIN | opcode as u8);
    if let Some(short) = u8::try_from(payload_len).ok().filter(|&len| len <= 125) {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(payload_len) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
}

/// Appends one whole frame.
pub(super) fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    encode_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        let cases: [(usize, &[u8]); 5] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (0xFFFF, &[0x81, 126, 0xFF, 0xFF]),
            (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (len, header) in cases {
            let mut out = Vec::new();
            encode_header(&mut out, Opcode::Text, len);
            assert_eq!(out, header);
            assert_eq!(header_len(len), header.len());
        }
    }

    #[test]
    fn a_hello_is_the_example_of_the_rfc() {
        let mut out = Vec::new();
        encode_frame(&mut out, Opcode::Text, b"Hello");
        encode_frame(&mut out, Opcode::Ping, b"");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x89, 0x00]); // RFC 6455 §5.7
    }
}
