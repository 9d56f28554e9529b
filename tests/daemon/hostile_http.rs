//! Opening requests that nobody honest sends.

use std::io::Write;

use rustix::process::Signal;

use crate::gateway::client::{Client, KEY, Next, Response, request};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{FIN, PONG, TEXT, frame};
use crate::gateway::metrics::family;
use crate::gateway::{Gateway, free_address, scaled};

/// Sends `bytes` on a new connection and reads the refusal to its end.
///
/// # Panics
/// Unless the status and the one counter are as told.
fn refuse(gateway: &Gateway, bytes: &[u8], status: u16, reason: &str) -> Response {
    let before = gateway.metrics();
    let mut client = gateway.connect();
    client.send(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
    let response = client.read_response();
    assert_eq!(response.status, status, "{response:?} to {shown:?}");
    let connection = response.header("connection").unwrap_or_default();
    assert!(connection.starts_with("close"), "{response:?}");
    assert_eq!(client.next(), Next::Fin, "after the answer to {shown:?}");
    let counted = gateway.metrics().since(&before, "handshake_refused_total");
    assert_eq!(counted, family([(&format!("{status} {reason}"), 1)]), "{shown:?}");
    response
}

/// Sends `bytes` on a new connection, which is to be upgraded.
fn accept(gateway: &Gateway, bytes: &[u8]) {
    let mut client = gateway.connect();
    client.send(bytes);
    client.expect_upgrade();
    client.send_text("here");
    assert_eq!(client.read_text(), "here");
}

/// The good request with one line replaced.
fn replaced(line: &str, by: &str) -> String {
    let good = request("/echo", "");
    assert!(good.contains(line), "{line}");
    good.replace(line, by)
}

#[test]
fn h1_a_huge_header_is_refused_at_the_limit_however_it_is_cut() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let start = b"GET /echo HTTP/1.1\r\nX: ".to_vec();
    let mut most = start.clone();
    most.resize(16 * 1024 - 1, b'x');
    let mut client = gateway.connect();
    client.send(&most);
    assert!(client.is_silent_for(ms(100)), "refused before the limit");
    client.send(b"xx");
    assert_eq!(client.read_response().status, 431);
    assert_eq!(client.next(), Next::Fin);
    drop(client);

    let before = gateway.usage();
    let cuts = 20;
    for _ in 0..cuts {
        let mut client = gateway.connect();
        let mut writer = client.writer();
        let sender = std::thread::spawn(move || {
            // 20 MB as far as they are taken.
            (0..20_000).take_while(|_| writer.write_all(&[b'x'; 1024]).is_ok()).count()
        });
        assert_eq!(client.read_response().status, 431);
        let sent = sender.join().expect("it only writes");
        assert!(sent < 20_000, "all of it was read");
    }
    let cpu_ms = before.cpu_ns_since() / 1_000_000 / cuts;
    assert!(cpu_ms < 5, "{cpu_ms} ms for each, canary included");

    let mut client = gateway.connect();
    let before = gateway.usage();
    for byte in &most {
        client.send(std::slice::from_ref(byte));
    }
    client.send(b"xx");
    assert_eq!(client.read_response().status, 431);
    let dribble_ms = before.cpu_ns_since() / 1_000_000;
    assert!(dribble_ms < 2_000, "{dribble_ms} ms for 16 KiB in single bytes");
    canary.finish();
    drop(client);
    let refused = gateway.metrics().family("handshake_refused_total");
    assert_eq!(refused, family([("431 head_too_large", 2 + cuts)]));
    gateway.finish();
}

#[test]
fn h2_too_many_headers_are_refused_without_memory_for_them() {
    let gateway = Gateway::start(&["ring.buffers=8", "ring.buffer_bytes=\"4 KiB\""]);
    let canary = gateway.canary();
    // The good request has five headers.
    accept(&gateway, request("/echo", &"A: b\r\n".repeat(59)).as_bytes());
    let count = |n: usize| request("/echo", &"A: b\r\n".repeat(n - 5));
    // Receive buffers are touched one after the other; they belong to nobody.
    for _ in 0..3 {
        refuse(&gateway, count(100_000).as_bytes(), 431, "too_many_headers");
    }
    let before = gateway.usage().watch();
    refuse(&gateway, count(65).as_bytes(), 431, "too_many_headers");
    refuse(&gateway, count(1_000).as_bytes(), 431, "too_many_headers");
    refuse(&gateway, count(100_000).as_bytes(), 431, "too_many_headers");
    let growth = before.peak_growth_kib();
    assert!(growth < 64, "{growth} KiB");
    canary.finish();
    gateway.finish();
}

