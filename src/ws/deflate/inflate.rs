//! Compressed messages become messages.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::super::error::ProtocolError;
use super::super::receiver::Kind;
use super::super::utf8::Utf8Validator;

/// Logarithm of the largest window.
const WINDOW_BITS: u8 = 15;

/// The end of the last block, which senders leave out (RFC 7692 §7.2.1), and a block that is final and
/// empty: it is read as one only where a block may begin, which tells a message that was cut.
const END: [u8; 6] = [0x00, 0x00, 0xFF, 0xFF, 0x03, 0x00];

/// Most final blocks in one message. A sender needs one for each flush at most; behind each of them
/// the inflater starts anew.
const FINAL_BLOCKS_MAX: usize = 128;

/// First allocation for a message, in bytes.
const FIRST_BYTES: usize = 4 * 1024;

/// Bytes inflated before text is looked at.
const STEP_BYTES: usize = 16 * 1024;

/// A buffer that has grown beyond this is given back.
const KEPT_BYTES: usize = 256 * 1024;

/// What an [`Inflate`] weighs: its window and its tables, rounded up.
const ENGINE_BYTES: usize = 48 * 1024;

/// Inflates one message after the other.
#[derive(Default)]
pub(super) struct Inflater {
    engine: Option<Inflate>,
    /// Initialised memory for the next message.
    buffer: Vec<u8>,
}

/// An inflated message.
#[derive(Debug)]
pub struct Inflated {
    buffer: Vec<u8>,
    len: usize,
}

impl Inflated {
    /// The message; valid UTF-8 if it is a text.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Inflater {
    /// Inflates `payload`, which may refer to the bytes `before`.
    pub(super) fn inflate(
        &mut self,
        kind: Kind,
        payload: &[u8],
        before: &[u8],
        bytes_max: usize,
    ) -> Result<Inflated, ProtocolError> {
        let engine = self.engine.get_or_insert_with(|| Inflate::new(false, WINDOW_BITS));
        let mut text = match kind {
            Kind::Text => Some(Utf8Validator::default()),
            Kind::Binary => None,
        };
        let buffer = std::mem::take(&mut self.buffer);
        let mut run = Run { engine, before, buffer, len: 0, bytes_max };
        let verdict = run.message(payload, &mut text);
        let verdict = verdict.and_then(|()| text.map_or(Ok(()), Utf8Validator::finish));
        let inflated = Inflated { buffer: run.buffer, len: run.len };
        match verdict {
            Ok(()) => Ok(inflated),
            Err(error) => {
                self.recycle(inflated);
                Err(error)
            }
        }
    }

    pub(super) fn recycle(&mut self, inflated: Inflated) {
        if inflated.buffer.len() <= KEPT_BYTES {
            self.buffer = inflated.buffer;
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.engine.as_ref().map_or(0, |_| ENGINE_BYTES) + self.buffer.capacity()
    }
}

/// One message on its way.
struct Run<'a> {
    engine: &'a mut Inflate,
    before: &'a [u8],
    buffer: Vec<u8>,
    len: usize,
    bytes_max: usize,
}

