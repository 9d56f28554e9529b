//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A WebSocket gateway: many connections, multiplexed onto pub/sub topics.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, args_conflicts_with_subcommands = true)]
pub struct Command {
    /// What to do; `run` when left out.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Which configuration.
    #[command(flatten)]
    pub source: Source,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve clients (the default).
    Run(Source),
    /// Check a configuration and say everything that is wrong with it.
    Check(Source),
}

/// Which configuration.
#[derive(Args, Clone, Debug)]
pub struct Source {
    /// The configuration file; without it all settings have their defaults.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one setting, as in `--set outbox.bytes_max="2 MiB"`; may come several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}
