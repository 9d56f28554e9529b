//! Received bytes become messages.
//!
//! A message that lies whole in the input is unmasked there and never copied. Anything else is
//! kept in a `Partial`, which exists from the first byte of an unfinished message, or frame, to
//! its end: an idle receiver owns no memory.

use super::close::{CloseCode, decode_close};
use super::error::ProtocolError;
use super::header::{Fin, FrameHeader, HEADER_BYTES_MAX, Opcode, Rsv, decode_header};
use super::mask::{unmask, unmask_copy};
use super::utf8::Utf8Validator;

/// First allocation for the payload of an unfinished message, in bytes.
const FIRST_BYTES: usize = 64;

/// Bounds of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of payload in a message, over all its fragments.
    pub message_bytes_max: usize,
    /// Most frames of a message; empty ones count.
    pub fragments_max: usize,
}

impl Limits {
    /// Most bytes of payload that the compressed form of a message may have. What cannot be
    /// compressed grows by what the blocks cost; a small share is room for the worst of senders.
    pub const fn compressed_bytes_max(&self) -> usize {
        self.message_bytes_max.saturating_add(self.message_bytes_max / 16).saturating_add(64)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: 64 * 1024, fragments_max: 128 }
    }
}

/// What a data message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// Something complete, unmasked and validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message: valid UTF-8.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
    /// The compressed form of a message, of which nothing is known yet: see [`super::deflate`].
    Compressed(Kind, &'a [u8]),
    /// A question; answer with a Pong of the same payload.
    Ping(&'a [u8]),
    /// An answer.
    Pong(&'a [u8]),
    /// The end of what the client has to say: call [`Receiver::receive`] no more.
    Close(Option<(CloseCode, &'a str)>),
}

/// What one call found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Bytes at the front of the input that are done with.
    pub consumed: usize,
    /// `None`: all of the input is consumed, and nothing more is complete.
    pub event: Option<Event<'a>>,
}

/// The receiving half of one connection.
///
/// Call [`Self::receive`] on the rest of the input until it finds no event. Fails once: after an
/// error or a Close it must not be called again.
#[derive(Debug, Default)]
pub struct Receiver {
    partial: Option<Box<Partial>>,
    rsv_allowed: Rsv,
}

/// What has been received of something unfinished.
#[derive(Debug, Default)]
struct Partial {
    header: BegunHeader,
    frame: Option<BegunFrame>,
    message: Option<BegunMessage>,
    control: Vec<u8>,
    delivered: Delivered,
}

/// The front of a frame header.
#[derive(Debug, Default)]
struct BegunHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

/// A frame whose header is known and whose payload is not complete.
#[derive(Clone, Copy, Debug)]
struct BegunFrame {
    header: FrameHeader,
    received: usize,
}

/// A data message that has not ended, unmasked.
#[derive(Debug)]
struct BegunMessage {
    content: Content,
    payload: Vec<u8>,
    fragments: usize,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Text(Utf8Validator),
    Binary,
    Compressed(Kind),
}

/// What the last event borrowed; it goes with the next call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Delivered {
    #[default]
    Nothing,
    Message,
    Control,
}

/// What [`Receiver::advance`] came upon, without borrowing it.
enum Found {
    Nothing,
    /// A frame that lies whole in the input, unmasked: a control frame or an unfragmented message.
    InInput(Opcode, Rsv, std::ops::Range<usize>),
    /// `Partial::control` is complete.
    Control(Opcode),
    /// `Partial::message` is complete.
    Message,
}

impl Receiver {
    /// An idle receiver. `rsv_allowed` are the reserved bits of the extensions agreed on.
    pub fn new(rsv_allowed: Rsv) -> Self {
        Self { partial: None, rsv_allowed }
    }

    /// The next event of `input`, or all of `input` taken in. Nothing is kept of `input` itself.
    ///
    /// Memory follows the bytes received, never a length that was announced.
    ///
    /// Errors: [`ProtocolError`]; the events before it have been returned by earlier calls.
    /// Source: RFC 6455 §5.4–§5.6, §6.2.
    pub fn receive<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
    ) -> Result<Received<'a>, ProtocolError> {
        self.release();
        let (consumed, found) = self.advance(input, limits)?;
        let event = match found {
            Found::Nothing => None,
            Found::InInput(opcode, rsv, range) => Some(event_of(opcode, rsv, &input[range])?),
            Found::Control(opcode) => Some(event_of(opcode, Rsv::NONE, &self.begun().control)?),
            Found::Message => self.begun().message.as_ref().map(BegunMessage::event).transpose()?,
        };
        Ok(Received { consumed, event })
    }

    /// Frees what the last event borrowed. [`Self::receive`] begins with it.
    pub fn release(&mut self) {
        let Some(partial) = self.partial.as_mut() else { return };
        match std::mem::take(&mut partial.delivered) {
            Delivered::Nothing => {}
            Delivered::Message => partial.message = None,
            Delivered::Control => partial.control = Vec::new(),
        }
        if !self.is_mid_message() {
            self.partial = None;
        }
    }

    /// Whether a message or a frame has begun and not ended.
    pub fn is_mid_message(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| {
            let message_open = partial.message.is_some() && partial.delivered != Delivered::Message;
            partial.header.len > 0 || partial.frame.is_some() || message_open
        })
    }

    /// Bytes on the heap that this receiver owns.
    pub fn heap_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial.message.as_ref().map_or(0, |message| message.payload.capacity());
            size_of::<Partial>() + partial.control.capacity() + message
        })
    }

    fn begun(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }

    /// Takes in frames until something is complete or the input ends.
    fn advance(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
    ) -> Result<(usize, Found), ProtocolError> {
        let mut at = 0;
        loop {
            let begun = self.partial.as_mut().and_then(|partial| partial.frame.take());
            let BegunFrame { header, received } = match begun {
                Some(frame) => frame,
                None => {
                    let (header_len, header) = self.next_header(&input[at..])?;
                    at += header_len;
                    let Some(header) = header else { return Ok((at, Found::Nothing)) };
                    self.admit(&header, limits)?;
                    BegunFrame { header, received: 0 }
                }
            };
            let missing = announced_len(&header) - received;
            let here = missing.min(input.len() - at);
            let range = at..at + here;
            at += here;
            let is_unfragmented = self.partial.as_ref().is_none_or(|p| p.message.is_none())
                && header.fin == Fin::Last;
            if here == missing && received == 0 && (header.opcode.is_control() || is_unfragmented) {
                unmask(&mut input[range.clone()], header.mask, 0);
                return Ok((at, Found::InInput(header.opcode, header.rsv, range)));
            }
            let partial = self.begun();
            partial.collect(&header, received, &input[range], limits)?;
            if here < missing {
                partial.frame = Some(BegunFrame { header, received: received + here });
                return Ok((at, Found::Nothing));
            }
            if header.opcode.is_control() {
                partial.delivered = Delivered::Control;
                return Ok((at, Found::Control(header.opcode)));
            }
            if header.fin == Fin::Last {
                partial.delivered = Delivered::Message;
                return Ok((at, Found::Message));
            }
        }
    }

    /// The next header and how many bytes of `input` it took; what is too short is kept.
    fn next_header(&mut self, input: &[u8]) -> Result<(usize, Option<FrameHeader>), ProtocolError> {
        let rsv_allowed = self.rsv_allowed;
        let is_begun = self.partial.as_ref().is_some_and(|partial| partial.header.len > 0);
        if !is_begun {
            if let Some((header, len)) = decode_header(input, rsv_allowed)? {
                return Ok((len, Some(header)));
            }
            if input.is_empty() {
                return Ok((0, None));
            }
        }
        let begun = &mut self.begun().header;
        for (taken, &byte) in input.iter().enumerate() {
            begun.bytes[usize::from(begun.len)] = byte;
            begun.len += 1;
            let bytes = &begun.bytes[..usize::from(begun.len)];
            if let Some((header, _)) = decode_header(bytes, rsv_allowed)? {
                begun.len = 0;
                return Ok((taken + 1, Some(header)));
            }
        }
        Ok((input.len(), None))
    }

    /// Decides on the header alone whether the frame may come; counts it in its message.
    fn admit(&mut self, header: &FrameHeader, limits: &Limits) -> Result<(), ProtocolError> {
        let message = self.partial.as_mut().and_then(|partial| partial.message.as_mut());
        let (length_before, bytes_max) = match (header.opcode, message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(ProtocolError::ExpectedContinuation);
            }
            (Opcode::Text | Opcode::Binary, None) if header.rsv.is_none() => {
                (0, limits.message_bytes_max)
            }
            (Opcode::Text | Opcode::Binary, None) => (0, limits.compressed_bytes_max()),
            (Opcode::Continuation, Some(message)) => {
                message.fragments += 1;
                if message.fragments > limits.fragments_max {
                    return Err(ProtocolError::TooManyFragments);
                }
                (message.payload.len(), message.bytes_max(limits))
            }
        };
        // Limits can shrink between two fragments when the configuration is reloaded.
        let room = bytes_max.saturating_sub(length_before);
        if header.payload_len > room as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }
}

