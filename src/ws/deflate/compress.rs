//! Messages become compressed messages, each without context.

use std::fmt;

use zlib_rs::{Deflate, DeflateFlush, Status};

use super::Class;

/// What a flush ends with and RFC 7692 leaves out.
const FLUSH_END: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// What compression must save to be worth inflating: one part of this many.
const GAIN_PARTS: usize = 20;

/// A buffer that has grown beyond this is given back.
const KEPT_BYTES: usize = 256 * 1024;

/// What a [`Deflate`] weighs without its window: hash heads, symbols, output and tables, rounded up.
const ENGINE_BYTES: usize = 256 * 1024;

/// Compresses one message after the other. The engines are made when they are first needed.
pub(super) struct Compressor {
    level: u8,
    wide: Option<Deflate>,
    narrow: Option<Deflate>,
    /// Initialised memory for the next message.
    buffer: Vec<u8>,
}

impl Compressor {
    pub(super) fn new(level: u8) -> Self {
        Self { level, wide: None, narrow: None, buffer: Vec::new() }
    }

    /// The compressed form of `payload`; `None` where it would save less than a twentieth, or where
    /// no window of ours is as small as `window_bits`.
    pub(super) fn compress(&mut self, payload: &[u8], window_bits: u8) -> Option<&[u8]> {
        if payload.is_empty() {
            return None;
        }
        let class = class_for(payload.len(), window_bits)?;
        // What cannot be compressed grows by an eighth at most, where every byte becomes nine bits.
        // Room for that is what lets the engine finish: zlib-rs 0.6.8 panics at a later message when
        // it is reset before all of its output was taken.
        let room = payload.len() + payload.len() / 8 + 128;
        if self.buffer.len() < room || self.buffer.len() > room.max(KEPT_BYTES) {
            self.buffer = vec![0; room];
        }
        let level = i32::from(self.level);
        let place = match class {
            Class::Wide => &mut self.wide,
            Class::Narrow => &mut self.narrow,
        };
        let engine = place.get_or_insert_with(|| Deflate::new(level, false, class.bits()));
        let done = engine.compress(payload, &mut self.buffer, DeflateFlush::SyncFlush);
        let (taken, len) = (engine.total_in(), engine.total_out());
        engine.reset();
        let len = usize::try_from(len).ok()?;
        if done != Ok(Status::Ok) || taken != payload.len() as u64 || len == self.buffer.len() {
            debug_assert!(false, "{done:?} after {taken} bytes, {len} written");
            *place = None;
            return None;
        }
        let compressed = self.buffer[..len].strip_suffix(&FLUSH_END)?;
        let is_worth_it = compressed.len() <= payload.len() - payload.len().div_ceil(GAIN_PARTS);
        is_worth_it.then_some(compressed)
    }

    /// Gives all memory back, until it is needed again.
    pub(super) fn free(&mut self) {
        *self = Self::new(self.level);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let engine = |engine: &Option<Deflate>, class: Class| {
            // Two windows and a chain of 16-bit positions.
            engine.as_ref().map_or(0, |_| ENGINE_BYTES + (4 << class.bits()))
        };
        engine(&self.wide, Class::Wide)
            + engine(&self.narrow, Class::Narrow)
            + self.buffer.capacity()
    }
}

/// Whose engine to use for a window of `window_bits`. A message no longer than the window cannot refer
/// beyond it, whatever the engine's own window is.
fn class_for(len: usize, window_bits: u8) -> Option<Class> {
    if len <= 1 << window_bits { Some(Class::Wide) } else { Class::of(window_bits) }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("level", &self.level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_the_rfc_is_compressed_as_it_shows() {
        let mut compressor = Compressor::new(6);
        // Alone, "Hello" gains nothing (RFC 7692 §7.2.3.1 has it in 7 bytes).
        assert_eq!(compressor.compress(b"Hello", 15), None);
        let text = b"Hello".repeat(10);
        let compressed = compressor.compress(&text, 15).map(<[u8]>::to_vec);
        // Header of a fixed block, "Hello" as in the RFC, one reference back, the end.
        assert_eq!(
            compressed.as_ref().map(|bytes| &bytes[..6]),
            Some(&b"\xf2\x48\xcd\xc9\xc9\xf7"[..])
        );
        assert_eq!(compressor.compress(&text, 15), compressed.as_deref(), "nothing is remembered");
    }

    #[test]
    fn what_gains_less_than_a_twentieth_is_left_alone() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..4000).map(|_| random.u8(..)).collect();
        let mut compressor = Compressor::new(6);
        assert_eq!(compressor.compress(&noise, 15), None);
        let mixed = |zeros: usize| [&noise[..], &vec![0; zeros]].concat();
        assert_eq!(compressor.compress(&mixed(200), 15), None);
        let worth = mixed(300);
        let len = compressor.compress(&worth, 15).map(<[u8]>::len);
        assert!(len.is_some_and(|len| len <= worth.len() - worth.len() / 20), "{len:?}");
    }

    #[test]
    fn noise_of_any_length_leaves_the_engine_as_good_as_new() {
        let mut random = fastrand::Rng::with_seed(1);
        for level in 1..=9 {
            let mut compressor = Compressor::new(level);
            let text = b"some text that is repeated; ".repeat(3000);
            let expected = compressor.compress(&text, 12).map(<[u8]>::to_vec);
            assert!(expected.is_some());
            for len in [1, 2, 300, 65_535, 65_536, 131_072, 300_000] {
                let noise: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
                assert_eq!(compressor.compress(&noise, 15), None);
                assert_eq!(compressor.compress(&noise, 12), None);
                // Nine bits each, where codes are fixed.
                let high: Vec<u8> = noise.iter().map(|byte| 144 | byte).collect();
                compressor.compress(&high, 15);
                assert_eq!(compressor.compress(&text, 12), expected.as_deref(), "level {level}");
            }
        }
    }

    #[test]
    fn one_engine_serves_every_window_that_the_message_fits() {
        let text = b"some text that is repeated; ".repeat(100);
        let mut compressor = Compressor::new(6);
        assert_eq!(compressor.heap_bytes(), 0, "nothing was compressed yet");
        let wide = compressor.compress(&text, 15).map(<[u8]>::to_vec);
        assert!(wide.is_some());
        assert_eq!(compressor.compress(&text, 12), wide.as_deref());
        assert!(compressor.narrow.is_none());
        assert_eq!(compressor.compress(&text, 9), None, "2800 bytes and a window of 512");
        assert_eq!(compressor.compress(&text[..504], 9).map(|bytes| bytes.len() < 60), Some(true));
        assert!(compressor.compress(&text.repeat(2), 12).is_some());
        assert!(compressor.narrow.is_some());
        assert!(compressor.heap_bytes() < 800 * 1024);
    }
}