#[test]
fn h3_offers_are_read_in_one_pass() {
    let gateway = Gateway::start(&[]);
    let long = 15 * 1024;
    let offers =
        ["a,".repeat(long / 2), " ".repeat(long) + "(", "\"".repeat(long), ",".repeat(long)];
    for offer in &offers {
        let line = format!("Sec-WebSocket-Protocol: {offer}\r\n");
        refuse(&gateway, request("/echo", &line).as_bytes(), 400, "bad_subprotocols");
    }
    let quotes = "a;b=\"".to_owned() + &"\\\"".repeat(long / 2);
    for offer in offers.iter().chain([&quotes, &("a;".repeat(long / 2))]) {
        let line = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        refuse(&gateway, request("/echo", &line).as_bytes(), 400, "bad_extensions");
    }
    let hostile = request("/echo", &format!("Sec-WebSocket-Protocol: {}\r\n", offers[0]));
    let canary = gateway.canary();
    let before = gateway.usage();
    let tries = 50;
    for _ in 0..tries {
        let mut client = gateway.connect();
        client.send(hostile.as_bytes());
        assert_eq!(client.read_response().status, 400);
    }
    let cpu_us = before.cpu_ns_since() / 1_000 / tries;
    assert!(cpu_us < 1_000, "{cpu_us} µs for each");
    canary.finish();
    gateway.finish();
}

#[test]
fn h4_odd_upgrade_headers_get_a_clear_answer() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let with = |line: &str| replaced("Upgrade: websocket\r\n", line);
    let response = refuse(&gateway, with("").as_bytes(), 426, "upgrade_missing");
    assert_eq!(response.header("upgrade"), Some("websocket"));
    refuse(&gateway, with("Upgrade:\r\n").as_bytes(), 426, "upgrade_unknown");
    refuse(&gateway, with("Upgrade: websocket, h2c\r\n").as_bytes(), 426, "upgrade_unknown");
    refuse(&gateway, with("Upgrade: h2c\r\n").as_bytes(), 426, "upgrade_unknown");
    let twice = with("Upgrade: websocket\r\nUpgrade: websocket\r\n");
    refuse(&gateway, twice.as_bytes(), 400, "upgrade_repeated");
    let connection = replaced("Connection: Upgrade", "Connection: keep-alive");
    refuse(&gateway, connection.as_bytes(), 400, "connection_without_upgrade");
    accept(&gateway, with("UPGRADE: WEBSOCKET\r\n").as_bytes());
    accept(&gateway, with("upgrade: WebSocket\r\n").as_bytes());
    accept(&gateway, replaced(": Upgrade", ": keep-alive, uPGRADE").as_bytes());
    canary.finish();
    gateway.finish();
}

#[test]
fn h5_slow_heads_end_at_their_deadline_and_cost_little() {
    let count = scaled(1_000, 5_000);
    let timeout = scaled(ms(700), ms(5_000));
    let setting = format!("http.head_timeout=\"{}ms\"", timeout.as_millis());
    let gateway = Gateway::start(&[&setting, "limits.handshakes_max=6000"]);
    let canary = gateway.canary();
    let one = b"GET /echo HTTP/1.1\r\nX: ";
    // What the first connections make the process keep is not theirs.
    let warm: Vec<Client> = (0..100).map(|_| gateway.connect()).collect();
    drop(warm);
    gateway.await_metrics(|metrics| metrics.sum("connections_handshaking") == 0);
    let before = gateway.usage().watch();
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = gateway.connect();
        client.send(one);
        clients.push((now(), client));
    }
    let last = now();
    while now() < last + timeout / 2 {
        for (_, client) in &mut clients {
            // Some have been refused by now, and may have been reset.
            let _ = client.try_send(b"x");
        }
        pause(scaled(ms(50), ms(1_000)));
    }
    let growth = before.peak_growth_kib();
    for (began, client) in &mut clients {
        assert_eq!(client.read_response().status, 408);
        assert!(now() - *began >= timeout - ms(10), "too early: {:?}", now() - *began);
    }
    let took = now() - last;
    assert!(took < timeout + ms(1_000), "the deadline was moved: {took:?}");
    assert!(growth < 6 * count, "{growth} KiB for {count} connections");
    canary.finish();
    drop(clients);
    let refused = gateway.metrics().family("handshake_refused_total");
    assert_eq!(refused, family([("408 head_timeout", count)]));
    gateway.finish();
}

