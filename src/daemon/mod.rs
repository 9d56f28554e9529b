//! The process: command line, configuration, threads, signals, logs, exit codes.

mod certificates;
pub mod cli;
mod control;
pub mod exit;
mod limits;
mod logs;
mod memory;
mod operators;
pub mod settings;
mod source;
mod start;
mod threads;

pub use control::run;
