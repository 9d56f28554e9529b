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
    /// See whether this machine is fit for a configuration, and what to do where it is not; exit status 1: it
    /// is not.
    Doctor(Source),
    /// Ask the gateway that runs with this configuration whether it takes clients; exit status 1: it does not.
    Health(Health),
    /// Have the gateway drain and end, as SIGTERM does.
    Drain(Drain),
    /// Have the gateway read its configuration again, as SIGHUP does, and show what that changes.
    Reload(Target),
    /// Look at configurations.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Write the manual pages of all commands into a folder.
    Man {
        /// The folder; made when it is missing.
        folder: PathBuf,
    },
    /// Print completions of the command line for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show what a configuration would change, for whom and when. Nothing is changed.
    Diff(Diff),
}

/// Which configurations to compare.
#[derive(Args, Clone, Debug)]
pub struct Diff {
    /// The new configuration, by whose operator address and API key the gateway is found.
    #[command(flatten)]
    pub source: Source,
    /// Compare with this configuration file instead of the gateway that runs.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

/// How to ask whether a gateway is well.
#[derive(Args, Clone, Debug)]
pub struct Health {
    /// Which gateway.
    #[command(flatten)]
    pub source: Source,
    /// Ask only whether all of its threads turn: also well is then who drains.
    #[arg(long)]
    pub live: bool,
    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub timeout: u16,
}

/// How to drain.
#[derive(Args, Clone, Debug)]
pub struct Drain {
    /// Which gateway.
    #[command(flatten)]
    pub target: Target,
    /// Return when it has ended.
    #[arg(long, conflicts_with = "pid")]
    pub wait: bool,
}

/// A gateway that runs: found by the operator address and API key of its configuration, or by its
/// process.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Its configuration.
    #[command(flatten)]
    pub source: Source,
    /// Send its process a signal instead of asking at its operator port; needs no API key.
    #[arg(long, value_name = "PID", conflicts_with_all = ["config", "overrides"])]
    pub pid: Option<i32>,
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
