//! Who a connection comes from: what its peer is, what trusted proxies say, and whether that address
//! may have one more connection.
//!
//! Only where somebody has to know: without limits for addresses and without proxies a connection has
//! no [`Guest`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::crowd::{Crowd, Entrance, Place};
use crate::auth::forwarded;
use crate::auth::network::Networks;
use crate::auth::origin::{OriginRule, Scheme};
use crate::auth::pace::Pace;
use crate::auth::proxy;
use crate::dialect::cause::Cause;
use crate::http1::request::RequestHead;
use crate::http1::status::Status;

/// What is true of all connections that come by one listener.
#[derive(Clone, Debug)]
pub struct Door {
    /// Whose pages may connect.
    pub origins: OriginRule,
    /// What the listener speaks.
    pub scheme: Scheme,
    /// Every connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Whose word counts for the addresses of others.
    pub trusted: Networks,
}

/// Limits for each address.
#[derive(Clone, Debug, Default)]
pub struct AddressLimits {
    /// How many connections; `None`: any number.
    pub crowd: Option<Arc<Crowd>>,
    /// How often it may connect; `None`: at any pace.
    pub pace: Option<Arc<Pace>>,
    /// To whom neither applies. Nor do they to trusted proxies.
    pub exempt: Networks,
}

/// Whether there is room for one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Free,
    /// There is none: its request is answered with 429 or 503.
    Full(Lack),
}

/// Why there is no room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Its address has as many as it may.
    AddressConnections,
    /// Its address connects too often.
    AddressRate,
    /// The listener has as many as it may.
    ListenerConnections,
    /// There are as many as there may be.
    Connections,
    /// Too many are not upgraded yet.
    Handshakes,
    /// Too many TLS handshakes are under way.
    TlsHandshakes,
    /// Memory is short.
    Memory,
}

impl Lack {
    /// Every lack, in the order of the enum.
    pub const ALL: &[Self] = &[
        Self::AddressConnections,
        Self::AddressRate,
        Self::ListenerConnections,
        Self::Connections,
        Self::Handshakes,
        Self::TlsHandshakes,
        Self::Memory,
    ];

    /// What metrics call it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::AddressConnections => "address_connections",
            Self::AddressRate => "address_rate",
            Self::ListenerConnections => "listener_connections",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::TlsHandshakes => "tls_handshakes",
            Self::Memory => "memory",
        }
    }

    /// The status of the answer.
    pub const fn status(self) -> Status {
        match self {
            Self::AddressConnections | Self::AddressRate => Status::TooManyRequests,
            Self::ListenerConnections
            | Self::Connections
            | Self::Handshakes
            | Self::TlsHandshakes
            | Self::Memory => Status::Unavailable,
        }
    }

    /// What people are told.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::AddressConnections => "your address has too many connections; close some",
            Self::AddressRate => "your address connects too often; wait a little",
            Self::ListenerConnections
            | Self::Connections
            | Self::Handshakes
            | Self::TlsHandshakes
            | Self::Memory => "the gateway takes no more connections for now; try again",
        }
    }
}

/// Why a connection was closed before anything of its request was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// There is no room, not even to say so.
    Lack(Lack),
    /// Its first bytes are no header of the PROXY protocol.
    ProxyHeader,
    /// A header of the PROXY protocol is expected, but the peer is nobody to believe.
    ProxyPeer,
}

impl Unheard {
    /// Every value, in the order of [`Unheard::index`].
    pub const ALL: &[Self] = &[
        Self::Lack(Lack::AddressConnections),
        Self::Lack(Lack::AddressRate),
        Self::Lack(Lack::ListenerConnections),
        Self::Lack(Lack::Connections),
        Self::Lack(Lack::Handshakes),
        Self::Lack(Lack::TlsHandshakes),
        Self::Lack(Lack::Memory),
        Self::ProxyHeader,
        Self::ProxyPeer,
    ];

    /// Its place in [`Unheard::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Lack(lack) => lack as usize,
            Self::ProxyHeader => Lack::ALL.len(),
            Self::ProxyPeer => Lack::ALL.len() + 1,
        }
    }

    /// For which cause the connection ends.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Lack(_) => Cause::Refused,
            Self::ProxyHeader | Self::ProxyPeer => Cause::ProxyHeader,
        }
    }

    /// What metrics call it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Lack(lack) => lack.reason(),
            Self::ProxyHeader => "proxy_header",
            Self::ProxyPeer => "proxy_peer",
        }
    }
}

