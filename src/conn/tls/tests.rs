//! TLS as a client sees it: rustls's own client over pipes in memory.

use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption as ClientResumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls::{HandshakeKind, NamedGroup, SupportedProtocolVersion};

use super::certificate::{Certificate, Part};
use super::failure::Failure;
use super::offer::Offer;
use super::session::{Heard, Resumption, SEALED_BYTES_MAX, Tls};
use super::terms::{ClientAuth, PostQuantum, Settings, Terms, Version};
use crate::conn::outbox::{self, Outbox, Piece};

const BOTH: Settings = Settings { min_version: Version::Tls12, post_quantum: PostQuantum::On };

const LIMITS: outbox::Settings = outbox::Settings {
    bytes_max: 1 << 20,
    soft_bytes_max: 1 << 20,
    soft_timeout: Duration::from_secs(5),
    stall_timeout: Duration::from_secs(10),
};

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

/// An authority and what it signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// PEM texts of a chain and its key.
pub(crate) struct Pem {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn sign(&self, names: &[&str]) -> Pem {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
                .unwrap();
        params.distinguished_name.push(DnType::CommonName, "somebody");
        let signed = params.signed_by(&key, &self.0).unwrap();
        Pem { chain: signed.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Pem {
    fn certificate(&self) -> Certificate {
        Certificate::read(self.chain.as_bytes(), self.key.as_bytes(), None).unwrap()
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (chain.map(Result::unwrap).collect(), key)
    }
}

fn versions(version: Version) -> &'static [&'static SupportedProtocolVersion] {
    const TLS12_ONLY: &[&SupportedProtocolVersion] = &[&TLS12];
    const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
    match version {
        Version::Tls12 => TLS12_ONLY,
        Version::Tls13 => TLS13_ONLY,
    }
}

/// How a client goes about it.
#[derive(Clone)]
struct Wishes {
    version: Version,
    alpn: &'static [&'static str],
}

const USUAL: Wishes = Wishes { version: Version::Tls13, alpn: &["http/1.1"] };

fn client_config(authority: &Authority, wishes: &Wishes, own: Option<&Pem>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(wishes.version))
        .unwrap()
        .with_root_certificates(authority.roots());
    let mut config = match own.map(Pem::der) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = wishes.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.resumption = ClientResumption::in_memory_sessions(8);
    Arc::new(config)
}

/// A client and a server with wires between them.
struct Pair {
    client: ClientConnection,
    server: Tls,
    outbox: Outbox,
    /// Plain bytes that the client has got.
    read: Vec<u8>,
    /// Plain bytes that the server has got.
    got: Vec<u8>,
    heard: Vec<Heard>,
    /// Bytes that reach the server at once.
    chunk: usize,
}

impl Pair {
    fn new(terms: Terms, config: &Arc<ClientConfig>, name: &'static str) -> Self {
        let offer = Offer::new(Arc::new(terms));
        let name = ServerName::try_from(name).unwrap();
        Self {
            client: ClientConnection::new(Arc::clone(config), name).unwrap(),
            server: offer.begin(now()),
            outbox: Outbox::default(),
            read: Vec::new(),
            got: Vec::new(),
            heard: Vec::new(),
            chunk: usize::MAX,
        }
    }

    /// A pair that gets on with each other.
    fn usual(version: Version) -> Self {
        let authority = Authority::new();
        let certificate = authority.sign(&["a.test"]).certificate();
        let terms = Terms::new(BOTH, &[certificate], ClientAuth::None, None).unwrap();
        let wishes = Wishes { version, ..USUAL };
        Self::new(terms, &client_config(&authority, &wishes, None), "a.test")
    }

    fn established(mut self) -> Self {
        self.settle().unwrap();
        assert!(self.heard.iter().any(|heard| heard.established.is_some()), "{:?}", self.heard);
        self.heard.clear();
        self
    }

    fn give(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(self.chunk.min(bytes.len().max(1))) {
            let mut chunk = chunk.to_vec();
            let heard = self.server.receive(&mut chunk, &mut self.got);
            if heard != Heard::default() {
                self.heard.push(heard);
            }
        }
    }

