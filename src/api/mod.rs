//! For operators: the server API, health, numbers, and a page that shows them, over HTTP.
//!
//! All of it runs on the control thread. [`hub`] is that thread's end of the lanes to the shards,
//! [`state`] is what the handlers share, and [`server`] answers connections.
//!
//! Orders to the gateway as a whole are in [`orders`].
//!
//! The server API takes and gives Centrifugo's shapes. What differs from Centrifugo:
//! - A request that is refused as a whole has an HTTP status that says so; errors of a topic come
//!   with 200, as Centrifugo's clients expect.
//! - `delta` is taken and has no effect: no client is given deltas. `version`, `version_epoch`,
//!   `session` and `whitelist` are refused with error 108, since ignoring them would break what
//!   they promise.
//! - `disconnect` names a client; a user is refused with error 108, since clients are anonymous.
//! - `skip_history` is refused with error 108 on topics with positions, whose subscribers count on them.

mod access;
mod calls;
pub mod closes;
mod command;
mod failure;
mod glob;
pub mod hub;
pub mod method;
#[cfg(any(test, feature = "oracles"))]
pub mod oracle;
pub mod orders;
mod page;
mod publish;
pub mod pulse;
mod reply;
mod routes;
pub mod server;
pub mod state;
mod window;

#[cfg(test)]
mod tests;
