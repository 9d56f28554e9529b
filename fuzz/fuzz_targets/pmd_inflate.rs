//! First three bytes: the limit, the window of the context, bytes of the first of two messages. Rest:
//! what a client sends.
//!
//! Nothing is inflated beyond the limit, and what another DEFLATE makes of a message is what ours makes
//! of it. What is compressed here is inflated to what it was.

#![no_main]

use flate2::{Decompress, FlushDecompress, Status};
use libfuzzer_sys::fuzz_target;
use ringway::ws::deflate::{Codec, Peer, Settings};
use ringway::ws::receiver::Kind;

/// Most bytes that the other one may make of a message.
const REFERENCE_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let [limit, bits, first_len, stream @ ..] = data else { return };
    let bytes_max = usize::from(*limit) * 64;
    let settings =
        Settings { level: bits % 9 + 1, bytes_min: 0, client_window_bits: Some(bits % 7 + 9) };
    let mut codec = Codec::new(Some(settings), 1);
    let offer: &[u8] = b"permessage-deflate; client_max_window_bits";
    let (_, mut peer) = codec.negotiate(std::iter::once(offer)).expect("a good offer");
    let (first, second) = stream.split_at(usize::from(*first_len).min(stream.len()));

    let Some(said) = inflate(&mut codec, first, Some(&mut peer), bytes_max) else { return };
    assert_eq!(reference(first, bytes_max), Some(said.clone()));
    // The second may refer to the first.
    inflate(&mut codec, second, Some(&mut peer), bytes_max);
    let alone = inflate(&mut codec, second, None, bytes_max);
    if let Some(alone) = alone {
        assert_eq!(reference(second, bytes_max), Some(alone));
    }
    for window_bits in [15, 12, 9] {
        let Some(compressed) = codec.compress(&said, window_bits).map(<[u8]>::to_vec) else {
            continue;
        };
        assert!(compressed.len() < said.len());
        assert_eq!(inflate(&mut codec, &compressed, None, said.len()), Some(said.clone()));
        assert_eq!(inflate(&mut codec, &compressed, None, said.len() - 1), None);
    }
});

fn inflate(
    codec: &mut Codec,
    payload: &[u8],
    peer: Option<&mut Peer>,
    bytes_max: usize,
) -> Option<Vec<u8>> {
    let inflated = codec.inflate(Kind::Binary, payload, peer, bytes_max).ok()?;
    let bytes = inflated.bytes().to_vec();
    assert!(bytes.len() <= bytes_max);
    codec.recycle(inflated);
    assert!(codec.heap_bytes() < 1 << 20);
    Some(bytes)
}

/// What another DEFLATE makes of a message; messages with final blocks it is not asked about.
fn reference(payload: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    // What ours reads behind a payload, too: a block that is open there eats of it.
    let input = [payload, &[0, 0, 0xFF, 0xFF, 3, 0]].concat();
    let mut engine = Decompress::new(false);
    let mut out = Vec::with_capacity(bytes_max + REFERENCE_MAX);
    loop {
        let before = (engine.total_in(), engine.total_out());
        let used = usize::try_from(before.0).expect("it is short");
        let status = engine.decompress_vec(&input[used..], &mut out, FlushDecompress::Sync);
        match status {
            Ok(Status::StreamEnd) if engine.total_in() == input.len() as u64 => return Some(out),
            Ok(Status::StreamEnd) => return ours(payload, bytes_max),
            Err(_) if payload.is_empty() => return Some(out),
            Err(_) => return None,
            Ok(_) if before == (engine.total_in(), engine.total_out()) => return Some(out),
            Ok(_) => {}
        }
    }
}

/// What a fresh codec of ours makes of it.
fn ours(payload: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut codec = Codec::new(None, 0);
    inflate(&mut codec, payload, None, bytes_max)
}