    /// What the server sends in one turn.
    fn flight(&mut self) -> Vec<u8> {
        let mut arena = b"something else in the arena".to_vec();
        let flight = self.server.take_flight(&mut self.outbox, &mut arena).unwrap();
        flight.map_or_else(Vec::new, |flight| flight.bytes(&arena).to_vec())
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets()?;
            // Ends with WouldBlock.
            let _ = self.client.reader().read_to_end(&mut self.read);
        }
        Ok(())
    }

    fn sent_by_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Carries bytes until nobody has any.
    fn settle(&mut self) -> Result<(), rustls::Error> {
        loop {
            let up = self.sent_by_client();
            self.give(&up);
            let down = self.flight();
            self.take(&down)?;
            if up.is_empty() && down.is_empty() {
                return Ok(());
            }
        }
    }

    fn queue(&mut self, bytes: &[u8]) {
        let piece = Piece::Frame(Rc::new(Bytes::copy_from_slice(bytes)));
        let _ = self.outbox.push(piece, &[], &LIMITS);
    }

    fn client_reads(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    fn failure(&self) -> Option<Failure> {
        self.heard.iter().find_map(|heard| heard.failure)
    }
}

fn text(len: usize) -> Vec<u8> {
    // A prime period: a shifted or repeated piece does not look like the original.
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn both_versions_speak_and_idle_connections_own_no_buffers() {
    for expected in [Version::Tls12, Version::Tls13] {
        let mut pair = Pair::usual(expected);
        assert!(pair.server.is_handshaking());
        pair.settle().unwrap();
        let established = pair.heard.iter().find_map(|heard| heard.established).unwrap();
        assert_eq!((established.version, established.resumption), (expected, Resumption::Full));
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());
        pair.client.writer().write_all(&text(40_000)).unwrap();
        pair.queue(&text(1000));
        pair.settle().unwrap();
        assert!(pair.got == text(40_000));
        assert!(pair.client_reads() == text(1000));
        assert_eq!(pair.server.buffer_bytes(), 0);
        assert!(pair.server.is_clear() && pair.outbox.is_clear());
    }
}

#[test]
fn bytes_may_come_in_any_portions() {
    for chunk in (1..24).chain([61, 250, 1000]) {
        for version in [Version::Tls12, Version::Tls13] {
            let mut pair = Pair::usual(version);
            pair.chunk = chunk;
            let mut pair = pair.established();
            pair.client.writer().write_all(&text(3000)).unwrap();
            pair.queue(b"down");
            pair.settle().unwrap();
            assert!(pair.got == text(3000), "{chunk}");
            assert_eq!(pair.client_reads(), b"down", "{chunk}");
            assert_eq!(pair.server.buffer_bytes(), 0, "{chunk}");
        }
    }
}

#[test]
fn records_of_one_byte_are_joined() {
    let mut pair = Pair::usual(Version::Tls13).established();
    let mut up = Vec::new();
    for byte in text(2000) {
        pair.client.writer().write_all(&[byte]).unwrap();
        up.extend(pair.sent_by_client());
    }
    assert!(up.len() > 2000 * 20);
    pair.give(&up);
    assert!(pair.got == text(2000));
}

#[test]
fn a_hello_in_many_records_is_understood() {
    let mut pair = Pair::usual(Version::Tls13);
    let hello = pair.sent_by_client();
    assert_eq!(hello[0], 22);
    for byte in &hello[5..] {
        pair.give(&[22, 3, 1, 0, 1, *byte]);
    }
    assert_eq!(pair.heard, []);
    pair.settle().unwrap();
    assert!(!pair.client.is_handshaking());
}

#[test]
fn one_turn_seals_at_most_64_kib() {
    let mut pair = Pair::usual(Version::Tls13).established();
    pair.queue(&text(200_000));
    pair.queue(b"last");
    let mut turns = 0;
    let mut got = Vec::new();
    while !(pair.outbox.is_clear() && pair.server.is_clear()) {
        let flight = pair.flight();
        assert!(flight.len() > SEALED_BYTES_MAX || turns == 3 || pair.outbox.is_clear());
        assert!(flight.len() < SEALED_BYTES_MAX + 200);
        pair.take(&flight).unwrap();
        got.extend(pair.client_reads());
        turns += 1;
    }
    assert_eq!(turns, 5);
    assert!(got == [text(200_000), b"last".to_vec()].concat());
    assert_eq!(pair.outbox.bytes(), 0);
}

