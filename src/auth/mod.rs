//! Who may come in and how fast: origins and rates. No I/O.

pub mod origin;
pub mod rate;
