//! What only some connections have, so that the others pay one pointer for it.

use crate::conn::guest::Guest;
use crate::conn::tls::session::Tls;

/// Who a connection comes from, and its TLS.
#[derive(Debug, Default)]
pub(super) struct Extras(Option<Box<Parts>>);

#[derive(Debug)]
struct Parts {
    guest: Option<Guest>,
    tls: Option<Box<Tls>>,
    held: bool,
}

impl Extras {
    pub(super) fn new(guest: Option<Guest>, tls: Option<Box<Tls>>) -> Self {
        let is_needed = guest.is_some() || tls.is_some();
        Self(is_needed.then(|| Box::new(Parts { guest, tls, held: false })))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let Some(parts) = &self.0 else { return 0 };
        size_of::<Parts>() + parts.tls.as_deref().map_or(0, Tls::heap_bytes)
    }

    /// Who it comes from, where somebody has to know.
    pub(super) fn guest_mut(&mut self) -> Option<&mut Guest> {
        self.0.as_mut()?.guest.as_mut()
    }

    /// Its TLS, if it has any.
    pub(super) fn tls(&self) -> Option<&Tls> {
        self.0.as_ref()?.tls.as_deref()
    }

    /// Its TLS, if it has any.
    pub(super) fn tls_mut(&mut self) -> Option<&mut Tls> {
        self.0.as_mut()?.tls.as_deref_mut()
    }

    /// Forgets who it comes from: the place of that address is free.
    pub(super) fn drop_guest(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.guest = None;
        }
    }

    /// Takes its TLS away.
    pub(super) fn take_tls(&mut self) -> Option<Box<Tls>> {
        self.0.as_mut()?.tls.take()
    }

    /// Whether its handshake stands in the list of those that wait for a later turn.
    pub(super) fn is_held(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.held)
    }

    /// Its handshake stands in that list, or no longer. Returns what was so before.
    pub(super) fn set_held(&mut self, held: bool) -> bool {
        self.0.as_mut().is_some_and(|parts| std::mem::replace(&mut parts.held, held))
    }
}
