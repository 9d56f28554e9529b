//! The daemon as it is shipped, over loopback: hostile clients, every kind of end, wrong
//! configurations. One binary, so that all of it shares [`gateway`] and is linked once.
//!
//! `RINGWAY_TEST_DISABLE=all` runs it without the optional features of the kernel,
//! `RINGWAY_MUTATIONS=200000` sets how many broken inputs are tried, `RINGWAY_SEED` which ones.

mod admission_limits;
mod admission_memory;
mod admission_proxies;
mod broker_redis;
mod close_stories;
mod closes;
mod commands;
mod config_errors;
mod control_group;
mod cost;
mod counting;
#[path = "../peer/deflate.rs"]
mod deflate;
mod gateway;
mod hostile_application;
mod hostile_deflate;
mod hostile_endings;
mod hostile_frames;
mod hostile_http;
mod hostile_operator;
mod logs;
mod mutations;
mod reload;
mod service_manager;
mod slow_clients;
mod tls;
mod tls_handshakes;
mod tls_hostile;
mod tls_reload;