#[test]
fn h6_ambiguous_requests_are_never_upgraded() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let host = "Host: gateway.test\r\n";
    let get = "GET /echo HTTP/1.1";
    let cases = [
        (request("/echo", "Content-Length: 5\r\n") + "hello", 400, "body_not_allowed"),
        (request("/echo", "Content-Length: +0\r\n"), 400, "bad_content_length"),
        (request("/echo", "Content-Length: 0\r\nContent-Length: 0\r\n"), 400, "header_repeated"),
        (
            request("/echo", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            400,
            "transfer_encoding",
        ),
        (
            request("/echo", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400,
            "transfer_encoding",
        ),
        (request("/echo", "").replace("\r\n", "\n"), 400, "bad_line_ending"),
        (request("/echo", "A: b\rc\r\n"), 400, "bad_line_ending"),
        (replaced(host, &format!(" {host}")), 400, "folded_header"),
        (request("/echo", "A: b\r\n c\r\n"), 400, "folded_header"),
        (request("/echo", "A: b\0c\r\n"), 400, "control_character"),
        (request("/echo", "A : b\r\n"), 400, "bad_header"),
        (replaced(host, ""), 400, "host_missing"),
        (replaced(host, "Host:\r\n"), 400, "bad_host"),
        (replaced(host, "Host: a/b\r\n"), 400, "bad_host"),
        (replaced(host, &host.repeat(2)), 400, "header_repeated"),
        (replaced(get, "GET http://gateway.test/echo HTTP/1.1"), 400, "bad_target"),
        (replaced(get, "GET /echo#x HTTP/1.1"), 400, "bad_target"),
        (replaced(get, "GET * HTTP/1.1"), 400, "bad_target"),
        (replaced(get, "GET  /echo HTTP/1.1"), 400, "bad_request_line"),
        (replaced(get, "GET /echo"), 400, "bad_request_line"),
        (replaced(get, " GET /echo HTTP/1.1"), 400, "bad_request_line"),
        (replaced(get, "GET /echo HTTP/1.0"), 505, "unsupported_version"),
        (replaced(get, "GET /echo HTTP/2.0"), 505, "unsupported_version"),
        (replaced(get, "POST /echo HTTP/1.1"), 405, "method_not_allowed"),
        (replaced(get, "get /echo HTTP/1.1"), 405, "method_not_allowed"),
        (replaced(get, "GET /nowhere HTTP/1.1"), 404, "no_route"),
        (replaced(get, "GET /topic/%zz HTTP/1.1"), 400, "bad_escape"),
        (replaced(get, "GET /topic/%00 HTTP/1.1"), 400, "bad_topic"),
        ("\r\n".to_owned() + &request("/echo", ""), 400, "bad_request_line"),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned(), 400, "control_character"),
    ];
    for (bytes, status, reason) in cases {
        let response = refuse(&gateway, bytes.as_bytes(), status, reason);
        assert_eq!(response.header("allow").is_some(), status == 405);
    }
    accept(&gateway, request("/echo", "Content-Length: 0\r\n").as_bytes());
    canary.finish();
    gateway.finish();
}

#[test]
fn h7_only_a_canonical_key_of_16_bytes_is_taken() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let keys = [
        "",
        "AAAAAAAAAAAAAAAAAAAA",             // 15 bytes
        "AAAAAAAAAAAAAAAAAAAAAAA=",         // 17 bytes
        "dGhlIHNhbXBsZSBub25jZQ",           // no padding
        "dGhlIHNhbXBsZSBub25jZR==",         // leftover bits
        "dGhlIHNhbXBsZSBub25j*Q==",         // not of the alphabet
        "dGhlIHNhbXBsZSBub25jZQ==, second", // a list
    ];
    for key in keys {
        let bytes = replaced(&line, &format!("Sec-WebSocket-Key: {key}\r\n"));
        refuse(&gateway, bytes.as_bytes(), 400, "bad_key");
    }
    refuse(&gateway, replaced(&line, "").as_bytes(), 400, "key_missing");
    refuse(&gateway, replaced(&line, &line.repeat(2)).as_bytes(), 400, "key_repeated");
    canary.finish();
    gateway.finish();
}

