//! wss: the same gateway as without TLS, seen through it.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::gateway::authority::{Authority, ONLY_TLS12, ONLY_TLS13};
use crate::gateway::client::{Client, Next};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{BINARY, FIN};
use crate::gateway::metrics::family;
use crate::gateway::{Gateway, PATIENCE, free_address, ringway, wait_for_end};

/// The name in the usual certificate.
pub(crate) const NAME: &str = "gateway.test";

/// A gateway with TLS, and who signed for it.
pub(crate) struct Secure {
    pub(crate) gateway: Gateway,
    pub(crate) authority: Authority,
    pub(crate) client: Arc<ClientConfig>,
}

impl Secure {
    /// Starts it with a certificate for [`NAME`]; `more` goes into the section of the listener.
    pub(crate) fn start(more: &str, overrides: &[&str]) -> Self {
        let authority = Authority::new();
        let files = authority.sign("usual", &[NAME]);
        Self::start_with(authority, &files.section(), more, overrides)
    }

    pub(crate) fn start_with(
        authority: Authority,
        certificates: &str,
        more: &str,
        overrides: &[&str],
    ) -> Self {
        let clients = free_address();
        let text = format!(
            "[[listener]]\naddress = \"{clients}\"\ntls = true\n{more}\n{certificates}\n\
             [[namespace]]\npublish = \"allow\"\n"
        );
        let gateway = Gateway::start_with(&text, clients, overrides);
        let client = authority.client(ONLY_TLS13, None);
        Self { gateway, authority, client }
    }

    /// A connection with TLS.
    pub(crate) fn connect(&self) -> Client {
        let client = self.gateway.connect().begin_tls(Arc::clone(&self.client), NAME);
        client.expect("the handshake succeeds")
    }

    /// A WebSocket connection.
    pub(crate) fn open(&self, path: &str) -> Client {
        let mut client = self.connect();
        client.upgrade(path);
        client
    }
}

/// A payload in which a shifted or repeated piece does not look like the original.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("251 fits")).collect()
}

#[test]
fn messages_go_both_ways_in_both_versions() {
    let mut secure = Secure::start("", &[]);
    for versions in [ONLY_TLS12, ONLY_TLS13] {
        secure.client = secure.authority.client(versions, None);
        let mut client = secure.open("/echo");
        for len in [0, 1, 125, 126, 16 * 1024, 60_000] {
            client.send_frame(FIN | BINARY, &payload(len));
            assert_eq!(client.read_frame().payload, payload(len));
        }
        client.send_close(1000);
        client.expect_close(1000);
    }
    let metrics = secure.gateway.metrics();
    let handshakes = family([("1.2 false", 1), ("1.3 false", 1)]);
    assert_eq!(metrics.family("tls_handshakes_total"), handshakes);
    assert_eq!(metrics.sum("tls_handshake_failed_total"), 0);
    secure.gateway.finish();
}

#[test]
fn a_publication_reaches_plain_and_tls_subscribers_alike() {
    let authority = Authority::new();
    let files = authority.sign("usual", &[NAME]);
    let plain_address = free_address();
    let more = format!("[[listener]]\naddress = \"{plain_address}\"\n");
    let secure = Secure::start_with(authority, &(more + &files.section()), "", &[]);
    let mut sealed: Vec<_> = (0..20).map(|_| secure.open("/topic/news")).collect();
    let mut plain = Client::connect(plain_address);
    plain.upgrade("/topic/news");
    for number in 0..50 {
        plain.send_text(&format!("number {number}"));
    }
    for client in sealed.iter_mut().chain([&mut plain]) {
        for number in 0..50 {
            assert_eq!(client.read_text(), format!("number {number}"));
        }
        client.send_close(1000);
        client.expect_close(1000);
    }
    secure.gateway.finish();
}

