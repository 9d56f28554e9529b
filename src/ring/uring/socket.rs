//! What one system call asks or tells of an accepted socket.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use super::super::{Socket, TcpInfo};

/// As much of `struct tcp_info` as this kernel's header knows; older kernels fill in less.
const TCP_INFO_BYTES: usize = 248;

/// Bytes of a `sockaddr_in6` and of a `sockaddr_in`.
const ADDRESS_BYTES: [usize; 2] = [28, 16];

/// The peer's address.
pub(super) fn peer(socket: Socket) -> Option<SocketAddr> {
    if let Ok(Some(address)) = rustix::net::getpeername(borrow(&socket)) {
        return SocketAddr::try_from(address).ok();
    }
    // ENOTCONN: the peer has reset the connection. The socket still knows who it was, but gives it
    // out only to those who ask for as many bytes as there are, or fewer.
    ADDRESS_BYTES.into_iter().find_map(|len| {
        let mut bytes = [0; ADDRESS_BYTES[0]];
        let filled = option(socket, libc::SOL_SOCKET, libc::SO_PEERNAME, &mut bytes[..len])?;
        address(filled)
    })
}

/// What the kernel knows about the connection.
pub(super) fn tcp_info(socket: Socket) -> Option<TcpInfo> {
    let mut bytes = [0; TCP_INFO_BYTES];
    let filled = option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut bytes)?;
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*filled.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(*filled.get(at..)?.first_chunk()?));
    let micros_at = |at: usize| u32_at(at).map(|micros| Duration::from_micros(micros.into()));
    // The places are those of `struct tcp_info` in linux/tcp.h, which only ever grows at its end.
    Some(TcpInfo {
        unacked_segments: u32_at(24)?,
        lost_segments: u32_at(32)?,
        last_received: Duration::from_millis(u32_at(52)?.into()),
        rtt: micros_at(68)?,
        rtt_variance: micros_at(72)?,
        retransmitted_segments: u32_at(100)?,
        acked_bytes: u64_at(120).unwrap_or(0),
        received_bytes: u64_at(128).unwrap_or(0),
        not_sent_bytes: u32_at(144).unwrap_or(0),
        window_closed: Duration::from_micros(u64_at(176).unwrap_or(0)),
    })
}

/// Reads a socket option into `bytes`; returns what was filled in.
fn option(socket: Socket, level: i32, name: i32, bytes: &mut [u8]) -> Option<&[u8]> {
    let mut len = MaybeUninit::new(libc::socklen_t::try_from(bytes.len()).ok()?);
    // SAFETY: `getsockopt` wants `len` bytes to write to behind the pointer, and a length to read
    // and write: both are borrowed for the call, and initialised.
    let result = unsafe {
        libc::getsockopt(socket.0, level, name, bytes.as_mut_ptr().cast(), len.as_mut_ptr())
    };
    // SAFETY: `assume_init` wants it initialised: it was, by `new`.
    let len = unsafe { len.assume_init() };
    bytes.get(..usize::try_from(len).ok()?).filter(|_| result == 0)
}

/// The address in a `sockaddr_in` or `sockaddr_in6`.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip = match family {
        libc::AF_INET => IpAddr::from(Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The socket's descriptor, for one system call.
pub(super) fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    let fd: RawFd = socket.0;
    // SAFETY: `borrow_raw` wants a descriptor that stays open for the borrow: a `Socket` is made
    // only for an accepted descriptor, and it is open until the caller gives it to `close`; a caller
    // that uses one later breaks the trait's contract, and gets EBADF or another's socket, no worse.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The socket as a descriptor that closes itself.
pub(super) fn own(socket: Socket) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else closes: the caller has just
    // been given it by accept and hands it on to nobody.
    unsafe { OwnedFd::from_raw_fd(socket.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let four = [2, 0, 0x1f, 0x90, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(address(&four), Some("192.0.2.7:8080".parse().unwrap()));
        let mut six = [0; 28];
        six[..4].copy_from_slice(&[10, 0, 0x1f, 0x90]);
        six[8..24].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).octets());
        assert_eq!(address(&six), Some("[2001:db8::7]:8080".parse().unwrap()));
        assert_eq!(address(&[1, 0, 0, 0, 0, 0, 0, 0]), None, "a socket of another family");
        assert_eq!(address(&six[..16]), None, "half of an address");
    }
}
