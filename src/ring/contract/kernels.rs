//! Rings with clients around them, real and simulated.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::ring::Ring;
use crate::ring::listen::{Options, listen};
use crate::ring::probe::Feature;
use crate::ring::sim::{ClientSocket, Faults, SimRing, Tail, World};
use crate::ring::uring::{Parts, Pool, Settings, Uring};
use crate::ring::wakes::Wakes;

/// A ring and the world around it.
pub(super) trait Kernel {
    type Ring: Ring;
    type Client: Client;
    fn ring(&mut self) -> &mut Self::Ring;
    fn connect(&mut self) -> Self::Client;
    /// Wakes the ring's thread from outside.
    fn wake(&mut self);
    /// Nothing happens here that is merely allowed to.
    fn is_gentle(&self) -> bool;
}

/// The other end of a connection; never blocks.
pub(super) trait Client {
    fn address(&self) -> SocketAddr;
    fn write(&mut self, bytes: &[u8]) -> usize;
    fn read(&mut self, out: &mut Vec<u8>) -> Tail;
    fn shutdown(&mut self);
    fn reset(self);
}

/// The engine on this machine's kernel.
pub(super) struct Real {
    ring: Uring,
    address: SocketAddr,
    wakes: Arc<Wakes>,
    gentle: bool,
}

impl Real {
    pub(super) fn with(settings: &Settings, gentle: bool) -> Self {
        let options = Options { send_buffer_bytes: 16 * 1024, ..Options::default() };
        let listener = listen(([127, 0, 0, 1], 0).into(), options).unwrap();
        let address = listener.local_addr().unwrap();
        let wakes = Arc::new(Wakes::new(1).unwrap());
        let parts = Parts { listeners: vec![listener.into()], node: 0, wakes: wakes.clone() };
        Self { ring: Uring::new(settings, parts).unwrap(), address, wakes, gentle }
    }

    pub(super) fn full() -> Self {
        Self::with(&Settings::default(), true)
    }

    pub(super) fn plain() -> Self {
        Self::with(&Settings { disable: Feature::ALL.to_vec(), ..Settings::default() }, true)
    }

    /// Queues and pools so small that they overflow all the time.
    pub(super) fn tiny() -> Self {
        Self::with(&tiny(), false)
    }

    pub(super) fn tiny_plain() -> Self {
        Self::with(&Settings { disable: Feature::ALL.to_vec(), ..tiny() }, false)
    }
}

fn tiny() -> Settings {
    Settings {
        submission_entries: 4,
        completion_entries: 8,
        shared_buffers: Pool { count: 2, bytes: 512 },
        whole_buffers: Pool { count: 4, bytes: 256 },
        disable: Vec::new(),
    }
}

impl Kernel for Real {
    type Ring = Uring;
    type Client = TcpStream;

    fn ring(&mut self) -> &mut Uring {
        &mut self.ring
    }
    fn connect(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }
    fn wake(&mut self) {
        self.wakes.notify(0);
    }
    fn is_gentle(&self) -> bool {
        self.gentle
    }
}

impl Client for TcpStream {
    fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }
    fn write(&mut self, bytes: &[u8]) -> usize {
        Write::write(self, bytes).unwrap_or(0)
    }
    fn read(&mut self, out: &mut Vec<u8>) -> Tail {
        let mut chunk = [0; 16 * 1024];
        loop {
            match Read::read(self, &mut chunk) {
                Ok(0) => return Tail::Fin,
                Ok(len) => out.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Tail::Open,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Tail::Reset,
                Err(error) => panic!("{error}"),
            }
        }
    }
    fn shutdown(&mut self) {
        TcpStream::shutdown(self, std::net::Shutdown::Write).unwrap();
    }
    fn reset(self) {
        socket2::SockRef::from(&self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The simulated twin.
pub(super) struct Simulated {
    ring: SimRing,
    world: World,
    gentle: bool,
}

impl Simulated {
    pub(super) fn gentle() -> Self {
        Self::with(0, Faults { socket_bytes: (16 * 1024, 64 * 1024), ..Faults::none() }, true)
    }

    pub(super) fn harsh(seed: u64) -> Self {
        Self::with(seed, Faults::harsh(), false)
    }

    fn with(seed: u64, faults: Faults, gentle: bool) -> Self {
        let world = World::new(seed, faults);
        Self { ring: world.attach(1), world, gentle }
    }
}

impl Kernel for Simulated {
    type Ring = SimRing;
    type Client = ClientSocket;

    fn ring(&mut self) -> &mut SimRing {
        &mut self.ring
    }
    fn connect(&mut self) -> ClientSocket {
        self.world.connect(0, 0)
    }
    fn wake(&mut self) {
        self.world.wake(0);
    }
    fn is_gentle(&self) -> bool {
        self.gentle
    }
}

impl Client for ClientSocket {
    fn address(&self) -> SocketAddr {
        ClientSocket::address(self)
    }
    fn write(&mut self, bytes: &[u8]) -> usize {
        ClientSocket::write(self, bytes)
    }
    fn read(&mut self, out: &mut Vec<u8>) -> Tail {
        ClientSocket::read(self, out)
    }
    fn shutdown(&mut self) {
        ClientSocket::shutdown(self);
    }
    fn reset(self) {
        ClientSocket::reset(&self);
    }
}
