//! WebSocket (RFC 6455): slices in, values out.
//!
//! [`handshake`] turns a request into an upgrade, [`receiver`] turns received bytes into messages,
//! [`header`] and [`close`] write frames.

pub mod close;
pub mod error;
pub mod handshake;
pub mod header;
pub mod mask;
pub mod offers;
pub mod receiver;
#[cfg(any(test, fuzzing))]
pub mod reference;
pub mod utf8;
