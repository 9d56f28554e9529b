//! One client's TLS: records in, plain bytes out, and back.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use rustls::unbuffered::{UnbufferedStatus, WriteTraffic};
use rustls::{HandshakeKind, ProtocolVersion};

use crate::conn::outbox::{Outbox, Piece, arena_range};

use super::client::Client;
use super::failure::Failure;
use super::terms::{Terms, Version};

/// Plain bytes of one connection that become records in one turn.
pub const SEALED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a record and of a handshake message that may wait for their rest: one record of the
/// largest size, and more than any hello or client's chain.
const CARRY_BYTES_MAX: usize = 20 * 1024;

/// What rustls allocates for one session of TLS 1.3, as measured with idle connections: keys, names,
/// secrets for tickets. It does not say how much it is.
const RUSTLS_BYTES: usize = 3_000;

/// Plain bytes in a record, and what a record adds to them at most.
const RECORD_BYTES: (usize, usize) = (16 * 1024, 40);

/// A fatal alert for a hello that is too long, which no key protects yet (RFC 8446 section 6).
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

/// TLS of one connection.
///
/// When nothing is under way it owns no buffers.
pub struct Tls {
    session: UnbufferedServerConnection,
    /// Received bytes that are not a whole record or handshake message yet.
    carry: Vec<u8>,
    /// Records that are to be sent before any others.
    pending: Vec<u8>,
    /// The rest of a frame whose beginning was sealed.
    opened: Option<Bytes>,
    phase: Phase,
    /// The peer has sent close_notify.
    peer_closed: bool,
    /// Our close_notify is among the pending records, or sent.
    closed: bool,
    client: Option<Box<Client>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The handshake goes on since then.
    Handshaking(Instant),
    /// Plain bytes go both ways.
    Open,
    /// Nothing comes or goes any more but a last alert.
    Failed,
}

/// What came of received bytes, beside plain ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The handshake is complete.
    pub established: Option<Established>,
    /// The peer sends nothing more: close_notify has come.
    pub closed: bool,
    /// TLS has failed; an alert for the peer is pending.
    pub failure: Option<Failure>,
}

/// A handshake that was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// The version agreed on.
    pub version: Version,
    /// Whether an earlier session was taken up again.
    pub resumption: Resumption,
    /// When it began.
    pub since: Instant,
}

/// Whether a handshake took up an earlier session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// It did not.
    Full,
    /// It did.
    Resumed,
}

impl Tls {
    /// A handshake that begins now.
    ///
    /// # Panics
    /// If rustls does not take its own configuration, which it has accepted before.
    pub(super) fn new(terms: &Terms, now: Instant) -> Self {
        let session = UnbufferedServerConnection::new(terms.config());
        Self {
            session: session.expect("terms that were accepted make sessions"),
            carry: Vec::new(),
            pending: Vec::new(),
            opened: None,
            phase: Phase::Handshaking(now),
            peer_closed: false,
            closed: false,
            client: None,
        }
    }

