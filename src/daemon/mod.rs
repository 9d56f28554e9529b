//! The process: command line, configuration, threads, signals, logs, exit codes.

mod caller;
mod certificates;
pub mod cli;
mod control;
mod credentials;
mod doctor;
pub mod exit;
mod handover;
mod limits;
mod links;
mod logs;
mod memory;
mod operators;
mod paper;
mod reload;
mod remote;
pub mod settings;
mod source;
mod start;
mod sysctl;
mod systemd;
mod threads;

pub use control::run;
