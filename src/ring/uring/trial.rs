//! What is tried on a ring before anybody relies on it.

#![expect(unsafe_code, reason = "operations and descriptors of the trials")]

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{cqueue, opcode};
use socket2::SockRef;

use super::queue::{Pause, Queue};
use super::setup::{self, Settings};
use super::user_data::{Kind, UserData};
use crate::ring::probe::Features;

/// Entries of the ring that is to overflow, in either queue.
const ENTRIES: u32 = 4;
/// Connections that overflow it several times.
const CONNECTIONS: usize = 20;
/// Enters after which connections that are still missing count as lost.
const ENTERS_MAX: usize = 32;
/// How long each of them waits.
const ENTER_WAIT: Duration = Duration::from_millis(1);

/// Whether accepting many connections by one operation can be relied on here.
///
/// Kernels from 6.6.1 to the candidates of 6.8 report descriptors that do not exist when the
/// completion queue overflows. Tried once in a process; a trial that cannot be held says no.
pub(in crate::ring) fn accepts_many(features: Features) -> bool {
    static RELIABLE: OnceLock<bool> = OnceLock::new();
    *RELIABLE.get_or_init(|| try_accepting(features).unwrap_or(false))
}

fn try_accepting(features: Features) -> io::Result<bool> {
    let mut queue = overflowing(features)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    arm(&mut queue, &listener);
    let clients = connect_all(&listener)?;
    let addresses = clients.iter().map(TcpStream::local_addr).collect::<io::Result<Vec<_>>>()?;
    let accepted = accept_all(&mut queue, &listener);
    let right = is_one_for_each(&accepted, &addresses);
    close_all(accepted, &addresses);
    Ok(right)
}

fn overflowing(features: Features) -> io::Result<Queue> {
    let settings = Settings {
        submission_entries: ENTRIES,
        completion_entries: ENTRIES,
        ..Settings::default()
    };
    setup::open(&settings, features).map(Queue::new)
}

fn arm(queue: &mut Queue, listener: &TcpListener) {
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
    // SAFETY: `push` wants memory kept: the entry has none.
    unsafe { queue.push(&[accept.build()]) }
    queue.enter(Pause::No);
}

fn connect_all(listener: &TcpListener) -> io::Result<Vec<TcpStream>> {
    let address = listener.local_addr()?;
    let connect = |_| {
        let client = TcpStream::connect(address)?;
        // Reset at the end: no port is left waiting.
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        Ok(client)
    };
    (0..CONNECTIONS).map(connect).collect()
}

/// The descriptors that the kernel says it accepted.
fn accept_all(queue: &mut Queue, listener: &TcpListener) -> Vec<RawFd> {
    let mut accepted = Vec::new();
    for _ in 0..ENTERS_MAX {
        queue.enter(Pause::For(ENTER_WAIT));
        let reaped = queue.take_reaped();
        accepted.extend(reaped.iter().map(|entry| entry.result).filter(|result| *result >= 0));
        let ended = reaped.iter().any(|entry| !cqueue::more(entry.flags));
        queue.reuse(reaped);
        if accepted.len() >= CONNECTIONS && !queue.is_overflown() || queue.broken().is_some() {
            break;
        }
        if ended {
            arm(queue, listener);
        }
    }
    accepted
}

/// Whether each client has one of the descriptors as its other end, and none is left over.
fn is_one_for_each(accepted: &[RawFd], clients: &[SocketAddr]) -> bool {
    let peers: BTreeSet<_> = accepted.iter().filter_map(|fd| peer(*fd)).collect();
    accepted.len() == clients.len() && peers == clients.iter().copied().collect()
}