impl Partial {
    /// Appends masked bytes of a frame's payload to what they belong to.
    fn collect(
        &mut self,
        header: &FrameHeader,
        received: usize,
        masked: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let missing = announced_len(header) - received;
        if header.opcode.is_control() {
            grow(&mut self.control, masked.len(), missing);
            unmask_copy(&mut self.control, masked, header.mask, received);
            return Ok(());
        }
        let message = self.message.get_or_insert_with(|| BegunMessage::new(header));
        let expected = match header.fin {
            Fin::Last => missing,
            Fin::More => message.bytes_max(limits).saturating_sub(message.payload.len()),
        };
        grow(&mut message.payload, masked.len(), expected);
        let start = message.payload.len();
        unmask_copy(&mut message.payload, masked, header.mask, received);
        match &mut message.content {
            Content::Text(validator) => validator.push(&message.payload[start..]),
            Content::Binary | Content::Compressed(_) => Ok(()),
        }
    }
}

impl BegunMessage {
    fn new(header: &FrameHeader) -> Self {
        let content = match (header.rsv.is_none(), kind_of(header.opcode)) {
            (false, kind) => Content::Compressed(kind),
            (true, Kind::Text) => Content::Text(Utf8Validator::default()),
            (true, Kind::Binary) => Content::Binary,
        };
        Self { content, payload: Vec::new(), fragments: 1 }
    }