#[test]
fn a_client_that_asks_for_new_keys_understands_what_comes_next() {
    let mut pair = Pair::usual(Version::Tls13).established();
    for round in 0..40_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round]).unwrap();
        let up = pair.sent_by_client();
        pair.give(&up);
        pair.queue(&[round; 3]);
        let down = pair.flight();
        pair.take(&down).unwrap();
        assert_eq!(pair.client_reads(), [round; 3]);
    }
    assert_eq!(pair.got.len(), 40);
    assert_eq!(pair.heard, []);
}

#[test]
fn a_flood_of_key_updates_is_ended() {
    let mut pair = Pair::usual(Version::Tls13).established();
    for _ in 0..100 {
        pair.client.refresh_traffic_keys().unwrap();
        let up = pair.sent_by_client();
        pair.give(&up);
    }
    assert_eq!(pair.failure(), Some(Failure::Misbehaved));
    assert!(pair.server.buffer_bytes() < 4096, "{}", pair.server.buffer_bytes());
    assert_eq!(pair.flight(), b"");
}

#[test]
fn goodbyes_are_said_and_heard() {
    let mut pair = Pair::usual(Version::Tls13).established();
    pair.client.writer().write_all(b"bye").unwrap();
    pair.client.send_close_notify();
    let up = pair.sent_by_client();
    pair.give(&up);
    assert_eq!(pair.got, b"bye");
    assert_eq!(pair.heard, [Heard { closed: true, ..Heard::default() }]);
    // What comes behind it is nobody's business, and is not kept.
    pair.give(&[23; 5000]);
    assert!(pair.server.has_peer_closed() && pair.server.buffer_bytes() == 0);
    pair.queue(b"answer");
    let down = pair.flight();
    pair.server.close();
    pair.server.close();
    let end = pair.flight();
    assert!(!end.is_empty());
    pair.take(&down).unwrap();
    pair.take(&end).unwrap();
    assert_eq!(pair.client_reads(), b"answer");
    // Without an error: the close was clean.
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0);
}

#[test]
fn nothing_is_said_before_the_handshake_is_complete() {
    let mut pair = Pair::usual(Version::Tls13);
    pair.server.close();
    assert_eq!(pair.flight(), b"");
}

#[test]
fn goodbyes_instead_of_a_hello_fail_the_handshake() {
    let mut pair = Pair::usual(Version::Tls13);
    let mut sent = 0;
    while pair.failure().is_none() {
        pair.give(&[21, 3, 1, 0, 2, 1, 0]);
        sent += 1;
        assert!(sent < 10);
    }
    assert_eq!(pair.failure(), Some(Failure::Misbehaved));
    assert!(pair.got.is_empty() && pair.server.buffer_bytes() == 0);
}

#[test]
fn what_is_no_tls_gets_an_alert() {
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], &[22, 3, 1, 255, 255, 1], &[0; 64]]
    {
        let mut pair = Pair::usual(Version::Tls13);
        pair.give(bytes);
        assert_eq!(pair.failure(), Some(Failure::Malformed), "{bytes:?}");
        let alert = pair.flight();
        assert_eq!((alert[0], alert[5]), (21, 2), "fatal: {alert:?}");
        assert!(pair.server.has_failed() && pair.server.buffer_bytes() == 0);
    }
}

#[test]
fn a_handshake_message_without_an_end_is_given_up() {
    let mut pair = Pair::usual(Version::Tls13);
    // A hello that announces 65,535 bytes, in records of 1 KiB.
    let mut most = 0;
    let mut first = [&[22, 3, 1, 4, 0][..], &[1, 0, 255, 255], &[0; 1020]].concat();
    for _ in 0..64 {
        pair.give(&first);
        most = most.max(pair.server.buffer_bytes());
        first = [&[22, 3, 1, 4, 0][..], &[0; 1024]].concat();
    }
    assert_eq!(pair.failure(), Some(Failure::TooLarge));
    assert!(most <= 41 * 1024, "{most}");
    assert_eq!(pair.flight(), [21, 3, 3, 0, 2, 2, 50]);
}

#[test]
fn a_changed_record_fails_and_is_told() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut pair = Pair::usual(version).established();
        pair.client.writer().write_all(b"good").unwrap();
        let good = pair.sent_by_client();
        pair.client.writer().write_all(b"evil").unwrap();
        let mut evil = pair.sent_by_client();
        let last = evil.len() - 1;
        evil[last] ^= 1;
        pair.give(&[good, evil].concat());
        assert_eq!(pair.got, b"good");
        assert_eq!(pair.failure(), Some(Failure::BadRecord));
        let alert = pair.flight();
        let told = pair.take(&alert);
        assert!(matches!(told, Err(rustls::Error::AlertReceived(_))), "{told:?}");
    }
}

