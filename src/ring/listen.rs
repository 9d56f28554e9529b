//! Listening sockets whose options the accepted sockets inherit.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// A listening socket in the hands of one ring.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// Who else takes connections from its queue.
    pub takers: Takers,
}

impl From<TcpListener> for Listener {
    /// A socket that one ring has alone.
    fn from(listener: TcpListener) -> Self {
        Self { socket: listener.into(), takers: Takers::One }
    }
}

/// Who takes connections from the queue of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takers {
    /// One ring: the kernel shares connections out among sockets (SO_REUSEPORT).
    One,
    /// Several rings have the same socket, and take turns.
    Several,
}

/// Options of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the kernel may hold for a peer that does not read (SO_SNDBUF; the kernel doubles it
    /// for its own needs, and caps it at net.core.wmem_max).
    pub send_buffer_bytes: usize,
    /// Unsent bytes above which the kernel does not call a socket writable (TCP_NOTSENT_LOWAT):
    /// what waits longer stays in our outbox, where it can be conflated or dropped.
    pub not_sent_lowat_bytes: u32,
    /// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { send_buffer_bytes: 256 * 1024, not_sent_lowat_bytes: 64 * 1024, backlog: 4096 }
    }
}

/// A listener that shares its address with others of this process (SO_REUSEPORT); TCP_NODELAY and
/// the bounds of the send buffer pass on to its connections.
///
/// Errors: of socket(2), setsockopt(2), bind(2) and listen(2).
pub fn listen(address: SocketAddr, options: Options) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    pass_on(&socket, options)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// A socket that somebody else has made listen, with our options for its connections; its backlog
/// stays theirs.
///
/// Errors: of setsockopt(2); `InvalidInput` when it is no TCP socket that listens.
pub fn adopt(socket: OwnedFd, options: Options) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    let is_stream = socket.r#type()? == Type::STREAM && socket.local_addr()?.as_socket().is_some();
    if !is_stream || !socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no TCP socket that listens",
        ));
    }
    pass_on(&socket, options)?;
    Ok(socket.into())
}

/// Sets what accepted sockets inherit.
fn pass_on(socket: &Socket, options: Options) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(options.send_buffer_bytes)?;
    socket.set_tcp_notsent_lowat(options.not_sent_lowat_bytes)
}

/// Finds out whether nobody listens on `address`.
///
/// SO_REUSEPORT lets any process of the same user take part of the connections, so that a daemon
/// started twice by mistake would share its address in silence.
///
/// Errors: of socket(2), setsockopt(2) and bind(2); `AddrInUse` when somebody does.
pub fn require_unused(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process that linger are no listener.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let options =
            Options { send_buffer_bytes: 32 * 1024, not_sent_lowat_bytes: 48 * 1024, backlog: 8 };
        let listener = listen(([127, 0, 0, 1], 0).into(), options).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let _client = TcpStream::connect(address).expect("a connection");
        let (accepted, _) = listener.accept().expect("a connection");
        let accepted = Socket::from(accepted);
        assert_eq!(accepted.tcp_nodelay().ok(), Some(true));
        assert_eq!(accepted.send_buffer_size().ok(), Some(2 * 32 * 1024)); // socket(7): doubled
        assert_eq!(accepted.tcp_notsent_lowat().ok(), Some(48 * 1024));
    }

    #[test]
    fn an_adopted_listener_passes_our_options_on_and_nothing_else_is_adopted() {
        let options =
            Options { send_buffer_bytes: 32 * 1024, not_sent_lowat_bytes: 48 * 1024, backlog: 8 };
        let theirs = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = theirs.local_addr().expect("an address");
        let ours = adopt(theirs.into(), options).expect("it listens");
        let client = TcpStream::connect(address).expect("a connection");
        let accepted = Socket::from(ours.accept().expect("a connection").0);
        assert_eq!(accepted.tcp_nodelay().ok(), Some(true));
        assert_eq!(accepted.send_buffer_size().ok(), Some(2 * 32 * 1024)); // socket(7): doubled
        assert_eq!(accepted.tcp_notsent_lowat().ok(), Some(48 * 1024));
        let packets = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for stranger in [OwnedFd::from(client), packets.into()] {
            let refused = adopt(stranger, options).expect_err("it does not listen");
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn several_listeners_share_an_address() {
        let first = listen(([127, 0, 0, 1], 0).into(), Options::default()).expect("a listener");
        let address = first.local_addr().expect("an address");
        listen(address, Options::default()).expect("a second listener");
        drop(first);
        require_unused(address).expect("nobody listens any more");
    }

    #[test]
    fn an_address_is_not_shared_with_strangers() {
        let listener = listen(([127, 0, 0, 1], 0).into(), Options::default()).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let refused = require_unused(address).expect_err("somebody listens");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
