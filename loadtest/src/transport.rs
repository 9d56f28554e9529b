//! A socket that does not block, plain or with TLS between it and the frames.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use rustls::{ClientConnection, Stream};

/// What a connection reads and writes.
#[derive(Debug)]
pub(crate) struct Transport {
    /// The socket, for registration.
    pub(crate) stream: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Transport {
    /// On a socket that may still be connecting.
    pub(crate) fn new(stream: TcpStream, session: Option<ClientConnection>) -> Self {
        Self { stream, session: session.map(Box::new) }
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.stream.read(buffer),
            Some(session) => Stream::new(&mut **session, &mut self.stream).read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.stream.write(bytes),
            Some(session) => Stream::new(&mut **session, &mut self.stream).write(bytes),
        }
    }

    /// Writes the records that are made and not sent; there are none without TLS.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            None => Ok(()),
            Some(session) => Stream::new(&mut **session, &mut self.stream).flush(),
        }
    }
}