impl Run<'_> {
    fn message(
        &mut self,
        payload: &[u8],
        text: &mut Option<Utf8Validator>,
    ) -> Result<(), ProtocolError> {
        // Not what RFC 7692 §7.2.3.6 makes of nothing, but it can only mean that.
        if payload.is_empty() {
            return Ok(());
        }
        let mut rest = payload;
        for _ in 0..FINAL_BLOCKS_MAX {
            self.begin()?;
            let used = match self.feed(rest, text)? {
                // A final block ends the payload: some senders leave out what ought to follow it.
                Fed::Final(used) if used == rest.len() => return Ok(()),
                Fed::Final(used) => used,
                Fed::All => {
                    return match self.feed(&END, text)? {
                        Fed::Final(used) if used == END.len() => Ok(()),
                        Fed::Final(_) | Fed::All => Err(ProtocolError::BadDeflate),
                    };
                }
            };
            rest = &rest[used..];
        }
        Err(ProtocolError::BadDeflate)
    }

    /// Begins a stream of blocks that may refer to all that came before it.
    fn begin(&mut self) -> Result<(), ProtocolError> {
        self.engine.reset(false);
        for bytes in [self.before, &self.buffer[..self.len]] {
            if !bytes.is_empty() {
                self.engine.set_dictionary(bytes).map_err(|_| ProtocolError::BadDeflate)?;
            }
        }
        Ok(())
    }

    /// Inflates up to the end of `input` or of a final block.
    fn feed(
        &mut self,
        input: &[u8],
        text: &mut Option<Utf8Validator>,
    ) -> Result<Fed, ProtocolError> {
        let mut used = 0;
        loop {
            let room = self.room();
            let (in_before, out_before) = (self.engine.total_in(), self.engine.total_out());
            let output = &mut self.buffer[self.len..self.len + room];
            let status = self
                .engine
                .decompress(&input[used..], output, InflateFlush::SyncFlush)
                .map_err(|_| ProtocolError::BadDeflate)?;
            let taken = to_usize(self.engine.total_in() - in_before);
            let given = to_usize(self.engine.total_out() - out_before);
            used += taken;
            self.len += given;
            if self.len > self.bytes_max {
                return Err(ProtocolError::MessageTooBig);
            }
            if let Some(text) = text {
                text.push(&self.buffer[self.len - given..self.len])?;
            }
            let is_at_end = used == input.len();
            match status {
                Status::StreamEnd => return Ok(Fed::Final(used)),
                Status::Ok | Status::BufError if is_at_end && given < room => return Ok(Fed::All),
                Status::Ok | Status::BufError if taken == 0 && given == 0 => {
                    return Err(ProtocolError::BadDeflate);
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// Makes room for the next step, at least one byte; never more than one beyond the limit.
    fn room(&mut self) -> usize {
        if self.len == self.buffer.len() {
            let doubled = (self.len * 2).max(FIRST_BYTES);
            let len = doubled.min(self.bytes_max.saturating_add(1)).max(self.len + 1);
            self.buffer.reserve_exact(len - self.buffer.len());
            self.buffer.resize(len, 0);
        }
        let end = self.buffer.len().min(self.bytes_max.saturating_add(1)).max(self.len + 1);
        (end - self.len).min(STEP_BYTES)
    }
}

/// How far [`Run::feed`] came.
enum Fed {
    /// To the end of its input.
    All,
    /// To the end of a final block, after this many bytes.
    Final(usize),
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("buffer", &self.buffer.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zlib_rs::{Deflate, DeflateFlush};

    use super::*;

    fn inflate(kind: Kind, payload: &[u8], max: usize) -> Result<Vec<u8>, ProtocolError> {
        let mut inflater = Inflater::default();
        let inflated = inflater.inflate(kind, payload, &[], max);
        assert!(inflater.buffer.len() <= (max + 1).max(FIRST_BYTES), "written beyond the limit");
        inflated.map(|inflated| {
            assert!(inflated.buffer.len() <= max + 1);
            inflated.bytes().to_vec()
        })
    }

    fn text(payload: &[u8]) -> Result<String, ProtocolError> {
        inflate(Kind::Text, payload, 1 << 16).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// What a client sends for each of these messages, if it keeps its context.
    fn compressed(messages: &[Vec<u8>], window_bits: u8) -> Vec<Vec<u8>> {
        let mut engine = Deflate::new(6, false, window_bits);
        let compress = |message: &Vec<u8>| {
            if message.is_empty() {
                return vec![0]; // RFC 7692 §7.2.3.6
            }
            let mut out = vec![0; message.len() * 2 + 100];
            let before = engine.total_out();
            engine.compress(message, &mut out, DeflateFlush::SyncFlush).unwrap();
            out.truncate(to_usize(engine.total_out() - before));
            assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
            out
        };
        messages.iter().map(compress).collect()
    }

    #[test]
    fn the_messages_of_the_rfc_are_inflated() {
        // RFC 7692 §7.2.3.1, §7.2.3.3, §7.2.3.4, §7.2.3.5, §7.2.3.6
        let hello = Ok("Hello".to_owned());
        assert_eq!(text(b"\xf2\x48\xcd\xc9\xc9\x07\x00"), hello);
        assert_eq!(text(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), hello);
        assert_eq!(text(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), hello);
        let two_blocks = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
        assert_eq!(text(two_blocks), hello);
        assert_eq!(text(b"\x00"), Ok(String::new()));
        // RFC 7692 §7.2.3.2: the second message refers to the first.
        let mut inflater = Inflater::default();
        let again = b"\xf2\x00\x11\x00\x00";
        let inflated = inflater.inflate(Kind::Text, again, b"Hello", 5).unwrap();
        assert_eq!(inflated.bytes(), b"Hello");
        assert_eq!(text(again), Err(ProtocolError::BadDeflate), "nothing to refer to");
    }

    #[test]
    fn what_senders_leave_out_is_forgiven_where_it_is_clear() {
        assert_eq!(text(b""), Ok(String::new()));
        assert_eq!(text(b"\xf3\x48\xcd\xc9\xc9\x07\x00"), Ok("Hello".to_owned()));
    }

    #[test]
    fn blocks_behind_a_final_one_refer_to_what_was_before_it() {
        let final_hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
        let again = b"\xf2\x00\x11\x00\x00";
        assert_eq!(text(&[&final_hello[..], again].concat()), Ok("HelloHello".to_owned()));
        let finals = |count| [b"\x03\x00".repeat(count), vec![0]].concat();
        assert_eq!(text(&finals(FINAL_BLOCKS_MAX - 1)), Ok(String::new()));
        assert_eq!(text(&finals(FINAL_BLOCKS_MAX)), Err(ProtocolError::BadDeflate));
    }

    #[test]
    fn broken_messages_are_refused() {
        let message = compressed(&[b"twelve bytes, three times. ".repeat(3)], 15).remove(0);
        assert!(text(&message).is_ok());
        for len in 1..message.len() - 1 {
            assert_eq!(text(&message[..len]), Err(ProtocolError::BadDeflate), "cut to {len}");
        }
        let wrong: [&[u8]; 5] = [
            b"\xff\xff\xff",              // no such kind of block
            b"\x00\x05\x00\x05\x00Hello", // a stored length that is not confirmed
            b"\x00\x05\x00\xfa\xffHel",   // less than announced
            b"\xf2\x48\xcd\xc9\xc9\x07",  // the end is missing
            b"\x04\xc0\x81\x08\x00\x00",  // codes that are not complete
        ];
        for payload in wrong {
            assert_eq!(text(payload), Err(ProtocolError::BadDeflate), "{payload:x?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = compressed(&[vec![0; 1 << 24]], 15).remove(0);
        assert!(bomb.len() < 17_000, "{}", bomb.len());
        for max in [0, 1, 125, 65_535, 65_536, (1 << 24) - 1] {
            let refused = inflate(Kind::Binary, &bomb, max);
            assert_eq!(refused, Err(ProtocolError::MessageTooBig), "{max}");
        }
        assert_eq!(inflate(Kind::Binary, &bomb, 1 << 24).map(|bytes| bytes.len()), Ok(1 << 24));
    }

    #[test]
    fn nothing_is_made_of_many_empty_blocks() {
        let blocks = b"\x00\x00\x00\xff\xff".repeat(100_000);
        assert_eq!(text(&[&blocks[..], b"\x00"].concat()), Ok(String::new()));
    }

    #[test]
    fn text_is_looked_at_while_it_is_inflated() {
        let mut long = vec![b'x'; 1 << 20];
        long[100] = 0xff;
        let payload = compressed(&[long.clone()], 15).remove(0);
        assert_eq!(inflate(Kind::Text, &payload, 1 << 20), Err(ProtocolError::InvalidUtf8));
        // It does not even come to the limit.
        assert_eq!(inflate(Kind::Text, &payload, 1 << 17), Err(ProtocolError::InvalidUtf8));
        assert_eq!(inflate(Kind::Binary, &payload, 1 << 20), Ok(long));
        let cut = compressed(&[b"\xe2\x82".to_vec()], 15).remove(0);
        assert_eq!(text(&cut), Err(ProtocolError::InvalidUtf8));
    }

    #[test]
    fn memory_is_kept_for_the_next_message_unless_it_is_much() {
        let mut inflater = Inflater::default();
        assert_eq!(inflater.heap_bytes(), 0);
        let mut run = |len: usize| {
            let payload = compressed(&[vec![1; len]], 15).remove(0);
            let inflated = inflater.inflate(Kind::Binary, &payload, &[], 1 << 20).unwrap();
            inflater.recycle(inflated);
            inflater.heap_bytes() - ENGINE_BYTES
        };
        assert_eq!(run(100_000), 128 * 1024);
        assert_eq!(run(1), 128 * 1024);
        assert_eq!(run(1 << 20), 0);
    }

    fn some_messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let words =
            prop::sample::select(vec!["alpha ", "beta ", "gamma ", "{\"x\":1}", "\u{20ac}"]);
        let text =
            prop::collection::vec(words, 0..400).prop_map(|words| words.concat().into_bytes());
        let noise = prop::collection::vec(any::<u8>(), 0..2000);
        prop::collection::vec(prop_oneof![3 => text, 1 => noise], 1..8)
    }

    proptest! {
        #[test]
        fn what_a_zlib_compresses_is_inflated_with_context_and_without(
            messages in some_messages(),
            window_bits in 9_u8..=15,
        ) {
            let contexts = super::super::context::Contexts::new(1);
            let mut context = contexts.reserve(window_bits);
            let mut inflater = Inflater::default();
            for (message, payload) in messages.iter().zip(compressed(&messages, window_bits)) {
                let inflated = inflater.inflate(Kind::Binary, &payload, context.bytes(), 1 << 16);
                let inflated = inflated.unwrap();
                prop_assert_eq!(inflated.bytes(), &message[..]);
                context.push(inflated.bytes());
                inflater.recycle(inflated);
                let alone = compressed(std::slice::from_ref(message), window_bits).remove(0);
                prop_assert_eq!(&inflate(Kind::Binary, &alone, 1 << 16).unwrap(), message);
            }
        }

        #[test]
        fn no_bytes_make_more_than_the_limit(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            before in prop::collection::vec(any::<u8>(), 0..50),
            max in 0_usize..5000,
        ) {
            let mut inflater = Inflater::default();
            if let Ok(inflated) = inflater.inflate(Kind::Binary, &payload, &before, max) {
                prop_assert!(inflated.bytes().len() <= max);
            }
            prop_assert!(inflater.buffer.len() <= max + 1);
        }
    }
}