    fn bytes_max(&self, limits: &Limits) -> usize {
        match self.content {
            Content::Compressed(_) => limits.compressed_bytes_max(),
            Content::Text(_) | Content::Binary => limits.message_bytes_max,
        }
    }

    fn event(&self) -> Result<Event<'_>, ProtocolError> {
        match self.content {
            Content::Text(validator) => validator.finish().map(|()| Event::Text(&self.payload)),
            Content::Binary => Ok(Event::Binary(&self.payload)),
            Content::Compressed(kind) => Ok(Event::Compressed(kind, &self.payload)),
        }
    }
}

/// Payload length of a frame that was admitted, and so is within a limit that is a `usize`.
fn announced_len(header: &FrameHeader) -> usize {
    usize::try_from(header.payload_len).unwrap_or(usize::MAX)
}

/// Makes room for `more` bytes, and for as many again as there are then, but not beyond `expected`
/// bytes more than there are now.
fn grow(buffer: &mut Vec<u8>, more: usize, expected: usize) {
    if buffer.capacity() - buffer.len() >= more {
        return;
    }
    let received = buffer.len() + more;
    let doubled = (received * 2).max(FIRST_BYTES) - buffer.len();
    buffer.reserve_exact(doubled.min(expected).max(more));
}

fn kind_of(opcode: Opcode) -> Kind {
    if opcode == Opcode::Text { Kind::Text } else { Kind::Binary }
}

