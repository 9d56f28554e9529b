//! WebSocket (RFC 6455, RFC 7692): slices in, values out.
//!
//! [`handshake`] turns a request into an upgrade, [`receiver`] turns received bytes into messages,
//! [`header`] and [`close`] write frames, [`deflate`] compresses and inflates messages.

pub mod close;
pub mod deflate;
pub mod error;
pub mod handshake;
pub mod header;
pub mod mask;
pub mod offers;
pub mod receiver;
#[cfg(any(test, feature = "oracles"))]
pub mod reference;
pub mod utf8;