#[test]
fn behind_our_goodbye_nothing_is_said_about_what_is_no_record() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut pair = Pair::usual(version).established();
        pair.server.close();
        let goodbye = pair.flight();
        pair.give(&[23, 3, 3, 0, 32].into_iter().chain([7; 32]).collect::<Vec<_>>());
        assert_eq!(pair.failure(), Some(Failure::BadRecord), "{version:?}");
        assert_eq!(pair.flight(), b"", "an alert behind close_notify");
        pair.take(&goodbye).unwrap();
    }
}

#[test]
fn names_choose_certificates() {
    let authority = Authority::new();
    let names: [&[&str]; 3] = [&["a.test"], &["*.b.test", "b.test"], &["c.b.test"]];
    let signed = names.map(|names| authority.sign(names));
    let certificates = signed.each_ref().map(Pem::certificate);
    for (name, index) in [
        ("a.test", 0),
        ("b.test", 1),
        ("x.b.test", 1),
        ("c.b.test", 2),
        ("X.B.TEST", 1),
        ("y.x.b.test", 0),
        ("elsewhere.test", 0),
    ] {
        let terms = Terms::new(BOTH, &certificates, ClientAuth::None, None).unwrap();
        let config = trusting_all(&USUAL);
        let mut pair = Pair::new(terms, &config, name).established();
        let shown = pair.client.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, signed[index].der().0[0], "{name}");
        pair.queue(b"x");
        pair.settle().unwrap();
        assert_eq!(pair.client_reads(), b"x");
    }
}