fn event_of(opcode: Opcode, rsv: Rsv, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Text | Opcode::Binary if !rsv.is_none() => {
            Event::Compressed(kind_of(opcode), payload)
        }
        Opcode::Text => {
            // Most texts are, and short ones are found out at half the price.
            if !payload.is_ascii() {
                simdutf8::basic::from_utf8(payload).map_err(|_| ProtocolError::InvalidUtf8)?;
            }
            Event::Text(payload)
        }
        Opcode::Binary => Event::Binary(payload),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Close => Event::Close(decode_close(payload)?),
        Opcode::Continuation => unreachable!("a continuation is collected"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference::{Outcome, Owned, decode, receive_in_pieces};
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A client's frame with the given first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
            len @ 126..65536 => {
                bytes.push(0xfe);
                bytes.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                bytes.push(0xff);
                bytes.extend_from_slice(&u64::try_from(len).unwrap().to_be_bytes());
            }
        }
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    fn receive(stream: &[u8]) -> Outcome {
        let whole = receive_in_pieces(stream, &[], &Limits::default(), Rsv::NONE);
        let dribbled = receive_in_pieces(stream, &[1], &Limits::default(), Rsv::NONE);
        assert_eq!(whole, dribbled);
        whole
    }

    fn error_of(frames: &[Vec<u8>]) -> Option<ProtocolError> {
        receive(&frames.concat()).1
    }

    #[test]
    fn the_masked_hello_of_the_rfc_is_a_text_message_within_the_input() {
        let mut input = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let place = input[6..].as_ptr();
        let mut receiver = Receiver::default();
        let received = receiver.receive(&mut input, &Limits::default()).unwrap();
        assert_eq!(received.consumed, 11);
        assert_eq!(received.event, Some(Event::Text(b"Hello"))); // RFC 6455 §5.7
        let Some(Event::Text(text)) = received.event else { unreachable!() };
        assert!(std::ptr::eq(text.as_ptr(), place));
        assert_eq!(receiver.heap_bytes(), 0);
    }

    #[test]
    fn an_idle_receiver_is_small_and_owns_nothing() {
        assert!(size_of::<Receiver>() <= 24);
        let stream = frame(0x81, b"Hello");
        let mut receiver = Receiver::default();
        for &byte in &stream[..10] {
            let mut input = [byte];
            let received = receiver.receive(&mut input, &Limits::default()).unwrap();
            assert_eq!(received, Received { consumed: 1, event: None });
            assert!(receiver.is_mid_message());
            assert!(receiver.heap_bytes() > 0);
        }
        let mut last = [stream[10]];
        let received = receiver.receive(&mut last, &Limits::default()).unwrap();
        assert_eq!(received.event, Some(Event::Text(b"Hello")));
        assert!(!receiver.is_mid_message());
        receiver.release();
        assert_eq!(receiver.heap_bytes(), 0);
    }

    #[test]
    fn control_frames_come_between_fragments() {
        let stream = [
            frame(0x01, b"Hel"),
            frame(0x89, b"?"),
            frame(0x00, b""),
            frame(0x8a, b""),
            frame(0x80, b"lo"),
            frame(0x82, b"\xff"),
            frame(0x88, b"\x03\xe8bye"),
            frame(0x81, b"ignored"),
        ];
        let expected = vec![
            Owned::Ping(b"?".to_vec()),
            Owned::Pong(Vec::new()),
            Owned::Text(b"Hello".to_vec()),
            Owned::Binary(b"\xff".to_vec()),
            Owned::Close(Some((1000, "bye".to_owned()))),
        ];
        assert_eq!(receive(&stream.concat()), (expected, None));
    }

    #[test]
    fn a_length_is_judged_by_the_header_alone() {
        let header = |len: u64| {
            let mut bytes = vec![0x82, 0xff];
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&MASK);
            bytes
        };
        for len in [65537, 1 << 32, (1 << 63) - 1] {
            assert_eq!(error_of(&[header(len)]), Some(ProtocolError::MessageTooBig));
        }
        for len in [1 << 63, (1 << 63) + 1, u64::MAX] {
            assert_eq!(error_of(&[header(len)]), Some(ProtocolError::LengthTopBitSet));
        }
        let mut receiver = Receiver::default();
        let mut input = header(65536);
        let received = receiver.receive(&mut input, &Limits::default()).unwrap();
        assert_eq!(received.event, None);
        assert!(receiver.heap_bytes() < 512);
    }

    #[test]
    fn the_limit_is_on_the_sum_of_fragments() {
        let fragments = |count: usize| {
            let mut frames = vec![frame(0x02, &[7; 2048])];
            frames.resize(count, frame(0x00, &[7; 2048]));
            frames.concat()
        };
        assert_eq!(receive(&fragments(32)), (vec![], None));
        assert_eq!(receive(&fragments(33)), (vec![], Some(ProtocolError::MessageTooBig)));
    }

    #[test]
    fn fragments_are_counted_and_empty_ones_too() {
        for payload in [&b""[..], b"x"] {
            let fragments = |count: usize| {
                let mut frames = vec![frame(0x01, payload)];
                frames.resize(count, frame(0x00, payload));
                frames.concat()
            };
            assert_eq!(receive(&fragments(128)), (vec![], None));
            assert_eq!(receive(&fragments(129)).1, Some(ProtocolError::TooManyFragments));
        }
        assert_eq!(ProtocolError::TooManyFragments.close_code(), CloseCode::POLICY_VIOLATION);
    }

    #[test]
    fn each_breach_is_named() {
        use ProtocolError::*;
        assert_eq!(error_of(&[frame(0x80, b"x")]), Some(UnexpectedContinuation));
        assert_eq!(error_of(&[frame(0x00, b"x")]), Some(UnexpectedContinuation));
        for first in [0x81, 0x82, 0x01, 0x02] {
            assert_eq!(
                error_of(&[frame(0x01, b"x"), frame(first, b"x")]),
                Some(ExpectedContinuation)
            );
        }
        assert_eq!(error_of(&[frame(0x81, b"x"), frame(0x80, b"x")]), Some(UnexpectedContinuation));
        assert_eq!(error_of(&[vec![0x81, 0x00]]), Some(UnmaskedClientFrame));
        assert_eq!(error_of(&[frame(0xc1, b"x")]), Some(ReservedBitSet));
        assert_eq!(error_of(&[frame(0x83, b"x")]), Some(UnknownOpcode));
        assert_eq!(error_of(&[frame(0x89, &[0; 126])]), Some(ControlTooLong));
        assert_eq!(error_of(&[frame(0x09, b"")]), Some(ControlFragmented));
        assert_eq!(error_of(&[frame(0x88, b"\x03")]), Some(BadCloseLength));
        assert_eq!(error_of(&[frame(0x88, b"\x03\xed")]), Some(BadCloseCode));
        assert_eq!(error_of(&[frame(0x88, b"\x03\xe8\xff")]), Some(InvalidUtf8));
        assert_eq!(error_of(&[frame(0x81, b"\xc3")]), Some(InvalidUtf8));
        assert_eq!(error_of(&[frame(0x01, b"\xc3"), frame(0x80, b"x")]), Some(InvalidUtf8));
        assert_eq!(error_of(&[frame(0x01, b"\xc3"), frame(0x80, b"")]), Some(InvalidUtf8));
        assert_eq!(error_of(&[frame(0x01, b"\xc3"), frame(0x80, b"\xa9")]), None);
    }

    #[test]
    fn bad_text_fails_before_its_frame_ends() {
        let stream = frame(0x81, b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80");
        let bad_byte = stream.len() - 3;
        let mut receiver = Receiver::default();
        for (i, &byte) in stream[..=bad_byte].iter().enumerate() {
            let verdict = receiver.receive(&mut [byte], &Limits::default()).map(|_| ());
            let expected = if i == bad_byte { Err(ProtocolError::InvalidUtf8) } else { Ok(()) };
            assert_eq!(verdict, expected, "byte {i}");
        }
    }

    #[test]
    fn a_dribbled_message_grows_with_what_came() {
        let stream = frame(0x82, &vec![5; 65536]);
        let (head, payload) = stream.split_at(14);
        let mut receiver = Receiver::default();
        receiver.receive(&mut head.to_vec(), &Limits::default()).unwrap();
        for (received, &byte) in payload.iter().enumerate() {
            assert!(receiver.heap_bytes() <= 512 + 2 * received);
            let mut input = [byte];
            let event = receiver.receive(&mut input, &Limits::default()).unwrap().event;
            assert_eq!(event.is_some(), received == 65535);
        }
        assert!(receiver.heap_bytes() <= 512 + 65536);
    }

    #[test]
    fn compressed_messages_are_handed_on_as_they_came() {
        let compressed = Event::Compressed;
        let mut receiver = Receiver::new(Rsv::RSV1);
        let mut input = frame(0xc2, b"x");
        let received = receiver.receive(&mut input, &Limits::default()).unwrap();
        assert_eq!(received.event, Some(compressed(Kind::Binary, b"x")));
        // Not UTF-8, and it need not be.
        let mut input = [frame(0x41, b"\xff"), frame(0x89, b""), frame(0x80, b"\xfe")].concat();
        let ping = receiver.receive(&mut input, &Limits::default()).unwrap();
        assert_eq!(ping.event, Some(Event::Ping(b"")));
        let rest = ping.consumed;
        let message = receiver.receive(&mut input[rest..], &Limits::default()).unwrap();
        assert_eq!(message.event, Some(compressed(Kind::Text, b"\xff\xfe")));
        receiver.release();
        assert_eq!(receiver.heap_bytes(), 0);
        // The next message is plain again.
        let mut input = frame(0x81, b"\xff");
        let plain = receiver.receive(&mut input, &Limits::default());
        assert_eq!(plain, Err(ProtocolError::InvalidUtf8));
    }

    #[test]
    fn a_compressed_message_may_be_a_little_longer_than_a_plain_one() {
        let limits = Limits { message_bytes_max: 1600, fragments_max: 128 };
        assert_eq!(limits.compressed_bytes_max(), 1600 + 100 + 64);
        let verdict = |frames: &[Vec<u8>]| {
            let mut receiver = Receiver::new(Rsv::RSV1);
            receiver.receive(&mut frames.concat(), &limits).map(|received| received.event.is_some())
        };
        let too_big = Err(ProtocolError::MessageTooBig);
        assert_eq!(verdict(&[frame(0xc2, &[0; 1764])]), Ok(true));
        assert_eq!(verdict(&[frame(0xc2, &[0; 1765])]), too_big);
        assert_eq!(verdict(&[frame(0x42, &[0; 1764]), frame(0x80, b"")]), Ok(true));
        assert_eq!(verdict(&[frame(0x42, &[0; 1764]), frame(0x80, b"x")]), too_big);
        assert_eq!(verdict(&[frame(0x82, &[0; 1601])]), too_big);
    }

    fn some_payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => ".{0,40}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..12),
            1 => prop::collection::vec(any::<u8>(), 120..300),
        ]
    }

    fn some_frame() -> impl Strategy<Value = Vec<u8>> {
        let first = prop::sample::select(vec![
            0x81, 0x82, 0x01, 0x02, 0xc1, 0x42, 0x00, 0x80, 0x89, 0x8a, 0x88,
        ]);
        let valid = (first, some_payload()).prop_map(|(first, mut payload)| {
            if first & 8 != 0 {
                payload.truncate(125);
            }
            frame(first, &payload)
        });
        prop_oneof![20 => valid, 1 => prop::collection::vec(any::<u8>(), 0..20)]
    }

    /// A message in fragments with control frames between them, which random frames seldom make.
    fn some_message() -> impl Strategy<Value = Vec<u8>> {
        (".{1,60}", prop::collection::vec(1_usize..20, 1..5), any::<bool>()).prop_map(
            |(text, lens, ping_between)| {
                let mut stream = Vec::new();
                let mut rest = text.as_bytes();
                for (i, &len) in lens.iter().enumerate() {
                    let (piece, after) = rest.split_at(len.min(rest.len()));
                    rest = after;
                    stream.extend(frame(u8::from(i == 0), piece));
                    if ping_between {
                        stream.extend(frame(0x89, piece));
                    }
                }
                stream.extend(frame(0x80, rest));
                stream
            },
        )
    }

    proptest! {
        #[test]
        fn any_split_gives_what_the_naive_receiver_gives(
            parts in prop::collection::vec(prop_oneof![some_frame(), some_message()], 0..8),
            piece_lens in prop::collection::vec(1_usize..80, 1..6),
            message_bytes_max in 0_usize..500,
            fragments_max in 1_usize..6,
            rsv in prop::sample::select(vec![Rsv::NONE, Rsv::RSV1]),
        ) {
            let stream = parts.concat();
            let limits = Limits { message_bytes_max, fragments_max };
            let expected = decode(&stream, &limits, rsv);
            prop_assert_eq!(&receive_in_pieces(&stream, &[], &limits, rsv), &expected);
            prop_assert_eq!(&receive_in_pieces(&stream, &[1], &limits, rsv), &expected);
            prop_assert_eq!(&receive_in_pieces(&stream, &piece_lens, &limits, rsv), &expected);
        }
    }
}