#[test]
fn a_slow_reader_gets_every_bit() {
    let overrides = ["outbox.bytes_max=\"64 MiB\"", "outbox.soft_bytes_max=\"64 MiB\""];
    let secure = Secure::start(
        "",
        &[&overrides[..], &["socket.send_buffer=\"8 KiB\"", "socket.notsent_lowat=\"4 KiB\""]]
            .concat(),
    );
    let narrow = Client::connect_narrow(secure.gateway.clients(), 4096);
    let mut reader =
        narrow.begin_tls(Arc::clone(&secure.client), NAME).expect("the handshake succeeds");
    reader.upgrade("/topic/slow");
    let mut writer = secure.open("/topic/slow");
    // One above what a turn seals, and many below.
    let sizes: Vec<usize> = (0..60).map(|n| [60_000, 17, 16_384, 1][n % 4]).collect();
    for size in &sizes {
        writer.send_frame(FIN | BINARY, &payload(*size));
    }
    secure.gateway.await_metrics(|metrics| metrics.sum("backlogs") >= 1);
    for size in &sizes {
        assert!(reader.read_frame().payload == payload(*size));
    }
    for size in &sizes {
        assert!(writer.read_frame().payload == payload(*size));
    }
    for mut client in [reader, writer] {
        client.send_close(1000);
        client.expect_close(1000);
    }
    secure.gateway.finish();
}

#[test]
fn an_end_without_goodbye_is_a_truncation() {
    let secure = Secure::start("", &[]);
    let client = secure.open("/echo");
    client.finish_writing();
    let metrics = secure.gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    let ends = family([("1006 transport tls_truncated echo", 1)]);
    assert_eq!(metrics.family("closed_total"), ends);
    // With a goodbye it is like FIN without Close.
    let mut client = secure.open("/echo");
    client.send_close_notify();
    assert_eq!(client.next(), Next::Fin);
    let later = secure.gateway.await_metrics(|metrics| metrics.sum("closed_total") == 2);
    let ends = family([("1006 transport client_gone echo", 1)]);
    assert_eq!(later.since(&metrics, "closed_total"), ends);
    drop(client);
    secure.gateway.finish();
}

#[test]
fn a_broken_record_ends_the_connection_with_an_alert() {
    let secure = Secure::start("", &[]);
    let mut client = secure.open("/echo");
    client.send_raw(&[
        23, 3, 3, 0, 32, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    ]);
    let told = client.read_error();
    assert!(told.contains("BadRecordMac"), "{told}");
    client.finish_writing();
    let metrics = secure.gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    let ends = family([("1006 server tls_failed echo", 1)]);
    assert_eq!(metrics.family("closed_total"), ends);
    drop(client);
    secure.gateway.finish();
}

