//! A server of a comparison, as the command line describes it.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use crate::target::Target;

/// A server, and how to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSpec {
    /// Its name in tables.
    pub(super) name: String,
    /// Where its clients connect.
    pub(super) target: Target,
    /// What the shell runs.
    pub(super) command: String,
    /// When it can be loaded.
    pub(super) ready: Ready,
    /// Request path of echoes; `None`: the mode's.
    pub(super) echo_path: Option<String>,
    /// Request path of subscribers; `None`: the mode's.
    pub(super) topic_path: Option<String>,
    /// Request path of publishers; `None`: that of subscribers.
    pub(super) publish_path: Option<String>,
    /// Options for its runs alone.
    pub(super) arguments: Vec<String>,
}

/// How a server shows that it can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// Its port takes connections.
    Connect,
    /// It answers 200.
    Http { addr: SocketAddr, path: String },
    /// Its output has this in it.
    Log(String),
}

impl FromStr for ServerSpec {
    type Err = String;

    /// Reads `NAME URL [KEY=VALUE]... -- COMMAND`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(" -- ").or_else(|| text.split_once(" --\n"));
        let (head, command) = parts.ok_or("no ' -- ' before the command that starts the server")?;
        let mut words = head.split_whitespace();
        let (Some(name), Some(url)) = (words.next(), words.next()) else {
            return Err("a server is NAME URL [KEY=VALUE]... -- COMMAND".to_owned());
        };
        let mut spec = Self {
            name: name.to_owned(),
            target: url.parse()?,
            command: command.trim().to_owned(),
            ready: Ready::Connect,
            echo_path: None,
            topic_path: None,
            publish_path: None,
            arguments: Vec::new(),
        };
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word} has no ="))?;
            let value = value.to_owned();
            match key {
                "ready" => spec.ready = value.parse()?,
                "echo" => spec.echo_path = Some(value),
                "topic" => spec.topic_path = Some(value),
                "publish" => spec.publish_path = Some(value),
                "arg" => spec.arguments.push(value),
                _ => return Err(format!("{key} is none of ready, echo, topic, publish, arg")),
            }
        }
        Ok(spec)
    }
}

impl FromStr for Ready {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "connect" {
            return Ok(Self::Connect);
        }
        if let Some(word) = text.strip_prefix("log:") {
            return Ok(Self::Log(word.to_owned()));
        }
        let wrong = || format!("ready={text} is none of connect, http://HOST:PORT/PATH, log:WORD");
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let addr = authority.to_socket_addrs().ok().and_then(|mut found| found.next());
        Ok(Self::Http { addr: addr.ok_or_else(wrong)?, path: format!("/{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_described_in_one_argument() {
        let spec: ServerSpec = "peer ws://127.0.0.1:9 ready=log:listening topic=/{topic} \
             publish=/pub arg=--size=200 -- PORT=9 ./peer -- --fast"
            .parse()
            .unwrap();
        assert_eq!(
            (spec.name.as_str(), spec.command.as_str()),
            ("peer", "PORT=9 ./peer -- --fast")
        );
        assert_eq!(spec.ready, Ready::Log("listening".to_owned()));
        assert_eq!(spec.topic_path.as_deref(), Some("/{topic}"));
        assert_eq!((spec.publish_path.as_deref(), spec.echo_path), (Some("/pub"), None));
        assert_eq!(spec.arguments, ["--size=200"]);
    }

    #[test]
    fn readiness_is_a_connection_an_answer_or_a_word() {
        let http = Ready::Http { addr: "127.0.0.1:2".parse().unwrap(), path: "/readyz".to_owned() };
        assert_eq!("http://127.0.0.1:2/readyz".parse(), Ok(http));
        assert_eq!("connect".parse(), Ok(Ready::Connect));
        assert!("soon".parse::<Ready>().is_err());
    }

    #[test]
    fn what_describes_no_server_is_refused() {
        for text in [
            "peer ws://127.0.0.1:9 ./peer",
            "peer -- ./peer",
            "peer ftp://127.0.0.1:9 -- ./peer",
            "peer ws://127.0.0.1:9 fast -- ./peer",
            "peer ws://127.0.0.1:9 speed=9 -- ./peer",
        ] {
            assert!(text.parse::<ServerSpec>().is_err(), "{text}");
        }
    }
}
