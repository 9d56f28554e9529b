//! Who may come in, how many and how fast: addresses, origins and rates. No I/O.

pub mod crowd;
pub mod forwarded;
pub mod network;
pub mod origin;
pub mod pace;
pub mod proxy;
pub mod rate;
