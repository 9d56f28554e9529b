//! permessage-deflate (RFC 7692): what is agreed, messages inflated, messages compressed.
//!
//! Everything that costs memory is shared by the connections of a thread, in its [`Codec`]. What is
//! sent is compressed without context, so that one compressed message serves many clients. A client
//! that may keep its context leaves behind nothing but the last bytes that it said, in a [`Context`].

pub mod compress;
pub mod context;
pub mod inflate;
pub mod negotiate;

use compress::Compressor;
use context::{Context, Contexts};
use inflate::{Inflated, Inflater};
use negotiate::{Agreement, ClientWindow};

use super::error::ProtocolError;
use super::header::{Opcode, encode_compressed_frame, encode_frame};
use super::receiver::Kind;

/// Settings of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How hard to try, from 1 (fast) to 9 (small).
    pub level: u8,
    /// Shorter messages are sent as they are.
    pub bytes_min: usize,
    /// How large a window clients may keep from one message to the next, as its logarithm, 9 to 15;
    /// `None`: they may not.
    pub client_window_bits: Option<u8>,
}

/// The windows of messages that several clients share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 32 KiB, for clients that accept all there is.
    Wide,
    /// 4 KiB, for those that asked for no more than 4 to 16 KiB.
    Narrow,
}

impl Class {
    /// Logarithm of the window.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Wide => 15,
            Self::Narrow => 12,
        }
    }

    /// The class for a client that accepts windows of `bits`; `None`: its window is too small for
    /// messages that others share.
    pub const fn of(bits: u8) -> Option<Self> {
        match bits {
            15.. => Some(Self::Wide),
            12..=14 => Some(Self::Narrow),
            _ => None,
        }
    }
}

/// What one connection remembers of its agreement.
#[derive(Debug)]
pub struct Peer {
    /// Logarithm of the largest window that may be used towards it.
    pub window_bits: u8,
    /// What it keeps from one message to the next; `None`: nothing, each message stands alone.
    pub context: Option<Context>,
}

/// Compresses messages for one client.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// What to compress with.
    pub codec: &'a mut Codec,
    /// Logarithm of the largest window that may be used.
    pub window_bits: u8,
}

impl Outbound<'_> {
    /// Appends a message as one frame, compressed if that is worth it.
    pub fn encode_frame(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        match self.codec.compress(payload, self.window_bits) {
            Some(compressed) => {
                encode_compressed_frame(out, opcode, compressed);
                self.codec.numbers.sent += 1;
            }
            None => encode_frame(out, opcode, payload),
        }
    }
}

/// What a [`Codec`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Compressed messages inflated.
    pub inflated: u64,
    /// Their bytes as they came.
    pub inflated_from: u64,
    /// Their bytes afterwards.
    pub inflated_to: u64,
    /// Messages compressed, each once, however many clients share it.
    pub compressed: u64,
    /// Their bytes before.
    pub compressed_from: u64,
    /// Their bytes afterwards.
    pub compressed_to: u64,
    /// Compressed messages queued for clients.
    pub sent: u64,
    /// Messages left as they were because they were short.
    pub skipped_short: u64,
    /// Messages left as they were because too little would have been gained.
    pub skipped_gain: u64,
}

/// What the connections of one thread compress and inflate with. Owns no memory until it is used.
#[derive(Debug)]
pub struct Codec {
    settings: Option<Settings>,
    inflater: Inflater,
    compressor: Compressor,
    contexts: Contexts,
    is_resting: bool,
    /// Bytes that may still be inflated before others have their turn.
    allowance: usize,
    numbers: Numbers,
}

impl Codec {
    /// A codec that lets at most `contexts_max` clients keep their context; without settings nothing
    /// is ever agreed.
    pub fn new(settings: Option<Settings>, contexts_max: usize) -> Self {
        Self {
            settings,
            inflater: Inflater::default(),
            compressor: Compressor::new(settings.map_or(1, |settings| settings.level)),
            contexts: Contexts::new(contexts_max),
            is_resting: false,
            allowance: usize::MAX,
            numbers: Numbers::default(),
        }
    }

    /// From now on nothing is compressed and nothing agreed, until [`Self::resume`]; what compressed is
    /// freed. Clients that may compress go on.
    pub fn rest(&mut self) {
        self.is_resting = true;
        self.compressor.free();
    }

    /// Compresses and agrees again.
    pub fn resume(&mut self) {
        self.is_resting = false;
    }

    /// From now on messages may be inflated to `inflated_bytes_max` in all until [`Self::is_spent`].
    pub fn begin_turn(&mut self, inflated_bytes_max: usize) {
        self.allowance = inflated_bytes_max;
    }

    /// Whether compressed messages are to wait for the next turn.
    pub const fn is_spent(&self) -> bool {
        self.allowance == 0
    }

