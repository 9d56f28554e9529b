//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compare::Compare;
use crate::plot::Plot;
use crate::sequence::STAMP_BYTES;
use crate::target::{Scheme, Target};
use crate::tls::Trust;

/// Loads a WebSocket server and checks everything that comes back.
///
/// Exit code: 0 clean; 1 when anything was missing, duplicated, out of order, wrong, refused or
/// lost, or the run could not start; 2 for a wrong command line; 130 when interrupted and clean.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// One load, or what is made of several.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Load(Mode),
    Compare(Compare),
    Plot(Plot),
}

/// One run against one server.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What to do.
    pub(crate) mode: Mode,
    /// Settings of every mode.
    pub(crate) common: Common,
}

/// Settings of every mode.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The server: ADDRESS:PORT, ws://HOST:PORT or wss://HOST:PORT.
    #[arg(long, visible_alias = "url", global = true, default_value = "127.0.0.1:8000")]
    pub(crate) addr: Target,
    /// With wss://, trust the certificates in this PEM file, and what authorities among them signed.
    #[arg(long, global = true, conflicts_with = "tls_insecure")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// With wss://, trust every certificate.
    #[arg(long, global = true)]
    pub(crate) tls_insecure: bool,
    /// Allow an address that is not loopback. Load only what is yours.
    #[arg(long, global = true)]
    pub(crate) i_own_this_target: bool,
    /// The client protocol.
    #[arg(long, global = true, value_enum, default_value = "raw")]
    pub(crate) protocol: Protocol,
    /// Request path; `{topic}` is filled in. [default: /echo, /topic/{topic} or
    /// /connection/websocket]
    #[arg(long, global = true)]
    pub(crate) path: Option<String>,
    /// Request path of publishers, for servers where these connect elsewhere than subscribers and
    /// hear nothing; `{topic}` is filled in. [default: that of subscribers, which they are, too]
    #[arg(long, global = true)]
    pub(crate) publish_path: Option<String>,
    /// Topics are named TOPIC-0, TOPIC-1 and so on.
    #[arg(long, global = true, default_value = "load")]
    pub(crate) topic: String,
    /// Worker threads.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: u16,
    /// Connections that one thread sets up at the same time.
    #[arg(long, global = true, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) burst: u16,
    /// Measured time, in seconds.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) secs: u32,
    /// Load before the measurement, in seconds.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub(crate) warmup_secs: u32,
    /// Stop after this many messages (churn: cycles); there is no warm-up then.
    #[arg(long, global = true)]
    pub(crate) count: Option<u64>,
    /// Report processor time and memory of this process and its children.
    #[arg(long, global = true)]
    pub(crate) server_pid: Option<u32>,
    /// Write the result as JSON to this file as well.
    #[arg(long, global = true)]
    pub(crate) json: Option<PathBuf>,
    /// Show no progress.
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
}

/// How clients talk to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// The path names the topic, a message is a payload.
    Raw,
    /// Centrifugo v2 JSON: connect, subscribe, publish.
    Centrifuge,
}

/// What to do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Mode {
    /// Messages that come back on the connection that sent them.
    ///
    /// With `--protocol centrifuge` every connection publishes to a topic of its own.
    Echo {
        /// How many connections.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        connections: u32,
        /// Messages under way on each, at most.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        depth: u32,
        /// Messages per second over all connections, due at fixed times; else each follows an answer.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        rate: Option<u64>,
        /// Payload bytes.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=16_777_216))]
        size: u32,
    },
    /// Publications that reach every subscriber of a topic.
    ///
    /// Publishers are subscribers too, and checked like them.
    Fanout {
        /// Subscribers over all topics.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        subscribers: u32,
        /// How many topics.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        topics: u32,
        /// How many publishers; publisher i publishes to topic i modulo topics.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        publishers: u16,
        /// Publications per second over all publishers, due at fixed times.
        #[arg(long, conflicts_with = "window", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        rate: Option<u64>,
        /// Without a rate: publications under way per topic.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        window: u32,
        /// Publications per second to one more topic, which all connections join as well; with
        /// `--rate` and `--protocol centrifuge`.
        #[arg(long, requires = "rate", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        rate_to_all: Option<u64>,
        /// Payload bytes.
        #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=16_777_216))]
        size: u32,
    },
    /// Connections that are opened and kept for the measured time.
    ///
    /// With `--expect-close` the server is to close each of them within that time.
    Idle {
        /// How many connections.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        connections: u32,
        /// The server closes them with this code; anything else is a fault.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1000..5000))]
        expect_close: Option<u16>,
    },
    /// Connections that join topics and never read again; the server is to end them all within the
    /// measured time.
    Stalled {
        /// How many connections.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        connections: u32,
        /// How many topics there are.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        topics: u32,
        /// How many of them each connection joins; more than one with `--protocol centrifuge`.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        subscriptions: u32,
    },
    /// Connect, upgrade, one message and its echo, closing handshake; over and over.
    Churn {
        /// Cycles at the same time.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        connections: u32,
        /// Payload bytes.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=16_777_216))]
        size: u32,
    },
}

