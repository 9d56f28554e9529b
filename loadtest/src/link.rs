//! One connection: the upgrade, frames in and out, the closing handshake.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use crate::frame;
use crate::language::{Heard, Language};
use crate::target::Target;
use crate::tls::Tls;
use crate::transport::Transport;

/// The key of RFC 6455 §1.3 and the answer it must get. One key for all: the caches that a random
/// one defends against do not stand between a load generator and its server.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Longest response head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Connections that leave from one loopback address; the ports of one do not suffice for many.
const CONNECTIONS_PER_SOURCE: u64 = 10_000;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The request is sent or waits for the connection.
    Upgrading,
    /// The language's opening exchange.
    Joining,
    /// Messages flow.
    Open,
    /// Our Close is sent.
    Closing,
    /// Their Close has come after ours; only the end of the stream is due.
    Closed,
    /// Their Close with this code has come first, and ours answers it.
    Told(u16),
    /// The server has ended it while it was not read.
    Abandoned,
}

/// What comes out of received bytes.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The connection is up.
    Opened,
    /// A delivery.
    Payload(&'a [u8]),
    /// The server refused a command.
    Refused,
    /// The server broke a rule; the connection is of no more use.
    Broken,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It never came up.
    Failed,
    /// It was up, and ended without our doing or a word of theirs.
    Lost,
    /// It was up, and the server closed it with this code.
    Told(u16),
    /// It was up and not read, and the server ended it.
    Abandoned,
    /// The closing handshake that we began was completed with 1000.
    Clean,
    /// We began to close it, and the handshake was cut short or had another code.
    Unclean,
}

/// Whom the connections of a run lead to.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Where it is.
    pub(crate) target: Target,
    /// How to speak TLS with it, if it does.
    pub(crate) tls: Option<Tls>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// The socket, for registration.
    pub(crate) transport: Transport,
    /// When the connection was begun, in nanoseconds of the run's clock.
    pub(crate) begun: u64,
    phase: Phase,
    language: Language,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    fragments: Option<Vec<u8>>,
    scratch: Vec<u8>,
    close_code: Option<u16>,
    /// It has been [`Phase::Open`].
    was_open: bool,
}