    /// The first acceptable one of the offers in `values`, those of all `Sec-WebSocket-Extensions`,
    /// and what its connection has to remember. The offers must be well-formed.
    pub fn negotiate<'h>(
        &self,
        values: impl Iterator<Item = &'h [u8]>,
    ) -> Option<(Agreement, Box<Peer>)> {
        let settings = self.settings.filter(|_| !self.is_resting)?;
        let client = match settings.client_window_bits {
            Some(bits) if self.contexts.has_room() => ClientWindow::Kept(bits),
            _ => ClientWindow::Dropped,
        };
        let agreement = negotiate::negotiate(values, client)?;
        let context = agreement.client_context_bits().map(|bits| self.contexts.reserve(bits));
        let peer = Peer { window_bits: agreement.server_window_bits(), context };
        Some((agreement, Box::new(peer)))
    }

    /// The message that `payload` is the compressed form of. Give it back with [`Self::recycle`].
    ///
    /// Writes no more than one byte beyond `message_bytes_max`.
    ///
    /// Errors: `MessageTooBig`, `BadDeflate`, `InvalidUtf8`.
    /// Source: RFC 7692 §7.2.2.
    pub fn inflate(
        &mut self,
        kind: Kind,
        payload: &[u8],
        peer: Option<&mut Peer>,
        message_bytes_max: usize,
    ) -> Result<Inflated, ProtocolError> {
        let context = peer.and_then(|peer| peer.context.as_mut());
        let before = context.as_ref().map_or(&[][..], |context| context.bytes());
        let inflated = self.inflater.inflate(kind, payload, before, message_bytes_max);
        // What fails may have been inflated to the limit, too.
        let cost = inflated.as_ref().map_or(message_bytes_max, |inflated| inflated.bytes().len());
        self.allowance = self.allowance.saturating_sub(cost);
        let inflated = inflated?;
        if let Some(context) = context {
            context.push(inflated.bytes());
        }
        self.numbers.inflated += 1;
        self.numbers.inflated_from += to_u64(payload.len());
        self.numbers.inflated_to += to_u64(inflated.bytes().len());
        Ok(inflated)
    }

    /// Takes back the memory of a message.
    pub fn recycle(&mut self, inflated: Inflated) {
        self.inflater.recycle(inflated);
    }

    /// The compressed form of `payload` for a window of `window_bits`; `None`: it is to be sent as it
    /// is.
    ///
    /// Source: RFC 7692 §7.2.1.
    pub fn compress(&mut self, payload: &[u8], window_bits: u8) -> Option<&[u8]> {
        let settings = self.settings.filter(|_| !self.is_resting)?;
        if payload.len() < settings.bytes_min {
            self.numbers.skipped_short += 1;
            return None;
        }
        let Some(compressed) = self.compressor.compress(payload, window_bits) else {
            self.numbers.skipped_gain += 1;
            return None;
        };
        self.numbers.compressed += 1;
        self.numbers.compressed_from += to_u64(payload.len());
        self.numbers.compressed_to += to_u64(compressed.len());
        Some(compressed)
    }

    /// Counts a compressed message that goes to `clients` clients.
    pub fn note_shared(&mut self, clients: usize) {
        self.numbers.sent += to_u64(clients);
    }

    /// Bytes on the heap: what all connections share, and their contexts.
    pub fn heap_bytes(&self) -> usize {
        self.inflater.heap_bytes() + self.compressor.heap_bytes() + self.contexts.heap_bytes()
    }

    /// Whether anything can be agreed on.
    pub const fn is_enabled(&self) -> bool {
        self.settings.is_some()
    }

    /// Clients that may keep their context.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// What was done so far.
    pub const fn numbers(&self) -> &Numbers {
        &self.numbers
    }
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_is_small_and_nothing_else_is_owned_before_it_is_used() {
        assert!(size_of::<Peer>() <= 48);
        let settings = Settings { level: 3, bytes_min: 10, client_window_bits: Some(15) };
        let mut codec = Codec::new(Some(settings), 1);
        let offer = || [&b"permessage-deflate"[..]].into_iter();
        let (_, mut peer) = codec.negotiate(offer()).unwrap();
        assert_eq!((codec.heap_bytes(), codec.contexts()), (0, 1));
        let (agreement, second) = codec.negotiate(offer()).unwrap();
        assert!(second.context.is_none(), "there is room for one");
        assert!(agreement.to_string().contains("client_no_context_takeover"));
        // RFC 7692 section 7.2.3.2: the second message refers to the first.
        for payload in [&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], b"\xf2\x00\x11\x00\x00"] {
            let inflated = codec.inflate(Kind::Text, payload, Some(&mut peer), 100).unwrap();
            assert_eq!(inflated.bytes(), b"Hello");
            codec.recycle(inflated);
        }
        assert_eq!(codec.numbers().inflated_to, 10);
        drop(peer);
        assert_eq!(codec.contexts(), 0);
    }

    #[test]
    fn at_rest_it_frees_what_it_can_and_still_hears_those_with_whom_it_has_agreed() {
        let settings = Settings { level: 3, bytes_min: 10, client_window_bits: None };
        let mut codec = Codec::new(Some(settings), 1);
        let offer = || [&b"permessage-deflate"[..]].into_iter();
        let (_, mut peer) = codec.negotiate(offer()).unwrap();
        let text = [b'a'; 1000];
        let compressed = codec.compress(&text, 15).unwrap().to_vec();
        let busy = codec.heap_bytes();
        codec.rest();
        assert!(codec.heap_bytes() + 300_000 < busy, "{} of {busy}", codec.heap_bytes());
        assert!(codec.negotiate(offer()).is_none());
        assert_eq!(codec.compress(&text, 15), None);
        let inflated = codec.inflate(Kind::Text, &compressed, Some(&mut peer), 1000).unwrap();
        assert_eq!(inflated.bytes(), text);
        codec.recycle(inflated);
        codec.resume();
        assert!(codec.negotiate(offer()).is_some());
        assert_eq!(codec.compress(&text, 15), Some(&compressed[..]));
    }

    #[test]
    fn without_settings_nothing_is_agreed_and_nothing_compressed() {
        let mut codec = Codec::new(None, 10);
        assert!(codec.negotiate([&b"permessage-deflate"[..]].into_iter()).is_none());
        assert_eq!(codec.compress(&[0; 1000], 15), None);
        assert_eq!((codec.heap_bytes(), codec.is_enabled()), (0, false));
    }
}