impl Mode {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo { .. } => "echo",
            Self::Fanout { .. } => "fanout",
            Self::Idle { .. } => "idle",
            Self::Stalled { .. } => "stalled",
            Self::Churn { .. } => "churn",
        }
    }

    /// What it counts.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Echo { .. } => "message",
            Self::Fanout { .. } => "delivery",
            Self::Idle { .. } | Self::Stalled { .. } => "connection",
            Self::Churn { .. } => "cycle",
        }
    }

    /// Connections that are open at the same time.
    pub(crate) fn connections(self) -> u32 {
        match self {
            Self::Echo { connections, .. }
            | Self::Idle { connections, .. }
            | Self::Stalled { connections, .. }
            | Self::Churn { connections, .. } => connections,
            Self::Fanout { subscribers, publishers, rate_to_all, .. } => {
                subscribers + u32::from(publishers) + u32::from(rate_to_all.is_some())
            }
        }
    }
}

impl Common {
    /// Why this run must not start, if so.
    pub(crate) fn objection(&self, mode: Mode, open_files_max: u64) -> Option<String> {
        if !self.addr.addr.ip().is_loopback() && !self.i_own_this_target {
            return Some(format!(
                "{} is not a loopback address; say --i-own-this-target if you may load it",
                self.addr.addr
            ));
        }
        if self.addr.scheme == Scheme::Wss && self.trust().is_none() {
            return Some(format!(
                "{}: say --tls-ca FILE whom to trust, or --tls-insecure to trust everybody",
                self.addr
            ));
        }
        let joins_several = match mode {
            Mode::Fanout { rate_to_all, .. } => rate_to_all.is_some(),
            Mode::Stalled { subscriptions, .. } => subscriptions > 1,
            Mode::Echo { .. } | Mode::Idle { .. } | Mode::Churn { .. } => false,
        };
        if joins_several && self.protocol == Protocol::Raw {
            return Some("a raw client has one topic: say --protocol centrifuge".to_owned());
        }
        if let Mode::Stalled { topics, subscriptions, .. } = mode
            && subscriptions > topics
        {
            return Some(format!("{subscriptions} subscriptions need as many topics"));
        }
        if self.publish_path.is_some() {
            let Mode::Fanout { subscribers, topics, .. } = mode else {
                return Some("--publish-path is for fanout".to_owned());
            };
            if self.protocol != Protocol::Raw || subscribers < topics {
                let needs = "--publish-path needs --protocol raw and a subscriber for each topic";
                return Some(needs.to_owned());
            }
        }
        // Each thread has a poll and a waker, and there are the standard streams and files of /proc.
        let files = u64::from(mode.connections()) + 2 * u64::from(self.threads) + 16;
        (files > open_files_max)
            .then(|| format!("needs {files} open files, the hard limit is {open_files_max}"))
    }

    /// Whose certificates are accepted; `None`: that was not said.
    pub(crate) fn trust(&self) -> Option<Trust> {
        let anybody = self.tls_insecure.then_some(Trust::Anybody);
        self.tls_ca.clone().map(Trust::Listed).or(anybody)
    }

