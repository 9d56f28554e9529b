//! What the modes do: one file each.

pub(crate) mod churn;
pub(crate) mod echo;
pub(crate) mod fanout;
pub(crate) mod idle;
mod numbered;
pub(crate) mod stalled;
