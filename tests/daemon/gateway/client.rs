//! A client that does whatever it is told.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::clock::now;
use super::frame::{self, CLOSE, FIN, Frame, PING, RSV1, TEXT};
use crate::deflate;

/// The key and its answer in RFC 6455 section 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One TCP connection, perhaps with TLS.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    inbox: Vec<u8>,
}

/// What comes next from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Frame(Frame),
    /// FIN.
    Fin,
    /// RST.
    Reset,
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A good opening request for `path` with additional header lines, each with its CR LF.
pub(crate) fn request(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect_timeout(&address, PATIENCE).expect("the gateway accepts"))
    }

    /// A connection, if anybody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::of(TcpStream::connect_timeout(&address, PATIENCE)?))
    }

    /// A connection that holds at most about `bytes` which it has not read.
    pub(crate) fn connect_narrow(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets");
        socket.set_recv_buffer_size(bytes).expect("buffers can be small");
        socket.connect(&address.into()).expect("the gateway accepts");
        Self::of(socket.into())
    }

    /// A connection from an address of this machine.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        Self::try_connect_from(source, address).expect("the gateway accepts")
    }

    /// A connection from an address of this machine, if it is not reset at once.
    pub(crate) fn try_connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("it is a loopback address");
        socket.connect(&address.into())?;
        Ok(Self::of(socket.into()))
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("it is a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("it is a TCP socket");
        Self { stream, tls: None, inbox: Vec::new() }
    }

    /// Does the TLS handshake, and speaks TLS from now on.
    ///
    /// Errors: what rustls or the socket says.
    pub(crate) fn begin_tls(mut self, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("names are DNS names");
        let mut tls = ClientConnection::new(config, name).expect("the configuration is good");
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// What was agreed on in the TLS handshake.
    pub(crate) fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("it has TLS")
    }

    /// Says goodbye in TLS.
    pub(crate) fn send_close_notify(&mut self) {
        self.tls().send_close_notify();
        let Self { stream, tls, .. } = self;
        tls.as_mut().expect("it has TLS").write_tls(stream).expect("the gateway reads");
    }

    /// Sends bytes below TLS.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway reads");
    }

    /// The opening handshake.
    pub(crate) fn upgrade(&mut self, path: &str) {
        self.send(request(path, "").as_bytes());
        self.expect_upgrade();
    }

    pub(crate) fn expect_upgrade(&mut self) -> Response {
        let response = self.read_response();
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        response
    }

    /// Its address, as the gateway sees it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the server does not take them.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the gateway reads");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).write_all(bytes),
        }
    }

    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send(&frame::frame(first, payload));
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_frame(FIN | TEXT, text.as_bytes());
    }

    pub(crate) fn send_close(&mut self, code: u16) {
        self.send(&frame::close(code, b""));
    }

    pub(crate) fn read_response(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.inbox.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().is_ok_and(|n| n > 0), "no response: {:?}", self.inbox);
        };
        let head = String::from_utf8(self.inbox.drain(..end).collect()).expect("heads are ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| digits.parse().ok()).expect("a status line");
        let headers = lines.map(|line| line.split_once(": ").expect("name and value"));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let mut response = Response { status, headers: headers.collect(), body: Vec::new() };
        let len = response.header("content-length").map_or(0, |len| len.parse().expect("a number"));
        while self.inbox.len() < len {
            assert!(self.fill().is_ok_and(|n| n > 0), "the body is cut: {response:?}");
        }
        response.body = self.inbox.drain(..len).collect();
        response
    }

    /// The next frame or the end.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            if let Some(frame) = frame::take(&mut self.inbox) {
                return Next::Frame(frame);
            }
            match self.fill() {
                Ok(0) => {
                    assert!(self.inbox.is_empty(), "cut: {:02x?}", self.inbox);
                    return Next::Fin;
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Next::Reset,
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    pub(crate) fn read_frame(&mut self) -> Frame {
        match self.next() {
            Next::Frame(frame) => frame,
            end => panic!("{end:?} instead of a frame"),
        }
    }

    /// The next text message; answers pings.
    pub(crate) fn read_text(&mut self) -> String {
        loop {
            let Frame { first, payload } = self.read_frame();
            if first == FIN | PING {
                self.send_frame(FIN | frame::PONG, &payload);
                continue;
            }
            assert_eq!(first, FIN | TEXT, "{payload:02x?}");
            return String::from_utf8(payload).expect("text is UTF-8");
        }
    }

    /// Sends a text message, compressed, alone.
    pub(crate) fn send_compressed(&mut self, text: &str) {
        self.send_frame(FIN | RSV1 | TEXT, &deflate::compress(text.as_bytes()));
    }

    /// The next message, which must be a text and compressed.
    pub(crate) fn read_compressed(&mut self) -> String {
        let Frame { first, payload } = self.read_frame();
        assert_eq!(first, FIN | RSV1 | TEXT, "{payload:02x?}");
        String::from_utf8(deflate::inflate(&payload)).expect("text is UTF-8")
    }

    /// Reads up to the server's Close; returns its code, if any, and reason.
    pub(crate) fn read_close(&mut self) -> (Option<u16>, String) {
        loop {
            let Frame { first, payload } = self.read_frame();
            if first != FIN | CLOSE {
                continue;
            }
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            let reason = payload.get(2..).unwrap_or_default().to_vec();
            return (code, String::from_utf8(reason).expect("reasons are UTF-8"));
        }
    }

    /// Reads the server's Close, which must be the next frame, and the FIN behind it.
    pub(crate) fn expect_close(&mut self, code: u16) {
        let frame = self.read_frame();
        assert_eq!(frame.first, FIN | CLOSE, "instead of {code}: {frame:02x?}");
        let sent = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        assert_eq!(sent, Some(code), "{}", String::from_utf8_lossy(&frame.payload));
        assert_eq!(self.next(), Next::Fin, "after {code}");
    }

    /// Whether nothing comes for a while.
    pub(crate) fn is_silent_for(&mut self, wait: Duration) -> bool {
        self.stream.set_read_timeout(Some(wait)).expect("it is a TCP socket");
        let read = self.fill();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("it is a TCP socket");
        read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Reads to the end, throwing all away; returns how it ended.
    pub(crate) fn drain(&mut self) -> Next {
        let deadline = now() + PATIENCE;
        loop {
            self.inbox.clear();
            assert!(now() < deadline, "the connection does not end");
            match self.fill() {
                Ok(0) => return Next::Fin,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Next::Reset,
                Err(error) => panic!("the connection does not end: {error}"),
            }
        }
    }

    /// Reads at most `count` bytes and throws them away.
    pub(crate) fn read_some(&mut self, count: usize) {
        let read = self.stream.read(&mut vec![0; count]);
        assert!(read.is_ok_and(|n| n > 0), "nothing comes");
    }

    /// Reads whatever comes next; the end is an error too.
    pub(crate) fn try_read(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// What the socket or TLS says is wrong when reading on.
    pub(crate) fn read_error(&mut self) -> String {
        loop {
            match self.fill() {
                Ok(0) => return "an orderly end".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    }

    /// All bytes up to the end, as far as they came.
    pub(crate) fn read_all(&mut self) -> Vec<u8> {
        while let Ok(1..) = self.fill() {}
        std::mem::take(&mut self.inbox)
    }

    /// Sends FIN; reading goes on.
    pub(crate) fn finish_writing(&self) {
        // It may have been reset by now.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Goes with RST.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("it is a TCP socket");
    }

    /// A second handle, for a thread that only writes.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("descriptors can be doubled")
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let read = match &mut self.tls {
            None => self.stream.read(&mut chunk)?,
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).read(&mut chunk)?,
        };
        self.inbox.extend_from_slice(&chunk[..read]);
        Ok(read)
    }
}
