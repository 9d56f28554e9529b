//! Ringway: a WebSocket gateway daemon on io_uring, one thread per core.
//!
//! The rooms and the one direction of their imports are drawn in `ARCHITECTURE.md` and held by
//! `tests/architecture.rs`.

pub mod api;
pub mod auth;
pub mod broker;
pub mod config;
pub mod conn;
pub mod daemon;
pub mod dialect;
pub mod http1;
pub mod mail;
pub mod metrics;
pub mod ring;
pub mod shard;
pub mod topic;
pub mod ws;