/// A client that takes any certificate.
fn trusting_all(wishes: &Wishes) -> Arc<ClientConfig> {
    #[derive(Debug)]
    struct Gullible;

    impl ServerCertVerifier for Gullible {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            ocsp: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            assert!(ocsp.is_empty() || ocsp == b"stapled");
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(wishes.version))
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn only_http_1_1_is_spoken() {
    let authority = Authority::new();
    for (alpn, spoken) in [
        (&["http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["h2", "http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let certificate = authority.sign(&["a.test"]).certificate();
        let terms = Terms::new(BOTH, &[certificate], ClientAuth::None, None).unwrap();
        let alpn: &'static [&'static str] = Box::leak(alpn.to_vec().into_boxed_slice());
        let config = client_config(&authority, &Wishes { alpn, ..USUAL }, None);
        let pair = Pair::new(terms, &config, "a.test").established();
        assert_eq!(pair.client.alpn_protocol(), spoken);
    }
    let certificate = authority.sign(&["a.test"]).certificate();
    let terms = Terms::new(BOTH, &[certificate], ClientAuth::None, None).unwrap();
    let config = client_config(&authority, &Wishes { alpn: &["h2"], ..USUAL }, None);
    let mut pair = Pair::new(terms, &config, "a.test");
    let told = pair.settle();
    let alert = rustls::AlertDescription::NoApplicationProtocol;
    assert_eq!(told, Err(rustls::Error::AlertReceived(alert)));
    assert_eq!(pair.failure(), Some(Failure::Alpn));
}

#[test]
fn an_old_version_is_refused_where_it_is_not_spoken() {
    let authority = Authority::new();
    let settings = Settings { min_version: Version::Tls13, ..BOTH };
    let certificate = authority.sign(&["a.test"]).certificate();
    let terms = Terms::new(settings, &[certificate], ClientAuth::None, None).unwrap();
    let config = client_config(&authority, &Wishes { version: Version::Tls12, ..USUAL }, None);
    let mut pair = Pair::new(terms, &config, "a.test");
    assert!(pair.settle().is_err());
    assert_eq!(pair.failure(), Some(Failure::Incompatible));
}

#[test]
fn clients_show_certificates_as_they_are_asked() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let known = authority.sign(&["client.test"]);
    let unknown = stranger.sign(&["client.test"]);
    let asked = authority.pem().into_bytes();
    let optional = ClientAuth::Optional(asked.clone());
    let required = ClientAuth::Required(asked);
    for version in [Version::Tls12, Version::Tls13] {
        for (auth, own, known_as, failure) in [
            (&ClientAuth::None, Some(&known), None, None),
            (&optional, None, None, None),
            (&optional, Some(&known), Some("somebody"), None),
            (&optional, Some(&unknown), None, Some(Failure::ClientCertificate)),
            (&required, Some(&known), Some("somebody"), None),
            (&required, None, None, Some(Failure::ClientCertificate)),
            (&required, Some(&unknown), None, Some(Failure::ClientCertificate)),
        ] {
            let certificate = authority.sign(&["a.test"]).certificate();
            let terms = Terms::new(BOTH, &[certificate], auth.clone(), None).unwrap();
            let config = client_config(&authority, &Wishes { version, ..USUAL }, own);
            let mut pair = Pair::new(terms, &config, "a.test");
            let settled = pair.settle();
            assert_eq!(pair.failure(), failure, "{auth:?} {settled:?}");
            let client = pair.server.client();
            assert_eq!(client.and_then(|client| client.common_name.as_deref()), known_as);
            if let Some(client) = client {
                assert_eq!(client.names[..], [Box::from("client.test")]);
                assert_ne!(client.fingerprint, [0; 32]);
                // What it has shown is kept, and weighed.
                let shown: usize = known.der().0.iter().map(|one| one.len()).sum();
                let stranger = Pair::usual(version).established();
                assert!(pair.server.heap_bytes() > stranger.server.heap_bytes() + shown);
            }
        }
    }
}

#[test]
fn sessions_are_resumed_also_under_renewed_terms_but_not_under_other_demands() {
    let authority = Authority::new();
    let certificate = || authority.sign(&["a.test"]).certificate();
    for version in [Version::Tls12, Version::Tls13] {
        let config = client_config(&authority, &Wishes { version, ..USUAL }, None);
        let first = Terms::new(BOTH, &[certificate()], ClientAuth::None, None).unwrap();
        let renewed = Terms::new(BOTH, &[certificate()], ClientAuth::None, Some(&first)).unwrap();
        let asking = ClientAuth::Optional(authority.pem().into_bytes());
        let asking = Terms::new(BOTH, &[certificate()], asking, Some(&renewed)).unwrap();
        for (terms, expected) in [
            (first, HandshakeKind::Full),
            (renewed, HandshakeKind::Resumed),
            (asking, HandshakeKind::Full),
        ] {
            let mut pair = Pair::new(terms, &config, "a.test");
            pair.settle().unwrap();
            assert_eq!(pair.client.handshake_kind(), Some(expected));
            let told = pair.heard.iter().find_map(|heard| heard.established).unwrap();
            assert_eq!(told.resumption == Resumption::Resumed, expected == HandshakeKind::Resumed);
        }
    }
}

#[test]
fn an_ocsp_answer_is_stapled() {
    let authority = Authority::new();
    let pem = authority.sign(&["a.test"]);
    let read = |ocsp| Certificate::read(pem.chain.as_bytes(), pem.key.as_bytes(), ocsp).unwrap();
    assert!(!read(None).is_stapled());
    let stapled = read(Some(b"stapled".to_vec()));
    assert!(stapled.is_stapled());
    let terms = Terms::new(BOTH, &[stapled], ClientAuth::None, None).unwrap();
    Pair::new(terms, &trusting_all(&USUAL), "a.test").established();
}

#[test]
fn key_exchange_is_as_configured() {
    let authority = Authority::new();
    for (post_quantum, group) in
        [(PostQuantum::On, NamedGroup::X25519MLKEM768), (PostQuantum::Off, NamedGroup::X25519)]
    {
        let certificate = authority.sign(&["a.test"]).certificate();
        let settings = Settings { post_quantum, ..BOTH };
        let terms = Terms::new(settings, &[certificate], ClientAuth::None, None).unwrap();
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![
            rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768,
            rustls::crypto::aws_lc_rs::kx_group::X25519,
        ];
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions(Version::Tls13))
            .unwrap()
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let pair = Pair::new(terms, &Arc::new(config), "a.test").established();
        let agreed = pair.client.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(agreed, Some(group));
    }
}

