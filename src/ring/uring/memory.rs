//! Memory that the kernel writes to: page-aligned, zeroed, at one address for its whole life.

#![expect(unsafe_code, reason = "the allocator's interface for aligned memory")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const PAGE_BYTES: usize = 4096;

/// One allocation; initialised, since it starts zeroed and only whole bytes are written to it.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// `bytes` (more than 0) of zeros at an address that is a multiple of the page size.
    pub(super) fn zeroed(bytes: usize) -> Self {
        assert!(bytes > 0);
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("less than isize::MAX");
        // SAFETY: `alloc_zeroed` wants a size above zero: asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }

    /// Its first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `dealloc` wants memory of this allocator with the layout it was made with, once:
        // `start` and `layout` come from `zeroed`, nobody changes them, and drop runs once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
