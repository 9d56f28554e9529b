//! Where the server is: an address, or a `ws://` or `wss://` URL.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// A server, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its address.
    pub(crate) addr: SocketAddr,
    /// What the `Host` header says, with the port.
    pub(crate) authority: String,
    /// How bytes travel.
    pub(crate) scheme: Scheme,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// As they are.
    Ws,
    /// In TLS.
    Wss,
}

impl Target {
    /// The name that a certificate must be for, without port and brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for Target {
    type Err = String;

    /// Reads `ADDRESS:PORT`, `ws://HOST[:PORT]` or `wss://HOST[:PORT]`; a host is looked up at once.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("ws", rest)) => (Scheme::Ws, rest),
            Some(("wss", rest)) => (Scheme::Wss, rest),
            Some((other, _)) => return Err(format!("{other}:// is neither ws:// nor wss://")),
            None => (Scheme::Ws, text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('/') {
            return Err("the path of a request is the mode's: use --path".to_owned());
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = if scheme == Scheme::Wss { 443 } else { 80 };
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let found = authority.to_socket_addrs().map_err(|error| format!("{authority}: {error}"))?;
        // Servers that listen on one family only mostly choose IPv4.
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        let addr = *found.first().ok_or_else(|| format!("{authority} has no address"))?;
        Ok(Self { addr, authority, scheme })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Wss { "wss" } else { "ws" };
        write!(out, "{scheme}://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_urls_name_a_server() {
        let target: Target = "127.0.0.1:8000".parse().unwrap();
        assert_eq!(
            (target.addr.port(), target.scheme, target.host()),
            (8000, Scheme::Ws, "127.0.0.1")
        );
        let target: Target = "wss://localhost:8443/".parse().unwrap();
        assert_eq!((target.scheme, target.host()), (Scheme::Wss, "localhost"));
        assert!(target.addr.ip().is_loopback());
        assert_eq!(target.to_string(), "wss://localhost:8443");
        let target: Target = "wss://[::1]".parse().unwrap();
        assert_eq!((target.addr.port(), target.host()), (443, "::1"));
        assert_eq!("ws://127.0.0.1".parse::<Target>().unwrap().authority, "127.0.0.1:80");
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for text in ["http://127.0.0.1:80", "ws://127.0.0.1:80/echo", "127.0.0.1:70000", ""] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
