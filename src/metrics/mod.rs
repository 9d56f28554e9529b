//! Numbers for operators: one list of names, counters that one thread writes, text for Prometheus.
//!
//! [`catalogue`] names every metric. Each shard owns a [`Writer`], the control thread owns a
//! [`ControlWriter`], and the [`Exporter`](export::Exporter) reads them all when somebody scrapes.
//! Writing is a load and a store of memory that no other thread writes; there is no
//! read-modify-write and no lock.
//!
//! This room knows no protocol and no cause: labels come in through [`Label`] and [`Vocabulary`].

pub mod catalogue;
mod cells;
pub mod close_code;
mod control;
pub mod export;
mod histogram;
pub mod http_status;
pub mod label;
pub mod ledger;
mod link;
pub mod open_metrics;
mod process;
mod shard;

pub use close_code::CloseCodeLabel;
pub use control::{ControlReader, ControlWriter, Reload, control};
pub use http_status::HttpStatusLabel;
pub use label::{Label, Vocabulary};
pub use link::{LinkReader, LinkWriter, link};
pub use process::{ProcessReader, ProcessWriter, process};
pub use shard::{Reader, Writer, shard};
