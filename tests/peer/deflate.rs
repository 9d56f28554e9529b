//! Compressed messages (RFC 7692) as a client makes and reads them, with another DEFLATE than the
//! daemon's.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes of the largest message that tests expect.
const LARGEST: usize = 1 << 24;

/// Compresses messages with a context that is kept.
#[derive(Debug)]
pub(crate) struct Sender(Compress);

impl Sender {
    pub(crate) fn new() -> Self {
        Self(Compress::new(Compression::best(), false))
    }

    /// The compressed form of the next message.
    pub(crate) fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 1024);
        let done = self.0.compress_vec(message, &mut out, FlushCompress::Sync);
        assert!(done.is_ok() && out.len() < out.capacity(), "room for all of it");
        assert!(out.ends_with(&[0, 0, 0xFF, 0xFF]), "a flush ends like this");
        out.truncate(out.len() - 4);
        out
    }
}

/// The compressed form of a message that stands alone.
pub(crate) fn compress(message: &[u8]) -> Vec<u8> {
    Sender::new().compress(message)
}

/// The message that a compressed one stands for, without a context.
///
/// # Panics
/// If it is none.
pub(crate) fn inflate(payload: &[u8]) -> Vec<u8> {
    let input = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    let mut out = Vec::with_capacity(64 + payload.len() * 8);
    let mut engine = Decompress::new(false);
    loop {
        let before = (engine.total_in(), engine.total_out());
        let used = usize::try_from(before.0).expect("it is short");
        let status = engine.decompress_vec(&input[used..], &mut out, FlushDecompress::Sync);
        let status = status.expect("what the server sends can be inflated");
        assert_ne!(status, Status::StreamEnd, "a final block");
        if out.len() == out.capacity() {
            assert!(out.len() < LARGEST, "it never ends");
            out.reserve(out.len());
        } else if before == (engine.total_in(), engine.total_out()) {
            assert_eq!(used, input.len(), "all of it was read");
            return out;
        }
    }
}
