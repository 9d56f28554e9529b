//! Accepting: by one operation for all connections where the listener is the ring's alone, else by one for
//! each.

use std::os::fd::AsRawFd;
use std::sync::Once;

use io_uring::opcode;
use io_uring::types::Fd;

use super::user_data::{Kind, UserData};
use super::{Feature, Features, Settings, Uring};
use crate::ring::Completion;
use crate::ring::listen::Takers;

impl Uring {
    /// Arms accepting without looking at who asks.
    pub(super) fn arm_accept(&mut self, listener: usize) {
        let fd = Fd(self.listeners[listener].socket.as_raw_fd());
        let accept = if self.accepts_many(listener) {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        };
        self.start(accept, UserData::of_index(Kind::Accept, listener));
    }

    /// Arms accepting again where one operation accepts one connection, unless it was cancelled since.
    ///
    /// Not sooner: an accept that is queued in front of its cancel takes a connection that waits.
    pub(super) fn accept_again(&mut self, completions: &mut Vec<Completion>) {
        let mut ended = std::mem::take(&mut self.accept_next);
        for listener in ended.drain(..) {
            if self.accepting[listener] {
                self.arm_accept(listener);
            } else {
                completions.push(Completion::AcceptEnded { listener, errno: None });
            }
        }
        self.accept_next = ended;
    }

    /// Whether one operation accepts all connections of a listener.
    ///
    /// The kernel wakes the operation that has waited longest. One that stays armed has always waited
    /// longest, and would leave nothing to the other rings of the same socket.
    pub(super) fn accepts_many(&self, listener: usize) -> bool {
        let takers = self.listeners[listener].takers;
        takers == Takers::One && self.features.has(Feature::MultishotAccept)
    }
}

/// Warns once of a kernel that has failed the trial of multishot accept.
pub(super) fn warn_of_single_accepts(settings: &Settings, features: Features) {
    static ONCE: Once = Once::new();
    let accept = Feature::MultishotAccept;
    if !features.has(accept) && !settings.disable.contains(&accept) {
        ONCE.call_once(|| {
            tracing::warn!(
                "accepting many connections by one operation failed its trial on this kernel: \
                 each is accepted by one of its own"
            );
        });
    }
}
