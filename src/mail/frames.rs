//! How many bytes of encoded frames are alive: added by the shard that makes a frame, subtracted by
//! whoever drops the last handle of it, on whichever thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::topic::interests::FORMS_MAX;

/// What a frame takes beside its bytes: two allocations with their counts, and a share of what
/// travels between the threads.
const FRAME_OVERHEAD: usize = 128;

/// The ledger of the frames that one shard makes; on a cache line of its own.
#[derive(Clone, Debug, Default)]
pub struct Frames(Arc<Ledger>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Ledger(AtomicUsize);

/// A frame that leaves the ledger with its last handle.
struct Counted {
    bytes: Bytes,
    frames: Frames,
}

impl Frames {
    /// Bytes of the frames that are alive.
    pub fn bytes(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Enters the forms of one publication. Forms that are one frame stay one.
    pub fn enter(&self, forms: &mut [Option<Bytes>; FORMS_MAX]) {
        for at in 0..forms.len() {
            let (before, rest) = forms.split_at_mut(at);
            let Some(frame) = &mut rest[0] else { continue };
            let range = frame.as_ptr_range();
            let same = before.iter().flatten().find(|other| other.as_ptr_range() == range);
            *frame = match same {
                Some(same) => same.clone(),
                None => self.count(std::mem::take(frame)),
            };
        }
    }

    /// Enters one frame, or several in one piece.
    pub fn enter_one(&self, frame: Bytes) -> Bytes {
        self.count(frame)
    }

    fn count(&self, bytes: Bytes) -> Bytes {
        self.0.0.fetch_add(bytes.len() + FRAME_OVERHEAD, Ordering::Relaxed);
        Bytes::from_owner(Counted { bytes, frames: self.clone() })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.frames.0.0.fetch_sub(self.bytes.len() + FRAME_OVERHEAD, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_once_until_its_last_handle_goes_wherever_that_is() {
        let frames = Frames::default();
        let mut forms: [Option<Bytes>; FORMS_MAX] = Default::default();
        let shared = Bytes::from(vec![1; 1000]);
        forms[0] = Some(shared.clone());
        forms[1] = Some(Bytes::from(vec![2; 500]));
        forms[2] = Some(shared);
        frames.enter(&mut forms);
        assert_eq!(frames.bytes(), 1500 + 2 * FRAME_OVERHEAD);
        assert_eq!(forms[2].as_deref(), Some(&[1; 1000][..]));
        let part = forms[0].as_ref().map(|frame| frame.slice(10..20));
        drop(forms);
        assert_eq!(frames.bytes(), 1000 + FRAME_OVERHEAD);
        std::thread::spawn(move || drop(part)).join().unwrap();
        assert_eq!(frames.bytes(), 0);
    }
}
