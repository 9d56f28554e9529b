//! One load of a comparison: a command line that every server gets.

use clap::Parser as _;

use crate::options::{Command, CommandLine, Common, Mode, Options};
use crate::target::Target;

use super::spec::ServerSpec;

/// What is compared when nothing else is asked for; within a limit of 20,000 open files.
pub(super) const STANDARD: [&str; 11] = [
    "echo 16 B, depth 1: echo --connections 200",
    "echo 16 B, depth 16: echo --connections 200 --depth 16",
    "echo 1 KiB: echo --connections 200 --size 1024",
    "echo 64 KiB: echo --connections 200 --size 65536",
    "echo 16 B, 20,000/s: echo --connections 200 --rate 20000",
    "fan-out to 1,000, window 1: fanout --subscribers 1000",
    "fan-out to 1,000, window 16: fanout --subscribers 1000 --window 16",
    "fan-out to 9,000: fanout --subscribers 9000",
    "500 topics of 20, a publisher each: fanout --subscribers 10000 --topics 500 --publishers 500",
    "idle connections: idle --connections 9000",
    "churn: churn --connections 64",
];

/// A load with its name.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Its name in tables.
    pub(super) label: String,
    /// As it was asked for.
    pub(super) text: String,
    words: Vec<String>,
    mode: Mode,
}

impl Cell {
    /// Reads `[LABEL: ]MODE [OPTION]...`; what `base` says holds unless the load says otherwise.
    ///
    /// Errors: what is wrong with it.
    pub(super) fn new(text: &str, base: &Common) -> Result<Self, String> {
        let (label, line) = text.split_once(": ").unwrap_or((text, text));
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for (name, value) in [
            ("--secs", base.secs.to_string()),
            ("--warmup-secs", base.warmup_secs.to_string()),
            ("--threads", base.threads.to_string()),
        ] {
            if position(&words, name).is_none() {
                words.push(format!("{name}={value}"));
            }
        }
        let mode = parse(text, &words)?.mode;
        Ok(Self { label: label.to_owned(), text: text.to_owned(), words, mode })
    }

    /// What it does.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// What the load is for one server, all but the server's process.
    ///
    /// Errors: its own options do not fit the load.
    pub(super) fn options(&self, spec: &ServerSpec, base: &Common) -> Result<Options, String> {
        let mut words = self.words.clone();
        for argument in &spec.arguments {
            let name = argument.split('=').next().unwrap_or_default();
            if let Some(at) = position(&words, name) {
                let is_whole = words[at].contains('=');
                words.drain(at..=if is_whole { at } else { at + 1 });
            }
            words.push(argument.clone());
        }
        let Options { mode, mut common } = parse(&self.text, &words)?;
        let (path, publish_path) = match mode {
            Mode::Echo { .. } | Mode::Churn { .. } => (&spec.echo_path, &None),
            Mode::Fanout { .. } => (&spec.topic_path, &spec.publish_path),
            Mode::Idle { .. } | Mode::Stalled { .. } => (&spec.topic_path, &None),
        };
        common.addr = Target::clone(&spec.target);
        common.path = common.path.or_else(|| path.clone());
        common.publish_path = common.publish_path.or_else(|| publish_path.clone());
        common.tls_ca.clone_from(&base.tls_ca);
        common.tls_insecure = base.tls_insecure;
        common.i_own_this_target = base.i_own_this_target;
        common.quiet = true;
        Ok(Options { mode, common })
    }
}

fn parse(text: &str, words: &[String]) -> Result<Options, String> {
    let program = ["ringway-loadtest".to_owned()];
    let parsed = CommandLine::try_parse_from(program.iter().chain(words));
    let parsed = parsed.map_err(|error| format!("{text}: {error}"))?;
    match parsed.command {
        Command::Load(mode) => Ok(Options { mode, common: parsed.common }),
        Command::Compare(_) | Command::Plot(_) => Err(format!("{text} is no load")),
    }
}

/// Where an option stands, as `NAME` or `NAME=VALUE`.
fn position(words: &[String], name: &str) -> Option<usize> {
    words.iter().position(|word| word.split('=').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(line: &str) -> Common {
        CommandLine::try_parse_from(format!("x {line}").split(' ')).unwrap().common
    }

    #[test]
    fn the_standard_loads_are_loads() {
        for text in STANDARD {
            let cell = Cell::new(text, &base("idle")).unwrap();
            assert!(!cell.label.contains(':') && text.starts_with(&cell.label), "{text}");
        }
    }

    #[test]
    fn a_load_says_more_than_what_holds_for_all() {
        let base = base("--secs 7 --threads 2 idle");
        let cell = Cell::new("some: echo --secs 3 --depth 4", &base).unwrap();
        let spec: ServerSpec =
            "a ws://127.0.0.1:1 echo=/e topic=/t/{topic} -- ./a".parse().unwrap();
        let options = cell.options(&spec, &base).unwrap();
        assert!(matches!(options.mode, Mode::Echo { depth: 4, .. }));
        assert_eq!((options.common.secs, options.common.threads), (3, 2));
        assert_eq!(options.common.path.as_deref(), Some("/e"));
        assert_eq!(options.common.addr.to_string(), "ws://127.0.0.1:1");
        let cell = Cell::new("fanout --subscribers 3", &base).unwrap();
        let options = cell.options(&spec, &base).unwrap();
        assert_eq!((cell.label.as_str(), options.common.secs), ("fanout --subscribers 3", 7));
        assert_eq!(options.common.path.as_deref(), Some("/t/{topic}"));
    }

    #[test]
    fn a_server_says_more_than_the_load() {
        let base = base("idle");
        let cell = Cell::new("fanout --size 100 --protocol centrifuge", &base).unwrap();
        let spec = "a ws://127.0.0.1:1 arg=--protocol=raw arg=--size=150 -- ./a".parse().unwrap();
        let options = cell.options(&spec, &base).unwrap();
        assert!(matches!(options.mode, Mode::Fanout { size: 150, .. }));
        assert_eq!(options.common.protocol, crate::options::Protocol::Raw);
    }

    #[test]
    fn what_is_no_load_is_refused() {
        for text in ["", "nothing", "echo --depth 0", "plot x.json", "idle --depth 2"] {
            assert!(Cell::new(text, &base("idle")).is_err(), "{text}");
        }
    }
}
