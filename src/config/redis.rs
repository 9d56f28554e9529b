//! The broker redis.

use std::path::PathBuf;
use std::time::Duration;

use crate::topic::namespace::Broker;

use super::reader::{Sections, Settings};
use super::violation::Violation;
use super::{ApiKey, Config};

/// Publications that can be read in one piece without holding up the server.
const HISTORY_MAX: usize = 10_000;

/// Where the Redis server is and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// An ACL user; empty: the default one.
    pub username: String,
    /// The user's password; empty: none.
    pub password: ApiKey,
    /// The number of the database.
    pub database: u16,
    /// File of the authorities, empty for those of the system; `None`: there is no TLS.
    pub tls: Option<PathBuf>,
    /// What all names begin with.
    pub prefix: String,
    /// Longest time of a command.
    pub timeout: Duration,
    /// Publications and questions that may wait.
    pub pending_max: usize,
}

pub(super) fn build(settings: &Settings, violations: &mut Vec<Violation>) -> Redis {
    let address = settings.text("address");
    let parts = address.rsplit_once(':').and_then(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
    });
    let (host, port) = parts.unwrap_or_else(|| {
        let problem = "must be a host and a port, like \"redis.internal:6379\" or \"[::1]:6379\"";
        violations.push(settings.wrong("address", problem));
        ("127.0.0.1", 6379)
    });
    let prefix = settings.text("prefix");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if prefix.is_empty() || !prefix.chars().all(is_plain) {
        let problem = "must have letters, digits and - _ . : / only, and at least one of them";
        violations.push(settings.wrong("prefix", problem));
    }
    let (tls, authorities) = (settings.switch("tls"), settings.text("tls_ca"));
    if !tls && !authorities.is_empty() {
        violations.push(settings.wrong("tls_ca", "is of no use without TLS: set tls = true"));
    }
    let (username, password) = (settings.text("username"), settings.text("password"));
    if password.is_empty() && !username.is_empty() {
        violations
            .push(settings.wrong("username", "is of no use without redis.password: set both"));
    }
    Redis {
        host: host.to_owned(),
        port,
        username,
        password: ApiKey(password),
        database: settings.number("database"),
        tls: tls.then(|| authorities.into()),
        prefix,
        timeout: settings.time("timeout"),
        pending_max: settings.number("pending_max"),
    }
}

/// Reports what a namespace wants of the server and does not get.
pub(super) fn report(config: &Config, sections: &Sections, violations: &mut Vec<Violation>) {
    let settings = sections.all("namespace");
    for (index, namespace) in config.namespaces.iter().enumerate() {
        if namespace.broker == Broker::Redis && namespace.history_size > HISTORY_MAX {
            let problem = format!(
                "must not be more than {HISTORY_MAX} with broker redis: it is read in one piece"
            );
            violations.push(settings[index].wrong("history_size", problem));
        }
    }
}
