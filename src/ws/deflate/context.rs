//! What a client says, kept from one message to the next.
//!
//! Between two messages an inflater stands at the border of a byte and of a block: all that the next
//! message can refer to are the last bytes of those before it.

use std::cell::Cell;
use std::rc::Rc;

/// The contexts of one thread: how many, and what they weigh.
#[derive(Debug)]
pub(super) struct Contexts {
    books: Rc<Books>,
    max: usize,
}

#[derive(Debug, Default)]
struct Books {
    count: Cell<usize>,
    bytes: Cell<usize>,
}

/// The last bytes of one client's messages; what is reserved goes back when it is dropped.
#[derive(Debug)]
pub struct Context {
    bytes: Vec<u8>,
    window_bits: u8,
    books: Rc<Books>,
}

impl Contexts {
    pub(super) fn new(max: usize) -> Self {
        Self { books: Rc::default(), max }
    }

    pub(super) fn len(&self) -> usize {
        self.books.count.get()
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < self.max
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.books.bytes.get()
    }

    /// A context that remembers a window of `window_bits`; there must be room.
    pub(super) fn reserve(&self, window_bits: u8) -> Context {
        debug_assert!(self.has_room(), "more contexts than allowed");
        self.books.count.set(self.len() + 1);
        Context { bytes: Vec::new(), window_bits, books: Rc::clone(&self.books) }
    }
}

impl Context {
    /// What the next message may refer to.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a message, and forgets what lies beyond the window.
    pub(super) fn push(&mut self, message: &[u8]) {
        let window = 1 << self.window_bits;
        let message = &message[message.len().saturating_sub(window)..];
        let kept = self.bytes.len().min(window - message.len());
        self.bytes.drain(..self.bytes.len() - kept);
        let before = self.bytes.capacity();
        let needed = kept + message.len();
        if needed > before {
            self.bytes.reserve_exact((before * 2).clamp(needed, window) - kept);
        }
        self.bytes.extend_from_slice(message);
        let grown = self.bytes.capacity() - before;
        self.books.bytes.set(self.books.bytes.get() + grown);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.books.count.set(self.books.count.get() - 1);
        self.books.bytes.set(self.books.bytes.get() - self.bytes.capacity());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let contexts = Contexts::new(2);
        let first = contexts.reserve(15);
        let mut second = contexts.reserve(9);
        assert!(!contexts.has_room());
        assert_eq!(contexts.heap_bytes(), 0, "nothing was said yet");
        second.push(&[7; 100]);
        assert_eq!(contexts.heap_bytes(), 100);
        drop(first);
        assert!(contexts.has_room());
        drop(second);
        assert_eq!((contexts.len(), contexts.heap_bytes()), (0, 0));
    }

    proptest! {
        #[test]
        fn the_last_bytes_of_the_window_are_kept_and_no_more(
            lens in prop::collection::vec(0_usize..1500, 0..12)
        ) {
            let contexts = Contexts::new(1);
            let mut context = contexts.reserve(9);
            let mut all: Vec<u8> = Vec::new();
            for (n, len) in (0_u8..).zip(lens) {
                let message = vec![n; len];
                context.push(&message);
                all.extend(message);
                prop_assert_eq!(context.bytes(), &all[all.len().saturating_sub(512)..]);
                prop_assert!(context.bytes.capacity() <= 512);
                prop_assert_eq!(contexts.heap_bytes(), context.bytes.capacity());
            }
        }
    }
}
