//! A cable that was cut: packets of one connection are dropped, both ways, without a word.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// While this lives, the two ends hear nothing of each other.
#[derive(Debug)]
pub(crate) struct Silence {
    rules: Vec<Vec<String>>,
}

impl Silence {
    /// Between two addresses of this machine; `None`: it does not let us filter packets.
    pub(crate) fn between(one: SocketAddr, other: SocketAddr) -> Option<Self> {
        let mut silence = Self { rules: Vec::new() };
        for (from, to) in [(one, other), (other, one)] {
            let rule = format!(
                "INPUT -p tcp -s {} --sport {} -d {} --dport {} -j DROP",
                from.ip(),
                from.port(),
                to.ip(),
                to.port()
            );
            let rule: Vec<String> = rule.split(' ').map(str::to_owned).collect();
            if !filter("-I", &rule) {
                return None;
            }
            silence.rules.push(rule);
        }
        Some(silence)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        for rule in &self.rules {
            assert!(filter("-D", rule) || std::thread::panicking(), "the rule stays: {rule:?}");
        }
    }
}

fn filter(what: &str, rule: &[String]) -> bool {
    let mut command = Command::new("iptables");
    command.args(["-w", what]).args(rule).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
