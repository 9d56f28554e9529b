//! Links to engines: other servers that number publications, keep them, and share them between
//! gateways.
//!
//! Each link runs on a thread of its own and is one more node of the lanes. Homes ask it
//! ([`crate::topic::splice::Errand`], publications, history) and it tells them what the engine has
//! ([`crate::topic::splice::News`]); to publishers and readers it answers directly. A link holds no
//! subscriber and decides no order: it says what it knows, and that it may have missed something
//! whenever it may.

pub mod body;
mod canary;
mod inbox;
pub mod keys;
pub mod lanes;
pub mod redis;