#[test]
fn a_drain_says_goodbye_in_tls_too() {
    let secure = Secure::start("", &[]);
    let mut client = secure.open("/topic/x");
    secure.gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(client.read_close().0, Some(1012));
    client.send_close(1012);
    assert_eq!(client.next(), Next::Fin);
    drop(client);
    let (status, log) = secure.gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn ends_by_tls_have_their_stories() {
    let secure = Secure::start("", &["tls.handshake_timeout=\"300ms\""]);
    let gateway = &secure.gateway;
    let story = |cause: &str, initiator: &str| {
        let told = gateway.await_close(cause);
        assert_eq!((&told["initiator"], &told["code"]), (&initiator.into(), &().into()), "{told}");
    };
    let mut plain = gateway.connect();
    plain.send(b"GET /echo HTTP/1.1\r\n\r\n");
    plain.finish_writing();
    story("tls_failed", "server");
    let silent = gateway.connect();
    story("tls_timeout", "server");
    // It trusts another authority.
    let distrustful = Authority::new().client(ONLY_TLS13, None);
    assert!(gateway.connect().begin_tls(distrustful, NAME).is_err());
    story("tls_alert", "transport");
    let cut = secure.open("/echo");
    cut.finish_writing();
    assert_eq!(gateway.await_close("tls_truncated")["code"], 1006);
    drop((plain, silent, cut));
    secure.gateway.finish();
}

#[test]
fn an_upgrade_is_awaited_anew_after_the_handshake() {
    let secure =
        Secure::start("", &["http.head_timeout=\"400ms\"", "tls.handshake_timeout=\"10s\""]);
    let mut silent = secure.connect();
    assert!(silent.is_silent_for(ms(200)));
    // Nobody has asked anything: it ends without a word, but for TLS's own.
    assert_eq!(silent.next(), Next::Fin);
    let mut slow = secure.connect();
    slow.send(b"GET /echo HTTP/1.1\r\n");
    assert_eq!(slow.read_response().status, 408);
    drop((silent, slow));
    secure.gateway.finish();
}

/// Starts one shard with this configuration; returns its file, too.
fn run_with(authority: &Authority, text: &str) -> (std::process::Child, std::path::PathBuf) {
    let path = authority.path("ringway.toml");
    std::fs::write(&path, text).expect("there is room");
    let child = ringway()
        .args(["run", "--set", "shards=1", "--config"])
        .arg(&path)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the daemon was built");
    (child, path)
}

#[test]
fn operators_are_served_with_tls_under_the_same_rules() {
    let authority = Authority::new();
    let files = authority.sign("usual", &[NAME]);
    let clients = free_address();
    let operators = free_address();
    let text = format!(
        "[[listener]]\naddress = \"{clients}\"\n[operator]\naddress = \"{operators}\"\ntls = true\n\
         client_auth = \"required\"\nclient_ca = {:?}\n{}",
        authority.file(),
        files.section()
    );
    let (mut child, _) = run_with(&authority, &text);
    let own = authority.sign("operator", &["operator.test"]);
    let ask = |own| {
        let client = Client::try_connect(operators)?;
        let mut client = client.begin_tls(authority.client(ONLY_TLS13, own), NAME)?;
        client.try_send(b"GET /readyz HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")?;
        client.try_read()?;
        Ok::<_, std::io::Error>(client.read_response().status)
    };
    let deadline = now() + PATIENCE;
    while !matches!(ask(Some(&own)), Ok(200)) {
        assert!(now() < deadline, "{:?}", ask(Some(&own)));
        pause(ms(20));
    }
    assert!(ask(None).is_err());
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .expect("the daemon runs");
    let status = wait_for_end(&mut child, PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn health_is_asked_of_whoever_serves_and_orders_go_to_the_one_in_the_file() {
    let authority = Authority::new();
    let files = authority.sign("usual", &[NAME]);
    let (clients, operators) = (free_address(), free_address());
    let text = format!(
        "[[listener]]\naddress = \"{clients}\"\n[operator]\naddress = \"{operators}\"\ntls = true\n\
         api_key = \"a key that is long enough\"\n[tls]\nreload_interval = \"0s\"\n{}",
        files.section()
    );
    let (mut child, path) = run_with(&authority, &text);
    let run = |word| {
        let output = ringway().args([word, "--config"]).arg(&path).output();
        let output = output.expect("the daemon was built");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let deadline = now() + PATIENCE;
    while run("health").0 != Some(0) {
        assert!(now() < deadline, "{:?}", run("health"));
        pause(ms(20));
    }
    // The file is newer than what is served.
    authority.sign("usual", &[NAME]);
    assert_eq!(run("health"), (Some(0), String::new()));
    let (code, told) = run("drain");
    assert!(code == Some(1) && told.contains("invalid peer certificate"), "{told}");
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::HUP,
    )
    .expect("the daemon runs");
    while run("drain").0 != Some(0) {
        assert!(now() < deadline, "{:?}", run("drain"));
        pause(ms(20));
    }
    let status = wait_for_end(&mut child, PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// What a load balancer says comes before TLS, in one piece with it or bit by bit.
#[test]
fn the_header_of_a_load_balancer_comes_before_tls() {
    let settings = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.1\"]";
    let secure = Secure::start(settings, &[]);
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n";
    for pieces in [header.chunks(header.len()), header.chunks(1)] {
        let mut client = secure.gateway.connect();
        pieces.for_each(|piece| client.send_raw(piece));
        let client = client.begin_tls(Arc::clone(&secure.client), NAME);
        let mut client = client.expect("the handshake succeeds");
        client.upgrade("/echo");
        client.send_close(1000);
        client.expect_close(1000);
    }
    let told = secure.gateway.await_close("client_close");
    assert_eq!(told["address"], "192.0.2.7", "{told}");

    // Nobody else does anything that could bring the count about.
    let mut rude = secure.gateway.connect();
    rude.send_raw(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(rude.next(), Next::Reset);
    let refused = secure.gateway.metrics().family("connections_refused_total");
    assert_eq!(refused, family([("proxy_header", 1)]));
    secure.gateway.finish();
}