/// Closes what is the other end of a client; anything else may belong to somebody.
fn close_all(mut accepted: Vec<RawFd>, clients: &[SocketAddr]) {
    accepted.sort_unstable();
    accepted.dedup();
    for fd in accepted {
        if peer(fd).is_some_and(|peer| clients.contains(&peer)) {
            // SAFETY: `from_raw_fd` wants an open descriptor that nobody else closes: it is the
            // other end of a connection of this trial, which only its accept can have opened, and
            // it is in the list once.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// The address at the other end, `None` for what is no connected IPv4 socket.
fn peer(fd: RawFd) -> Option<SocketAddr> {
    let sin_addr = libc::in_addr { s_addr: 0 };
    let mut address = libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr, sin_zero: [0; 8] };
    let mut len = libc::socklen_t::try_from(size_of_val(&address)).expect("a few bytes");
    // SAFETY: getpeername wants `len` bytes that it may write to: `address` has them, and any bytes
    // are an address. A wrong descriptor is an error.
    let result = unsafe { libc::getpeername(fd, (&raw mut address).cast(), &raw mut len) };
    let connected = result == 0 && i32::from(address.sin_family) == libc::AF_INET;
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    connected.then(|| (ip, u16::from_be(address.sin_port)).into())
}

/// Whether the ring refuses operations that are not on the list: a file and a socket are asked for.
pub(super) fn refuses_strangers(queue: &mut Queue) -> bool {
    let path = c"/";
    let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_RDONLY);
    let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0);
    let strangers = [open.build(), socket.build()];
    for stranger in strangers {
        let user_data = UserData::of_index(Kind::SelfTest, 0).encode();
        // SAFETY: `push` wants what the entry points to kept: the path is a constant, and a socket
        // needs no memory.
        unsafe { queue.push(&[stranger.user_data(user_data)]) }
        queue.enter(Pause::For(Duration::from_secs(1)));
    }
    let reaped = queue.take_reaped();
    let refused = matches!(
        reaped.as_slice(),
        [file, socket] if file.result == -libc::EACCES && socket.result == -libc::EACCES
    );
    for entry in reaped.iter().filter(|entry| entry.result >= 0) {
        // SAFETY: `from_raw_fd` wants an open descriptor that nobody else closes: the kernel has
        // just opened it for one of the two operations, and nobody else has seen it.
        drop(unsafe { OwnedFd::from_raw_fd(entry.result) });
    }
    queue.reuse(reaped);
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_beyond_the_completion_queue_are_all_accepted() {
        let mut queue = overflowing(Features::default()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        arm(&mut queue, &listener);
        let clients = connect_all(&listener).unwrap();
        queue.enter(Pause::No);
        assert!(queue.is_overflown());
        let addresses: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        let first = queue.take_reaped();
        let mut accepted: Vec<_> = first.iter().map(|entry| entry.result).collect();
        assert!(first.iter().all(|entry| cqueue::more(entry.flags)));
        queue.reuse(Vec::new());
        accepted.extend(accept_all(&mut queue, &listener));
        assert!(is_one_for_each(&accepted, &addresses));
        close_all(accepted, &addresses);
    }

    #[test]
    fn this_kernel_can_be_relied_on() {
        assert_eq!(try_accepting(Features::default()).ok(), Some(true));
    }

    #[test]
    fn descriptors_that_are_not_the_clients_other_ends_are_found_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let pair = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let ((one, its_end), (two, other_end)) = (pair(), pair());
        let clients = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        let (its_end, other_end) = (its_end.as_raw_fd(), other_end.as_raw_fd());
        let says = |accepted: &[RawFd]| is_one_for_each(accepted, &clients);
        assert!(says(&[other_end, its_end]));
        assert!(!says(&[its_end]), "one is missing");
        assert!(!says(&[its_end, its_end]), "the same twice");
        assert!(!says(&[its_end, other_end, other_end]), "one too many");
        assert!(!says(&[its_end, i32::MAX]), "not open");
        assert!(!says(&[its_end, 0]), "no connection of ours");
        assert!(!says(&[its_end, listener.as_raw_fd()]), "not connected");
        assert!(!says(&[its_end, two.as_raw_fd()]), "the client itself");
    }

    #[test]
    fn a_ring_without_restrictions_is_found_out() {
        let mut queue = Queue::new(setup::open(&Settings::default(), Features::default()).unwrap());
        assert!(!refuses_strangers(&mut queue));
    }
}