#[test]
fn h8_other_versions_are_told_ours() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let line = "Sec-WebSocket-Version: 13\r\n";
    let cases = [
        ("Sec-WebSocket-Version: 8\r\n", 426, "version_unknown"),
        ("Sec-WebSocket-Version: 13, 8\r\n", 426, "version_unknown"),
        ("Sec-WebSocket-Version: 013\r\n", 426, "version_unknown"),
        ("", 426, "version_missing"),
        ("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n", 400, "version_repeated"),
    ];
    for (by, status, reason) in cases {
        let response = refuse(&gateway, replaced(line, by).as_bytes(), status, reason);
        let told = response.header("sec-websocket-version");
        assert_eq!(told, (status == 426).then_some("13"), "{by}");
    }
    canary.finish();
    gateway.finish();
}

#[test]
fn h9_frames_behind_the_request_are_served_and_wait_in_the_socket() {
    let gateway = Gateway::start(&["limits.commands_rate=0", "ring.buffers=8"]);
    let canary = gateway.canary();
    for path in ["/echo", "/topic/news"] {
        let mut client = gateway.connect();
        client.send(&[request(path, "").as_bytes(), &frame(FIN | TEXT, b"at once")].concat());
        client.expect_upgrade();
        assert_eq!(client.read_text(), "at once", "{path}");
    }
    let message = |n: usize| format!("{n:01000}");
    let count = 1_048;
    let flood = |path: &str| {
        let mut bytes = request(path, "").into_bytes();
        for n in 0..count {
            bytes.extend(frame(FIN | TEXT, message(n).as_bytes()));
        }
        let mut client = gateway.connect();
        let mut writer = client.writer();
        let sender = std::thread::spawn(move || writer.write_all(&bytes));
        client.expect_upgrade();
        for n in 0..count {
            assert_eq!(client.read_text(), message(n), "{path}");
        }
        sender.join().expect("it only writes").expect("all of it is read");
    };
    flood("/echo");
    let before = gateway.usage().watch();
    flood("/echo");
    let growth = before.peak_growth_kib();
    assert!(growth < 2 * 1024, "{growth} KiB");
    flood("/topic/flood");
    canary.finish();
    gateway.finish();
}

#[test]
fn h10_pages_of_other_origins_stay_out() {
    let listed = free_address();
    let same_host = free_address();
    let text = format!(
        "[[listener]]\naddress = \"{listed}\"\norigins = [\"https://example.com\"]\n\
         [[listener]]\naddress = \"{same_host}\"\nallow_missing_origin = false\n"
    );
    let gateway = Gateway::start_with(&text, listed, &[]);
    let canary = gateway.canary();
    let evil = [
        "https://evil.test",
        "null",
        "http://example.com",
        "https://example.com:8443",
        "https://example.com.evil",
        "https://evil-example.com",
        "https://xn--exmple-cua.com",
        "https://ex\u{e4}mple.com",
        "https://example.com/",
        "https://example.com, https://example.com",
        "",
    ];
    for origin in evil {
        let line = format!("Origin: {origin}\r\n");
        refuse(&gateway, request("/echo", &line).as_bytes(), 403, "origin");
    }
    let twice = "Origin: https://example.com\r\n".repeat(2);
    refuse(&gateway, request("/echo", &twice).as_bytes(), 403, "origin");
    accept(&gateway, request("/echo", "Origin: https://example.com\r\n").as_bytes());
    accept(&gateway, request("/echo", "Origin: HTTPS://EXAMPLE.COM\r\n").as_bytes());
    accept(&gateway, request("/echo", "").as_bytes());

    let answer = |lines: &str| {
        let mut client = Client::connect(same_host);
        client.send(request("/echo", lines).as_bytes());
        client.read_response().status
    };
    assert_eq!(answer("Origin: http://gateway.test\r\n"), 101);
    assert_eq!(answer("Origin: http://gateway.test:80\r\n"), 101);
    assert_eq!(answer("Origin: http://GATEWAY.test\r\n"), 101);
    assert_eq!(answer("Origin: HTTP://gateway.test\r\n"), 403);
    assert_eq!(answer("Origin: null\r\n"), 403);
    assert_eq!(answer("Origin: https://gateway.test\r\n"), 403);
    assert_eq!(answer("Origin: https://gateway.test:8443\r\n"), 403);
    assert_eq!(answer("Origin: http://g\u{e4}teway.test\r\n"), 403);
    assert_eq!(answer(&"Origin: http://gateway.test\r\n".repeat(2)), 403);
    assert_eq!(answer("Origin: https://gateway.test.evil\r\n"), 403);
    assert_eq!(answer("Origin: https://example.com\r\n"), 403);
    assert_eq!(answer("Origin: file://gateway.test\r\n"), 403);
    assert_eq!(answer(""), 403);
    canary.finish();
    gateway.finish();
}

