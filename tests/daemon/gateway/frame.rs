//! Frames (RFC 6455 section 5.2), written anew so that the tests do not believe the code they test.

/// First byte of a whole message or the last fragment.
pub(crate) const FIN: u8 = 0x80;
/// The message is compressed (RFC 7692 section 6).
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// How a client frame writes its length.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// In as few bytes as possible.
    Minimal,
    /// In two bytes.
    Two(u16),
    /// In eight bytes.
    Eight(u64),
}

/// The header of a masked frame, with whatever it claims.
pub(crate) fn header(first: u8, len: usize, length: Length) -> Vec<u8> {
    let mut bytes = vec![first];
    let minimal = match (length, u8::try_from(len), u16::try_from(len)) {
        (Length::Minimal, Ok(len @ 0..=125), _) => {
            bytes.push(0x80 | len);
            None
        }
        (Length::Minimal, _, Ok(len)) => Some(Length::Two(len)),
        (Length::Minimal, ..) => Some(Length::Eight(len as u64)),
        (length, ..) => Some(length),
    };
    match minimal {
        Some(Length::Two(len)) => {
            bytes.push(0x80 | 126);
            bytes.extend(len.to_be_bytes());
        }
        Some(Length::Eight(len)) => {
            bytes.push(0x80 | 127);
            bytes.extend(len.to_be_bytes());
        }
        Some(Length::Minimal) | None => {}
    }
    bytes.extend(MASK);
    bytes
}

/// A client's frame, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len(), Length::Minimal);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A client's Close.
pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes()[..], reason].concat())
}

/// Takes one frame of a server off the front; `None` while it is not all there.
///
/// # Panics
/// If no server may send this.
pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Frame> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x30, 0, "reserved bits: {bytes:02x?}");
    assert!(first & RSV1 == 0 || matches!(first & 0xF, TEXT | BINARY), "compressed: {first:02x}");
    assert_eq!(second & 0x80, 0, "masked: {bytes:02x?}");
    let (start, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(len).expect("lengths fit memory"))
        }
        len => (2, usize::from(len)),
    };
    let is_minimal = match start {
        2 => true,
        4 => len > 125,
        _ => len > 0xFFFF,
    };
    assert!(is_minimal, "{len} in too many bytes");
    assert!(first & 0x08 == 0 || (first & FIN != 0 && len <= 125), "bad control: {first:02x}");
    let payload = bytes.get(start..start + len)?.to_vec();
    bytes.drain(..start + len);
    Some(Frame { first, payload })
}