/// Who a connection comes from, as far as is known.
#[derive(Debug)]
pub struct Guest {
    address: IpAddr,
    place: Option<Place>,
    /// What a proxy says about the client's side of it.
    scheme: Option<Scheme>,
    /// What has come of the PROXY header; `None`: none is expected any more.
    header: Option<Vec<u8>>,
}

impl Door {
    /// Whether anybody has to know who comes by this listener.
    pub fn asks(&self, limits: &AddressLimits) -> bool {
        let is_limited = limits.crowd.is_some() || limits.pace.is_some();
        is_limited || self.proxy_protocol || !self.trusted.is_empty()
    }
}

impl Guest {
    /// Somebody whose socket says that it comes from `peer`.
    ///
    /// Errors: [`Unheard::ProxyPeer`].
    pub fn new(peer: IpAddr, door: &Door) -> Result<Self, Unheard> {
        if door.proxy_protocol && !door.trusted.contains(peer) {
            return Err(Unheard::ProxyPeer);
        }
        let header = door.proxy_protocol.then(Vec::new);
        Ok(Self { address: peer.to_canonical(), place: None, scheme: None, header })
    }

    /// The address, as far as is known.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What the client speaks, if a proxy has said so.
    pub(super) fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// Whether a PROXY header is still to come, or the rest of it.
    pub fn is_awaited(&self) -> bool {
        self.header.is_some()
    }

    /// Reads what belongs to the PROXY header from the front of `input`; returns how much. When
    /// [`Guest::is_awaited`] says no more, the rest is the client's.
    ///
    /// Errors: [`Unheard::ProxyHeader`].
    pub(super) fn read_header(&mut self, input: &[u8]) -> Result<usize, Unheard> {
        let Some(begun) = &mut self.header else { return Ok(0) };
        let before = begun.len();
        // No header is longer, so nothing more of the input is needed to judge it.
        begun.extend_from_slice(&input[..input.len().min(proxy::V2_BYTES_MAX - before)]);
        match proxy::parse(begun) {
            Ok(None) => Ok(input.len()),
            Ok(Some(header)) => {
                self.header = None;
                self.address = header.client.unwrap_or(self.address);
                self.scheme = header.is_secure.then_some(Scheme::Https);
                Ok(header.len - before)
            }
            Err(proxy::Malformed) => Err(Unheard::ProxyHeader),
        }
    }

    /// Takes a place for the address, now that it is known; none is needed by those who are exempt.
    ///
    /// Errors: [`Lack`] of the address.
    pub fn settle(
        &mut self,
        door: &Door,
        limits: &AddressLimits,
        now: Instant,
    ) -> Result<(), Lack> {
        self.place = None;
        if limits.exempt.contains(self.address) || door.trusted.contains(self.address) {
            return Ok(());
        }
        if let Some(crowd) = &limits.crowd {
            match crowd.enter(self.address) {
                Entrance::Granted(place) => self.place = Some(place),
                Entrance::Uncounted => {}
                Entrance::Refused => return Err(Lack::AddressConnections),
            }
        }
        if limits.pace.as_ref().is_some_and(|pace| !pace.admit(self.address, now)) {
            return Err(Lack::AddressRate);
        }
        Ok(())
    }

    /// Hears what a trusted proxy says in the request about the client behind it.
    ///
    /// Errors: [`Lack`] of that client's address.
    pub(super) fn hear(
        &mut self,
        request: &RequestHead<'_>,
        door: &Door,
        limits: &AddressLimits,
        now: Instant,
    ) -> Result<(), Lack> {
        if !door.trusted.contains(self.address) {
            return Ok(());
        }
        let field = |name| request.headers(name).collect::<Vec<_>>();
        let (hops, schemes) = (field("X-Forwarded-For"), field("X-Forwarded-Proto"));
        if let Some(is_secure) = forwarded::is_secure(schemes.into_iter()) {
            self.scheme = Some(if is_secure { Scheme::Https } else { Scheme::Http });
        }
        let client = forwarded::client_address(self.address, hops.into_iter(), &door.trusted);
        if client == self.address {
            return Ok(());
        }
        self.address = client;
        self.settle(door, limits, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        for (index, unheard) in Unheard::ALL.iter().enumerate() {
            assert_eq!(unheard.index(), index, "{unheard:?}");
        }
        let lacks = Lack::ALL.iter().map(|lack| Unheard::Lack(*lack));
        assert!(lacks.eq(Unheard::ALL[..Lack::ALL.len()].iter().copied()));
    }
}