#[test]
fn wrong_files_are_told_with_what_would_be_right() {
    let authority = Authority::new();
    let (one, other) = (authority.sign(&["a.test"]), authority.sign(&["b.test"]));
    let nameless = authority.sign(&[]);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted_before = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let mislabelled = &one.chain.replace("CERTIFICATE", "CERTIFIKATE");
    let cut = &one.chain[..one.chain.len() / 2];
    for (chain, key, part, told) in [
        (one.chain.as_str(), other.key.as_str(), Part::Key, "is not the key of this certificate"),
        (&one.key, &one.key, Part::Certificate, "CERTIFICATE section: holds \"PRIVATE KEY\""),
        (mislabelled, &one.key, Part::Certificate, "CERTIFICATE section: holds \"CERTIFIKATE\""),
        ("", &one.key, Part::Certificate, "the file is empty"),
        ("0x30", &one.key, Part::Certificate, "there is no PEM in it"),
        (cut, &one.key, Part::Certificate, "is not whole PEM: an END line is missing"),
        (&one.chain, &one.chain, Part::Key, "has no PRIVATE KEY section: holds \"CERTIFICATE\""),
        (&one.chain, "\x30\x01", Part::Key, "openssl pkey -inform der"),
        (&one.chain, encrypted, Part::Key, "is encrypted"),
        (&one.chain, encrypted_before, Part::Key, "is encrypted"),
        (&nameless.chain, &nameless.key, Part::Certificate, "names no host"),
    ] {
        let flaw = Certificate::read(chain.as_bytes(), key.as_bytes(), None).unwrap_err();
        assert_eq!(flaw.part, part, "{flaw:?}");
        assert!(flaw.problem.contains(told), "{flaw:?}");
    }
    let nobody = ClientAuth::Required(b"nothing".to_vec());
    let problem = Terms::new(BOTH, &[one.certificate()], nobody, None).unwrap_err();
    assert!(problem.contains("has no CERTIFICATE section"), "{problem}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However little the socket takes each time, the client reads what was queued, to the bit.
    #[test]
    fn short_sends_lose_and_change_nothing(
        pieces in proptest::collection::vec((1usize..200_000, any::<bool>()), 1..6),
        taken in proptest::collection::vec(0usize..40_000, 1..20),
    ) {
        let mut pair = Pair::usual(Version::Tls13).established();
        let now = now();
        let (mut arena, mut wire, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        let mut taken = taken.into_iter().cycle();
        // The first flight is refused in part; what follows goes the way of backlogs.
        let mut armed: Option<Bytes> = None;
        let mut pieces = pieces.into_iter().peekable();
        while pieces.peek().is_some()
            || armed.is_some()
            || !(pair.outbox.is_clear() && pair.server.is_clear())
        {
            if let Some((len, in_arena)) = pieces.next() {
                let bytes = text(len);
                sent.extend_from_slice(&bytes);
                if in_arena {
                    let start = arena.len();
                    arena.extend_from_slice(&bytes);
                    let range = outbox::arena_range(start, arena.len());
                    let _ = pair.outbox.push(Piece::Turn(range), &arena, &LIMITS);
                } else {
                    pair.queue(&bytes);
                }
            }
            match armed.take() {
                Some(bytes) => {
                    let sent = taken.next().unwrap().clamp(1, bytes.len());
                    wire.extend_from_slice(&bytes[..sent]);
                    let server = Some(&mut pair.server);
                    armed = pair.outbox.progressed(sent, server, &LIMITS, now);
                }
                None => {
                    let flight = pair.server.take_flight(&mut pair.outbox, &mut arena).unwrap();
                    if let Some(flight) = flight {
                        let sent = taken.next().unwrap().min(flight.len());
                        wire.extend_from_slice(&flight.bytes(&arena)[..sent]);
                        if sent < flight.len() {
                            let rest = pair.outbox.refused(flight, sent, &arena, &LIMITS, now);
                            armed = Some(rest);
                        }
                    }
                }
            }
            arena.clear();
        }
        let mut got = Vec::new();
        for chunk in wire.chunks(10_000) {
            pair.take(chunk).unwrap();
            got.extend(pair.client_reads());
        }
        prop_assert!(got == sent);
        prop_assert_eq!(pair.outbox.bytes() + pair.server.opened_bytes(), 0);
    }

    /// No bytes of a stranger make it panic or keep more than it may.
    #[test]
    fn noise_is_survived(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        as_record in any::<bool>(),
        chunk in 1usize..700,
    ) {
        if as_record && bytes.len() >= 5 {
            bytes[..3].copy_from_slice(&[22, 3, 1]);
            bytes[3] %= 8;
        }
        let mut pair = Pair::usual(Version::Tls13);
        pair.chunk = chunk;
        pair.give(&bytes);
        prop_assert!(pair.got.is_empty());
        prop_assert!(pair.server.buffer_bytes() <= 41 * 1024);
    }
}