#[test]
fn h12_what_clients_send_reaches_neither_log_nor_labels() {
    let gateway = Gateway::start(&["log.level=\"trace\""]);
    let canary = gateway.canary();
    for (path, status, reason) in [
        ("/a\x1b[31mred", 400, "control_character"),
        ("/a%0d%0aevil:1", 404, "no_route"),
        ("/a\"}\u{20}1", 400, "bad_request_line"),
        ("/a\"}", 404, "no_route"),
        ("/topic/nobody:%1b[31m", 400, "bad_topic"),
        ("/topic/nobody:\"}{", 404, "unknown_namespace"),
    ] {
        refuse(&gateway, request(path, "").as_bytes(), status, reason);
    }
    refuse(&gateway, request("/echo", "A: b\x1b[2J\r\n").as_bytes(), 400, "control_character");
    for name in ["first", "second"] {
        let mut client = gateway.open(&format!("/topic/{name}"));
        client.send_close(1000);
        client.expect_close(1000);
    }
    let series = gateway.metrics().0.len();
    for n in 0..scaled(1_000, 100_000) {
        let mut client = gateway.connect();
        client.send(request(&format!("/{n}\"}}"), "").as_bytes());
        assert_eq!(client.read_response().status, 404);
    }
    for n in 0..200 {
        let mut client = gateway.open(&format!("/topic/{n}"));
        client.send_frame(FIN | PONG, b"\"} 1\n");
        client.send_close(1000);
        client.expect_close(1000);
    }
    assert_eq!(gateway.metrics().0.len(), series, "labels follow what clients send");
    canary.finish();
    gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    gateway.signal(Signal::TERM);
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains('\x1b'), "{log}");
    assert!(!log.contains("evil:1"), "{log}");
}

#[test]
fn more_clients_than_there_is_room_for_are_told_to_come_later() {
    for (limit, reason) in [
        ("limits.connections_max=10", "503 connections"),
        ("limits.handshakes_max=10", "503 handshakes"),
        ("listener.0.connections_max=10", "503 listener_connections"),
    ] {
        let gateway = Gateway::start(&[limit, "http.head_timeout=\"1m\""]);
        let canary = gateway.canary();
        let open = if limit.contains("connections_max") { 9 } else { 10 };
        let waiting: Vec<Client> = (0..open).map(|_| gateway.connect()).collect();
        gateway.await_metrics(|metrics| metrics.sum("connections_handshaking") == open);
        for _ in 0..5 {
            let mut client = gateway.connect();
            client.send(request("/echo", "").as_bytes());
            let response = client.read_response();
            assert_eq!(response.status, 503, "{limit}");
            let wait = response.header("retry-after").and_then(|text| text.parse::<u32>().ok());
            assert!(wait.is_some_and(|seconds| (1..=10).contains(&seconds)), "{response:?}");
            assert_eq!(client.next(), Next::Fin);
        }
        let refused = gateway.metrics().family("handshake_refused_total");
        assert_eq!(refused, family([(reason, 5)]), "{limit}");
        drop(waiting);
        gateway.await_metrics(|metrics| metrics.sum("connections_handshaking") == 0);
        accept(&gateway, request("/echo", "").as_bytes());
        canary.finish();
        gateway.finish();
    }
}

#[test]
fn without_descriptors_it_serves_those_it_has_and_recovers() {
    let gateway = Gateway::start_with_descriptors(64, &["limits.connections_max=10000"]);
    let canary = gateway.canary();
    let crowd: Vec<Client> = (0..100).map(|_| gateway.connect()).collect();
    pause(ms(300));
    let before = gateway.usage();
    pause(ms(300));
    let busy_ms = before.cpu_ns_since() / 1_000_000;
    assert!(busy_ms < 100, "busy for {busy_ms} of 300 ms");
    drop(crowd);
    accept(&gateway, request("/echo", "").as_bytes());
    canary.finish();
    let paused = gateway.metrics().family("accept_paused_total");
    assert!(paused.get("fd").is_some_and(|count| *count > 0), "{paused:?}");
    gateway.finish();
}