    /// Whether the handshake is not complete yet.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::Handshaking(_))
    }

    /// Whether it has failed: what comes now is not TLS to anybody.
    pub fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    /// Whether nothing waits here to be sent.
    pub fn is_clear(&self) -> bool {
        self.pending.is_empty() && self.opened.is_none()
    }

    /// Whether the peer has said that it sends nothing more.
    pub fn has_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// The client, if it has shown a certificate.
    pub fn client(&self) -> Option<&Client> {
        self.client.as_deref()
    }

    /// Memory that this takes, with an estimate of what rustls allocates for itself.
    pub fn heap_bytes(&self) -> usize {
        let client = self.client.as_ref().map_or(0, |client| client.heap_bytes());
        let own = size_of::<Self>() + client;
        own + RUSTLS_BYTES + self.buffer_bytes() + self.opened_bytes()
    }

    /// Memory of the records that wait to be read or sent.
    pub fn buffer_bytes(&self) -> usize {
        self.carry.capacity() + self.pending.capacity()
    }

    /// Keeps handshake bytes for a [`Tls::resume`]. Returns [`Failure::TooLarge`] when they are more
    /// than any handshake has.
    pub fn hold(&mut self, input: &[u8]) -> Option<Failure> {
        self.carry.extend_from_slice(input);
        (self.carry.len() > CARRY_BYTES_MAX).then(|| self.fail(Failure::TooLarge))
    }

    /// Takes received bytes; plain ones are appended to `plain`.
    ///
    /// `input` is decrypted where it lies.
    pub fn receive(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> Heard {
        if self.phase == Phase::Failed || self.peer_closed {
            return Heard::default();
        }
        if self.carry.is_empty() {
            let (used, heard) = self.process(input, plain);
            return self.keep(&input[used..], heard);
        }
        self.carry.extend_from_slice(input);
        self.resume(plain)
    }

    /// Goes on with bytes that were held.
    pub fn resume(&mut self, plain: &mut Vec<u8>) -> Heard {
        let mut carry = std::mem::take(&mut self.carry);
        let (used, heard) = self.process(&mut carry, plain);
        if used == 0 {
            self.carry = carry;
            return self.keep(&[], heard);
        }
        self.keep(&carry[used..], heard)
    }

    /// Carries what is left over, unless it will never be needed.
    fn keep(&mut self, rest: &[u8], mut heard: Heard) -> Heard {
        if heard.failure.is_some() || self.peer_closed {
            self.carry = Vec::new();
            return heard;
        }
        self.carry.extend_from_slice(rest);
        if self.carry.len() > CARRY_BYTES_MAX {
            heard.failure = Some(self.fail(Failure::TooLarge));
        }
        heard
    }

    /// Ends TLS; returns `failure`. What was pending before can still be sent.
    pub fn fail(&mut self, failure: Failure) -> Failure {
        let is_unprotected = self.is_handshaking() && self.session.protocol_version().is_none();
        if is_unprotected && failure == Failure::TooLarge {
            self.pending.extend_from_slice(&DECODE_ERROR);
        }
        self.carry = Vec::new();
        self.opened = None;
        self.phase = Phase::Failed;
        failure
    }

    /// Processes records from the front of `buffer`; returns how many bytes were used up.
    fn process(&mut self, buffer: &mut [u8], plain: &mut Vec<u8>) -> (usize, Heard) {
        let mut used = 0;
        let mut heard = Heard::default();
        // After an error there is only the alert to be fetched: to look at the record again is
        // forbidden.
        while heard.failure.is_none() || self.session.wants_write() {
            let UnbufferedStatus { mut discard, state } =
                self.session.process_tls_records(&mut buffer[used..]);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.pending, |out| {
                        data.encode(out).map_err(|error| missing_to_encode(&error))
                    });
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    heard.closed = true;
                    true
                }
                // Behind our close_notify there is no alert.
                Err(error) => {
                    heard.failure.replace(Failure::from(&error)).is_none() && !self.closed
                }
                Ok(_) => false,
            };
            used += discard;
            if !goes_on {
                break;
            }
        }
        self.peer_closed |= heard.closed;
        if heard.failure.is_some() {
            self.opened = None;
            self.phase = Phase::Failed;
        } else if let Phase::Handshaking(since) = self.phase
            && !self.session.is_handshaking()
        {
            self.phase = Phase::Open;
            heard.established = Some(self.established(since));
        }
        (used, heard)
    }

    fn established(&mut self, since: Instant) -> Established {
        let chain = self.session.peer_certificates().filter(|chain| !chain.is_empty());
        self.client = chain.map(|chain| Box::new(Client::of(chain)));
        Established {
            version: match self.session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
                _ => Version::Tls12,
            },
            resumption: match self.session.handshake_kind() {
                Some(HandshakeKind::Resumed) => Resumption::Resumed,
                _ => Resumption::Full,
            },
            since,
        }
    }

    /// Says that we send nothing more, once. Nothing is said before the handshake is complete.
    pub fn close(&mut self) {
        if self.closed || self.phase != Phase::Open || self.opened.is_some() {
            return;
        }
        self.closed = true;
        let Self { session, carry, pending, .. } = self;
        writing(session, carry, |traffic| {
            append(pending, |out| {
                traffic.queue_close_notify(out).map_err(|error| missing_to_encrypt(&error))
            });
        });
    }

    /// Bytes that were taken from the outbox and are not sealed: the rest of a frame that is too large
    /// for one turn.
    pub fn opened_bytes(&self) -> usize {
        self.opened.as_ref().map_or(0, Bytes::len)
    }

    /// Whether a frame was sealed in part: nothing may come between that and its rest.
    pub fn is_mid_frame(&self) -> bool {
        self.opened.is_some()
    }

    /// Takes what one send of this turn is to carry: the pending records, and those of the front of
    /// the outbox, written to the end of `arena`.
    ///
    /// Errors: [`Failure`]; nothing can be sent any more.
    pub fn take_flight(
        &mut self,
        outbox: &mut Outbox,
        arena: &mut Vec<u8>,
    ) -> Result<Option<Piece>, Failure> {
        let mut plain = match self.opened.take() {
            Some(rest) => Some(Piece::Frame(Rc::new(rest))),
            None => outbox.take_flight(arena),
        };
        if let Some(whole) = plain.take_if(|whole| whole.len() > SEALED_BYTES_MAX) {
            let bytes = whole.into_owned(0, arena);
            plain = Some(Piece::Frame(Rc::new(self.open(bytes))));
        }
        let start = arena.len();
        arena.extend_from_slice(&std::mem::take(&mut self.pending));
        match plain {
            Some(Piece::Frame(frame) | Piece::Own(frame)) => self.seal(&frame, arena)?,
            Some(Piece::Turn(range)) => {
                // The plain bytes lie in front of the room for their records.
                let room = room_for(range.len());
                let end = arena.len();
                arena.resize(end + room, 0);
                let (before, after) = arena.split_at_mut(end);
                let plain = &before[range.start as usize..range.end as usize];
                let written = self.encrypt(plain, after)?;
                arena.truncate(end + written);
            }
            None => {}
        }
        let flight = arena_range(start, arena.len());
        Ok((!flight.is_empty()).then_some(Piece::Turn(flight)))
    }

    /// Takes the pending records, and those of the rest of a frame, else of `fresh` bytes.
    ///
    /// Errors: [`Failure`]; nothing can be sent any more.
    pub fn seal_owned(&mut self, fresh: Option<Bytes>) -> Result<Vec<u8>, Failure> {
        debug_assert!(self.opened.is_none() || fresh.is_none(), "a frame inside another");
        let mut records = std::mem::take(&mut self.pending);
        if let Some(plain) = self.opened.take().or(fresh) {
            let part = self.open(plain);
            self.seal(&part, &mut records)?;
        }
        Ok(records)
    }

    /// The part of `plain` that one turn may seal; the rest is kept.
    fn open(&mut self, mut plain: Bytes) -> Bytes {
        if plain.len() > SEALED_BYTES_MAX {
            self.opened = Some(plain.split_off(SEALED_BYTES_MAX));
        }
        plain
    }

    /// Appends the records of `plain` to `records`.
    fn seal(&mut self, plain: &[u8], records: &mut Vec<u8>) -> Result<(), Failure> {
        let end = records.len();
        records.resize(end + room_for(plain.len()), 0);
        let written = self.encrypt(plain, &mut records[end..])?;
        records.truncate(end + written);
        Ok(())
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Failure> {
        let Self { session, carry, .. } = self;
        let written = writing(session, carry, |traffic| traffic.encrypt(plain, out));
        match written {
            Some(Ok(written)) => Ok(written),
            Some(Err(EncryptError::EncryptExhausted)) => Err(self.fail(Failure::WornOut)),
            Some(Err(EncryptError::InsufficientSize(_))) | None => {
                Err(self.fail(Failure::Internal))
            }
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// Lets `write` write, if that is possible; the received bytes in `carry` are not touched.
fn writing<T>(
    session: &mut UnbufferedServerConnection,
    carry: &mut [u8],
    write: impl FnOnce(&mut WriteTraffic<'_, rustls::server::ServerConnectionData>) -> T,
) -> Option<T> {
    match session.process_tls_records(carry).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => Some(write(&mut traffic)),
        _ => None,
    }
}

/// Enough for the records of `len` plain bytes, and for a change of keys before them.
fn room_for(len: usize) -> usize {
    let (plain, more) = RECORD_BYTES;
    len + (len.div_ceil(plain) + 2) * more
}

/// Appends what `write` writes, which at first tells how much room it needs.
fn append(out: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let start = out.len();
    if let Err(required) = write(&mut []) {
        out.resize(start + required, 0);
        let written = write(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}

fn missing_to_encode(error: &EncodeError) -> usize {
    match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => *required_size,
        EncodeError::AlreadyEncoded => 0,
    }
}

fn missing_to_encrypt(error: &EncryptError) -> usize {
    match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => *required_size,
        EncryptError::EncryptExhausted => 0,
    }
}
