//! A second receiver, as naive as can be: the tests and the fuzz targets hold the real one to it.

use super::close::decode_close;
use super::error::ProtocolError;
use super::header::Rsv;
use super::receiver::{Event, Kind, Limits, Receiver};

/// An [`Event`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// A text message.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// The compressed form of a message.
    Compressed(Kind, Vec<u8>),
    /// A Ping.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
    /// A Close: code and reason.
    Close(Option<(u16, String)>),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(payload) => Self::Text(payload.to_vec()),
            Event::Binary(payload) => Self::Binary(payload.to_vec()),
            Event::Compressed(kind, payload) => Self::Compressed(kind, payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(close) => {
                Self::Close(close.map(|(code, reason)| (code.0, reason.to_owned())))
            }
        }
    }
}

/// All events of a stream, up to its Close or its first error.
pub type Outcome = (Vec<Owned>, Option<ProtocolError>);

/// What the real receiver makes of `stream` when it arrives in pieces of the given lengths, over
/// and over. Asserts what must hold between two calls.
pub fn receive_in_pieces(
    stream: &[u8],
    piece_lens: &[usize],
    limits: &Limits,
    rsv_allowed: Rsv,
) -> Outcome {
    let mut receiver = Receiver::new(rsv_allowed);
    let mut events = Vec::new();
    let mut lens = piece_lens.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let len = lens.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        let (piece, after) = rest.split_at(len);
        rest = after;
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let received = match receiver.receive(&mut piece[at..], limits) {
                Ok(received) => received,
                Err(error) => return (events, Some(error)),
            };
            at += received.consumed;
            let Some(event) = received.event else { break };
            events.push(event.into());
            if matches!(events.last(), Some(Owned::Close(_))) {
                return (events, None);
            }
        }
        assert_eq!(at, piece.len(), "input was left over");
        assert_eq!(receiver.is_mid_message(), receiver.heap_bytes() > 0);
        assert!(receiver.heap_bytes() <= 512 + 2 * stream.len(), "memory beyond what came");
        assert!(receiver.heap_bytes() <= 512 + limits.compressed_bytes_max());
        piece.fill(0xAA);
    }
    (events, None)
}

/// What a receiver should make of `stream`, written without a thought for speed.
pub fn decode(stream: &[u8], limits: &Limits, rsv_allowed: Rsv) -> Outcome {
    let mut events = Vec::new();
    let allowed = if rsv_allowed.is_none() { 0 } else { 0x40 };
    let error = decode_into(&mut events, stream, limits, allowed).err();
    (events, error)
}

fn decode_into(
    events: &mut Vec<Owned>,
    stream: &[u8],
    limits: &Limits,
    allowed: u8,
) -> Result<(), ProtocolError> {
    let mut bytes = stream.iter().copied();
    // First byte, payload and frames of the message that is under way.
    let mut message: Option<(u8, Vec<u8>, usize)> = None;
    while let Some(first) = bytes.next() {
        let opcode = first & 15;
        let is_last = first >= 128;
        let allowed = if matches!(opcode, 1 | 2) { allowed } else { 0 };
        if first & 0x70 & !allowed != 0 {
            return Err(ProtocolError::ReservedBitSet);
        }
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err(ProtocolError::UnknownOpcode);
        }
        if opcode >= 8 && !is_last {
            return Err(ProtocolError::ControlFragmented);
        }
        let Some(second) = bytes.next() else { return Ok(()) };
        if second < 128 {
            return Err(ProtocolError::UnmaskedClientFrame);
        }
        let Some(len) = decode_len(opcode, second - 128, &mut bytes)? else { return Ok(()) };
        let mask: Vec<u8> = bytes.by_ref().take(4).collect();
        if mask.len() < 4 {
            return Ok(());
        }
        if opcode < 8 {
            let (before, frames) = message.as_ref().map_or((0, 0), |m| (m.1.len(), m.2));
            match (opcode, message.is_some()) {
                (0, false) => return Err(ProtocolError::UnexpectedContinuation),
                (1 | 2, true) => return Err(ProtocolError::ExpectedContinuation),
                (0, true) if frames + 1 > limits.fragments_max => {
                    return Err(ProtocolError::TooManyFragments);
                }
                _ => {}
            }
            let bytes_max = bytes_max(message.as_ref().map_or(first, |m| m.0), limits);
            if before as u64 + len > bytes_max as u64 {
                return Err(ProtocolError::MessageTooBig);
            }
        }
        let len = usize::try_from(len).expect("within a limit");
        let payload: Vec<u8> =
            bytes.by_ref().take(len).zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        let is_whole = payload.len() == len;
        if opcode >= 8 {
            if is_whole {
                events.push(control_event(opcode, payload)?);
                if opcode == 8 {
                    return Ok(());
                }
            }
            continue;
        }
        let (start, mut whole, frames) = message.take().unwrap_or((first, Vec::new(), 0));
        whole.extend(payload);
        let is_complete = is_whole && is_last;
        let start_bits = start & 0x4F;
        if start_bits == 1 && !may_be_text(&whole, is_complete) {
            return Err(ProtocolError::InvalidUtf8);
        }
        match (is_complete, start_bits) {
            (true, 0x01) => events.push(Owned::Text(whole)),
            (true, 0x41) => events.push(Owned::Compressed(Kind::Text, whole)),
            (true, 0x42) => events.push(Owned::Compressed(Kind::Binary, whole)),
            (true, _) => events.push(Owned::Binary(whole)),
            (false, _) => message = Some((start, whole, frames + 1)),
        }
    }
    Ok(())
}

/// Most bytes in a message that begins with this byte.
fn bytes_max(first: u8, limits: &Limits) -> usize {
    if first & 0x40 == 0 { limits.message_bytes_max } else { limits.compressed_bytes_max() }
}

fn decode_len(
    opcode: u8,
    short: u8,
    bytes: &mut impl Iterator<Item = u8>,
) -> Result<Option<u64>, ProtocolError> {
    if opcode >= 8 && short > 125 {
        return Err(ProtocolError::ControlTooLong);
    }
    let (extra, minimum) = match short {
        126 => (2, 126),
        127 => (8, 65536),
        _ => return Ok(Some(u64::from(short))),
    };
    let digits: Vec<u8> = bytes.take(extra).collect();
    if digits.len() < extra {
        return Ok(None);
    }
    let len = digits.iter().fold(0, |len, &digit| len * 256 + u64::from(digit));
    if len < minimum {
        return Err(ProtocolError::LengthNotMinimal);
    }
    if len > i64::MAX as u64 {
        return Err(ProtocolError::LengthTopBitSet);
    }
    Ok(Some(len))
}

fn control_event(opcode: u8, payload: Vec<u8>) -> Result<Owned, ProtocolError> {
    Ok(match opcode {
        9 => Owned::Ping(payload),
        10 => Owned::Pong(payload),
        _ => Event::Close(decode_close(&payload)?).into(),
    })
}

/// Whether `bytes` are valid UTF-8 or, in an incomplete text, could become so.
fn may_be_text(bytes: &[u8], is_complete: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !is_complete && error.error_len().is_none(),
    }
}