    /// The request path of a publisher to `topic`.
    pub(crate) fn publisher_path(&self, mode: Mode, topic: &str) -> String {
        match &self.publish_path {
            Some(path) => path.replace("{topic}", topic),
            None => self.request_path(mode, topic),
        }
    }

    /// The request path of a connection to `topic`.
    pub(crate) fn request_path(&self, mode: Mode, topic: &str) -> String {
        let default = match (self.protocol, mode) {
            (Protocol::Centrifuge, _) => "/connection/websocket",
            (Protocol::Raw, Mode::Echo { .. } | Mode::Churn { .. }) => "/echo",
            (Protocol::Raw, Mode::Fanout { .. } | Mode::Idle { .. } | Mode::Stalled { .. }) => {
                "/topic/{topic}"
            }
        };
        self.path.as_deref().unwrap_or(default).replace("{topic}", topic)
    }

    /// Warm-up and measured time.
    pub(crate) fn durations(&self) -> (Duration, Duration) {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let warmup_secs = if self.count.is_some() { 0 } else { self.warmup_secs };
        (seconds(warmup_secs), seconds(self.secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        let CommandLine { command, common } = CommandLine::try_parse_from(line.split(' '))?;
        let Command::Load(mode) = command else { panic!("{line} is no load") };
        Ok(Options { mode, common })
    }

    #[test]
    fn tls_wants_to_be_told_whom_to_trust() {
        let objection = |line: &str| {
            let options = parse(line).unwrap();
            options.common.objection(options.mode, 10_000)
        };
        assert!(objection("x idle --url wss://127.0.0.1:1").unwrap().contains("--tls-ca"));
        assert_eq!(objection("x idle --url wss://127.0.0.1:1 --tls-insecure"), None);
        assert_eq!(objection("x idle --url wss://127.0.0.1:1 --tls-ca ca.pem"), None);
        assert!(parse("x idle --tls-ca ca.pem --tls-insecure").is_err());
    }

    #[test]
    fn other_machines_are_refused_without_a_word_of_ownership() {
        let refused = parse("x idle --addr 192.0.2.1:80").unwrap();
        assert!(
            refused.common.objection(refused.mode, 10_000).unwrap().contains("own-this-target")
        );
        let owned = parse("x idle --addr 192.0.2.1:80 --i-own-this-target").unwrap();
        assert_eq!(owned.common.objection(owned.mode, 10_000), None);
        let local = parse("x idle --addr [::1]:80").unwrap();
        assert_eq!(local.common.objection(local.mode, 10_000), None);
    }

    #[test]
    fn more_connections_than_open_files_are_refused() {
        let options = parse("x idle --connections 5000").unwrap();
        assert!(options.common.objection(options.mode, 5000).is_some());
        assert_eq!(options.common.objection(options.mode, 6000), None);
    }

    #[test]
    fn several_topics_are_for_those_who_can_join_them() {
        let objection = |line: &str| {
            let options = parse(line).unwrap();
            options.common.objection(options.mode, 10_000)
        };
        assert!(objection("x fanout --rate 5 --rate-to-all 2").is_some());
        assert_eq!(objection("x fanout --rate 5 --rate-to-all 2 --protocol centrifuge"), None);
        let stalled = "x stalled --protocol centrifuge --subscriptions 9 --topics";
        assert!(objection("x stalled --topics 9 --subscriptions 2").is_some());
        assert!(objection(&format!("{stalled} 8")).is_some());
        assert_eq!(objection(&format!("{stalled} 9")), None);
        assert!(parse("x fanout --rate-to-all 2").is_err());
    }

    #[test]
    fn paths_follow_protocol_and_mode() {
        let path = |line: &str| {
            let options = parse(line).unwrap();
            options.common.request_path(options.mode, "t-1")
        };
        assert_eq!(path("x echo"), "/echo");
        assert_eq!(path("x fanout"), "/topic/t-1");
        assert_eq!(path("x fanout --protocol centrifuge"), "/connection/websocket");
        assert_eq!(path("x idle --path /ws?c={topic}"), "/ws?c=t-1");
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        for line in [
            "x echo --size 7",
            "x echo --depth 0",
            "x fanout --size 31",
            "x fanout --rate 5 --window 2",
            "x idle --threads 0",
            "x idle --secs 3601",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