impl Link {
    /// Begins to connect and queues the upgrade request. `index` chooses the source address; the
    /// kernel holds about `room` bytes that were not read.
    pub(crate) fn begin(
        server: &Server,
        index: u64,
        path: &str,
        language: Language,
        begun: u64,
        room: Option<usize>,
    ) -> io::Result<Self> {
        let Target { addr, authority, .. } = &server.target;
        let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, None)?;
        room.map_or(Ok(()), |room| socket.set_recv_buffer_size(room))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source(addr.ip(), index) {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        if let Err(error) = socket.connect(&(*addr).into())
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error);
        }
        let session = server.tls.as_ref().map(Tls::session).transpose()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        Ok(Self {
            transport: Transport::new(TcpStream::from_std(socket.into()), session),
            begun,
            phase: Phase::Upgrading,
            language,
            inbox: Vec::new(),
            outbox: request.into_bytes(),
            fragments: None,
            scratch: Vec::new(),
            close_code: None,
            was_open: false,
        })
    }

    /// Messages can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Bytes that the socket would not take yet.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// Queues a message that publishes (or just is) `payload`.
    pub(crate) fn send(&mut self, payload: &[u8]) {
        self.scratch.clear();
        self.language.publish(payload, &mut self.scratch);
        frame::encode(&mut self.outbox, frame::TEXT, &self.scratch, mask());
    }

    /// Queues an unsolicited Pong, which a server may ignore.
    pub(crate) fn pong(&mut self) {
        frame::encode(&mut self.outbox, frame::PONG, b"", mask());
    }

    /// Begins the closing handshake, with 1000.
    pub(crate) fn close(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Joining) {
            frame::encode(&mut self.outbox, frame::CLOSE, &1000_u16.to_be_bytes(), mask());
            self.phase = Phase::Closing;
        }
    }

    /// The server has ended it, and what it said was not read.
    pub(crate) fn abandoned(&mut self) {
        self.phase = Phase::Abandoned;
    }

    /// How it ended, now that the stream has.
    pub(crate) fn end(&self) -> End {
        match (self.phase, self.close_code) {
            _ if !self.was_open => End::Failed,
            (Phase::Closing, _) => End::Unclean,
            (Phase::Closed, Some(1000)) => End::Clean,
            (Phase::Closed, Some(_)) => End::Unclean,
            (Phase::Told(code), _) => End::Told(code),
            (Phase::Abandoned, _) => End::Abandoned,
            (Phase::Upgrading | Phase::Joining | Phase::Open | Phase::Closed, _) => End::Lost,
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.outbox.len() {
            match self.transport.write(&self.outbox[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if is_wait(&error) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outbox.drain(..written);
        match self.transport.flush() {
            Err(error) if !is_wait(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads all there is; `Ok(false)`: the stream is at its end.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut event: impl FnMut(&mut Self, Event<'_>),
    ) -> io::Result<bool> {
        loop {
            match self.transport.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.ingest(&buffer[..count], &mut event),
                Err(error) if is_wait(&error) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes bytes as they came from the server.
    fn ingest(&mut self, bytes: &[u8], event: &mut impl FnMut(&mut Self, Event<'_>)) {
        let mut kept = std::mem::take(&mut self.inbox);
        let input = if kept.is_empty() {
            bytes
        } else {
            kept.extend_from_slice(bytes);
            &kept
        };
        let mut used = 0;
        if self.phase == Phase::Upgrading {
            match head_length(input) {
                Head::Accepted(length) => used = length,
                Head::Partial => {
                    self.inbox = input.to_vec();
                    return;
                }
                Head::Refused => return event(self, Event::Broken),
            }
            self.upgraded(event);
        }
        loop {
            match frame::decode(&input[used..]) {
                Ok(Some(one)) => {
                    let payload = &input[used..][one.payload.clone()];
                    used += one.payload.end;
                    if !self.frame(one.fin, one.opcode, payload, event) {
                        return event(self, Event::Broken);
                    }
                }
                Ok(None) => break,
                Err(_) => return event(self, Event::Broken),
            }
        }
        if kept.is_empty() {
            kept.extend_from_slice(&bytes[used..]);
        } else {
            kept.drain(..used);
        }
        self.inbox = kept;
    }

    fn upgraded(&mut self, event: &mut impl FnMut(&mut Self, Event<'_>)) {
        match self.language.opening() {
            Some(opening) => {
                frame::encode(&mut self.outbox, frame::TEXT, &opening, mask());
                self.phase = Phase::Joining;
            }
            None => self.open(event),
        }
    }

    fn open(&mut self, event: &mut impl FnMut(&mut Self, Event<'_>)) {
        self.phase = Phase::Open;
        self.was_open = true;
        event(self, Event::Opened);
    }

    /// Takes one frame; `false`: it may not come here.
    fn frame(
        &mut self,
        fin: bool,
        opcode: u8,
        payload: &[u8],
        event: &mut impl FnMut(&mut Self, Event<'_>),
    ) -> bool {
        if matches!(self.phase, Phase::Closed | Phase::Told(_) | Phase::Abandoned) {
            return false; // RFC 6455 §5.5.1: nothing follows a Close
        }
        match (opcode, self.fragments.take()) {
            (frame::PING, fragments) => {
                self.fragments = fragments;
                frame::encode(&mut self.outbox, frame::PONG, payload, mask());
            }
            (frame::PONG, fragments) => self.fragments = fragments,
            (frame::CLOSE, _) => self.closed(payload),
            (frame::CONTINUATION, Some(mut message)) => {
                message.extend_from_slice(payload);
                if fin {
                    self.message(&message, event);
                } else {
                    self.fragments = Some(message);
                }
            }
            (frame::TEXT | frame::BINARY, None) if fin => self.message(payload, event),
            (frame::TEXT | frame::BINARY, None) => self.fragments = Some(payload.to_vec()),
            _ => return false,
        }
        true
    }

    fn closed(&mut self, payload: &[u8]) {
        let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        self.phase = if self.phase == Phase::Closing {
            self.close_code = Some(code);
            Phase::Closed
        } else {
            frame::encode(&mut self.outbox, frame::CLOSE, payload, mask());
            Phase::Told(code)
        };
    }

    fn message(&mut self, message: &[u8], event: &mut impl FnMut(&mut Self, Event<'_>)) {
        if matches!(self.language, Language::Raw) {
            return event(self, Event::Payload(message));
        }
        // Whoever takes an event may send, which needs the language: listen to the end first.
        let mut heard_all = Vec::new();
        self.language.listen(message, |heard| heard_all.push(heard));
        for heard in heard_all {
            match heard {
                Heard::Joined if self.phase == Phase::Joining => self.open(event),
                Heard::Joined => event(self, Event::Broken),
                Heard::Payload(payload) => event(self, Event::Payload(payload)),
                Heard::Reply(reply) => {
                    frame::encode(&mut self.outbox, frame::TEXT, reply, mask());
                }
                Heard::Refused => event(self, Event::Refused),
                Heard::Nonsense => event(self, Event::Broken),
            }
        }
    }
}

/// What the response to the upgrade request says.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// Upgraded; frames begin at this length.
    Accepted(usize),
    /// Not all here yet.
    Partial,
    /// Another status, or no proof that the request was read.
    Refused,
}

fn head_length(input: &[u8]) -> Head {
    let Some(length) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if input.len() < HEAD_BYTES_MAX { Head::Partial } else { Head::Refused };
    };
    let Ok(head) = std::str::from_utf8(&input[..length]) else { return Head::Refused };
    let mut lines = head.split("\r\n");
    let switched = lines.next().is_some_and(|status| status.starts_with("HTTP/1.1 101"));
    let accepted = lines.any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT
        })
    });
    if switched && accepted { Head::Accepted(length + 4) } else { Head::Refused }
}

/// The loopback address that connection `index` leaves from; `None`: the kernel's choice.
fn source(target: IpAddr, index: u64) -> Option<IpAddr> {
    let number = index / CONNECTIONS_PER_SOURCE;
    match target {
        IpAddr::V4(target) if target.is_loopback() && number > 0 => {
            let [low, high, ..] = (number + 1).to_le_bytes();
            Some(Ipv4Addr::new(127, 0, high, low).into())
        }
        _ => None,
    }
}

fn mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}

/// The socket has no more for now, or is not connected yet.
fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proven_upgrade_is_accepted() {
        let good = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-ACCEPT: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81";
        assert_eq!(head_length(good), Head::Accepted(good.len() - 1));
        assert_eq!(head_length(&good[..good.len() - 2]), Head::Partial);
        assert_eq!(head_length(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Head::Refused);
        assert_eq!(head_length(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), Head::Refused);
        assert_eq!(head_length(&[b'x'; HEAD_BYTES_MAX]), Head::Refused);
    }

    #[test]
    fn many_connections_leave_from_several_addresses() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(source(local, 9_999), None);
        assert_eq!(source(local, 10_000), Some("127.0.0.2".parse().unwrap()));
        assert_eq!(source(local, 255 * 10_000), Some("127.0.1.0".parse().unwrap()));
        assert_eq!(source("::1".parse().unwrap(), 10_000), None);
        assert_eq!(source("10.0.0.1".parse().unwrap(), 10_000), None);
    }
}
