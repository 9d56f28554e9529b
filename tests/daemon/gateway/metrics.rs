//! What operators see.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// Numbers of one scrape, by series as it is written; `ringway_` left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(pub(crate) BTreeMap<String, u64>);

/// Series of one metric that are not 0: label values with spaces between, in their order.
pub(crate) type Family = BTreeMap<String, u64>;

/// A family written down by hand.
pub(crate) fn family<const N: usize>(series: [(&str, u64); N]) -> Family {
    series.into_iter().map(|(labels, value)| (labels.to_owned(), value)).collect()
}

impl Metrics {
    /// Reads the text format of Prometheus; what is no whole number is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.strip_prefix("ringway_")?.to_owned(), value.parse().ok()?))
        });
        Self(pairs.collect())
    }

    /// The sum of all series of a metric.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.family(name).values().sum()
    }

    /// The series of a metric that are not 0.
    pub(crate) fn family(&self, name: &str) -> Family {
        let series = self.0.iter().filter(|(_, value)| **value > 0).filter_map(|(key, value)| {
            let labels = key.strip_prefix(name)?;
            if !labels.is_empty() && !labels.starts_with('{') {
                return None;
            }
            let texts: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
            Some((texts.join(" "), *value))
        });
        series.collect()
    }

    /// What was added to the series of a metric since `before`.
    pub(crate) fn since(&self, before: &Self, name: &str) -> Family {
        let old = before.family(name);
        let grown = self.family(name).into_iter().filter_map(|(labels, value)| {
            let added = value - old.get(&labels).copied().unwrap_or(0);
            (added > 0).then_some((labels, added))
        });
        grown.collect()
    }

    /// Every connection that was opened is open, or was counted closed once; every other one that
    /// was accepted ended before that, or is on its way.
    pub(crate) fn assert_balanced(&self) {
        let [opened, closed, open] =
            ["opened_total", "closed_total", "connections"].map(|name| self.sum(name));
        assert_eq!(opened, closed + open, "{self:#?}");
        let [accepted, ended, handshaking] =
            ["accepted_total", "handshakes_ended_total", "connections_handshaking"]
                .map(|name| self.sum(name));
        assert_eq!(accepted, opened + ended + handshaking, "{self:#?}");
    }
}

/// The answer to a GET request; `None`: there was none.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n"))
}

/// The answer to a POST request with a JSON body; `None`: there was none.
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Option<(u16, String)> {
    let len = body.len();
    ask(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}"
        ),
    )
}

fn ask(address: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}
