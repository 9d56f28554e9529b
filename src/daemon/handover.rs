//! Listening sockets that the service manager has opened for us (socket activation): sd_listen_fds(3).
//!
//! It keeps them open while the gateway restarts, so that nobody is refused. A socket is meant for the
//! listener whose address it has; one that is called `operator` for the operators' port.

#![expect(unsafe_code, reason = "descriptors come as numbers")]

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::net::getsockname;

use super::exit::Failure;

/// What the socket of the operators' port may be called (FileDescriptorName=).
const OPERATOR: &str = "operator";

/// The sockets that nobody has claimed yet.
pub(super) struct Handed(Vec<Socket>);

struct Socket {
    descriptor: OwnedFd,
    name: String,
    /// `None`: it is no internet socket.
    address: Option<SocketAddr>,
}

impl Handed {
    /// Takes what this process was given; it can be taken once.
    ///
    /// Errors: [`Failure::Unfit`], when the service manager contradicts itself.
    pub(super) fn take() -> Result<Self, Failure> {
        let given = sd_notify::listen_fds_with_names()
            .map_err(|error| Failure::Unfit(format!("LISTEN_FDS is wrong: {error}")))?;
        let sockets = given.map(|(number, name)| {
            // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns. It was open, or
            // `listen_fds_with_names` could not have set FD_CLOEXEC on it, and is meant for this
            // process (LISTEN_PID); nobody else asks for it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            let address = getsockname(&descriptor).ok();
            let address = address.and_then(|address| SocketAddr::try_from(address).ok());
            Socket { descriptor, name, address }
        });
        Ok(Self(sockets.collect()))
    }

    /// The socket for clients at this address.
    pub(super) fn for_clients(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        self.claim(|socket| socket.name != OPERATOR && socket.address == Some(address))
    }

    /// The socket for operators: by its name, else by its address.
    pub(super) fn for_operators(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        let named = self.claim(|socket| socket.name == OPERATOR && socket.address.is_some());
        named.or_else(|| self.claim(|socket| socket.address == Some(address)))
    }

    fn claim(&mut self, is_meant: impl Fn(&Socket) -> bool) -> Option<OwnedFd> {
        let at = self.0.iter().position(is_meant)?;
        Some(self.0.swap_remove(at).descriptor)
    }

    /// Sees that all were claimed: clients would wait for ever at one that nobody listens to.
    ///
    /// Errors: [`Failure::Unfit`], naming the first that was not.
    pub(super) fn require_none(&self) -> Result<(), Failure> {
        let Some(socket) = self.0.first() else { return Ok(()) };
        let name = &socket.name;
        let problem = match socket.address {
            None => "it is no TCP socket; only ListenStream= with a port is served".to_owned(),
            Some(address) => format!(
                "no listener.address is {address}; make ListenStream= and the configuration the same"
            ),
        };
        Err(Failure::Unfit(format!(
            "a socket of the service manager ({name}) has no use: {problem}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn handed(names: &[&str]) -> (Handed, Vec<SocketAddr>) {
        let listeners = names.iter().map(|name| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let address = listener.local_addr().expect("an address");
            let name = (*name).to_owned();
            (Socket { descriptor: listener.into(), name, address: Some(address) }, address)
        });
        let (sockets, addresses) = listeners.unzip();
        (Handed(sockets), addresses)
    }

    fn address(descriptor: Option<OwnedFd>) -> Option<SocketAddr> {
        TcpListener::from(descriptor?).local_addr().ok()
    }

    #[test]
    fn sockets_are_found_by_address_and_the_operators_by_name() {
        let (mut sockets, addresses) = handed(&["ringway.socket", "operator", "ringway.socket"]);
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(address(sockets.for_clients(addresses[2])), Some(addresses[2]));
        assert_eq!(address(sockets.for_clients(addresses[1])), None);
        assert_eq!(address(sockets.for_operators(elsewhere)), Some(addresses[1]));
        assert_eq!(address(sockets.for_operators(addresses[0])), Some(addresses[0]));
        assert!(sockets.require_none().is_ok());
    }

    #[test]
    fn a_socket_without_a_use_is_named() {
        let (sockets, addresses) = handed(&["ringway.socket"]);
        let told = sockets.require_none().expect_err("nobody claimed it").to_string();
        assert!(told.contains("ringway.socket"), "{told}");
        assert!(told.contains(&format!("no listener.address is {}", addresses[0])), "{told}");
        let folder = tempfile::TempDir::new().expect("there is room");
        let path = folder.path().join("socket");
        let descriptor = UnixListener::bind(path).expect("a listener").into();
        let sockets = Handed(vec![Socket { descriptor, name: "x".to_owned(), address: None }]);
        let told = sockets.require_none().expect_err("nobody claimed it").to_string();
        assert!(told.contains("no TCP socket"), "{told}");
    }
}
