//! Connections that do not end as they should: silence, cut cables, peers that go on and on; and every
//! byte of the Closes that they are sent.

use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;

use crate::gateway::client::Client;
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{CLOSE, CONTINUATION, FIN, TEXT, close, frame};
use crate::gateway::metrics::family;
use crate::gateway::silence::Silence;
use crate::gateway::{Gateway, scaled};

/// How a client behaves after the server has begun to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    Silent,
    SendsForEver,
    SendsMuch,
    FullWindow,
    ResetsMidway,
    SendsFinOnly,
}

#[test]
fn a7_whoever_does_not_go_is_gone_within_the_close_timeout() {
    let gateway = Gateway::start(&[
        "websocket.close_timeout=\"600ms\"",
        "websocket.message_bytes_max=\"4 KiB\"",
        "socket.send_buffer=\"8 KiB\"",
        "socket.notsent_lowat=\"4 KiB\"",
    ]);
    let canary = gateway.canary();
    gateway.await_metrics(|metrics| metrics.sum("connections") == 1);
    let descriptors = gateway.usage().descriptors;
    for manners in [
        Manners::Silent,
        Manners::SendsForEver,
        Manners::SendsMuch,
        Manners::FullWindow,
        Manners::ResetsMidway,
        Manners::SendsFinOnly,
    ] {
        let before = gateway.metrics();
        let mut client = Client::connect_narrow(gateway.clients(), 4096);
        client.upgrade("/echo");
        if manners == Manners::FullWindow {
            for _ in 0..30 {
                client.send_frame(FIN | TEXT, &[b'x'; 4096]);
            }
            gateway.await_metrics(|metrics| metrics.sum("backlogs") == 1);
        }
        let began = now();
        // The server begins to close: the message is too big.
        client.send_frame(TEXT, &[b'x'; 4096]);
        client.send_frame(FIN | CONTINUATION, b"x");
        let is_counted = || gateway.metrics().sum("closed_total") > before.sum("closed_total");
        match manners {
            Manners::Silent => client.expect_close(1009),
            Manners::FullWindow => {}
            Manners::SendsForEver => {
                client.expect_close(1009);
                while !is_counted() {
                    let _ = client.try_send(&frame(FIN | TEXT, b"more"));
                    pause(ms(10));
                }
            }
            Manners::SendsMuch => {
                let mut writer = client.writer();
                // More than is thrown away for anyone.
                let sent = (0..64_000).take_while(|_| writer.write_all(&[0; 1024]).is_ok()).count();
                assert!(sent < 64_000, "all of it was read");
                assert!(now() - began < ms(550), "only the deadline helped");
            }
            Manners::ResetsMidway => {
                client.expect_close(1009);
                client.reset();
                client = gateway.connect();
            }
            Manners::SendsFinOnly => {
                client.expect_close(1009);
                client.finish_writing();
            }
        }
        let after = gateway
            .await_metrics(|metrics| metrics.sum("closed_total") > before.sum("closed_total"));
        let took = now() - began;
        assert!(took < ms(600 + 1_000), "{manners:?}: {took:?}");
        let counted = after.since(&before, "closed_total");
        assert_eq!(counted, family([("1009 server too_big echo", 1)]), "{manners:?}");
        drop(client);
    }
    canary.finish();
    gateway.finish_with_descriptors(descriptors);
}

#[test]
fn a7_a_drain_ends_although_nobody_answers_its_close() {
    let gateway = Gateway::start(&["websocket.close_timeout=\"500ms\"", "log.level=\"warn\""]);
    let mut silent: Vec<Client> =
        ["/echo", "/topic/t", "/connection/websocket"].map(|path| gateway.open(path)).into();
    silent.push(gateway.connect());
    let began = now();
    gateway.signal(Signal::TERM);
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(now() - began < Duration::from_secs(3), "{:?}", now() - began);
    let codes: Vec<_> = silent[..3].iter_mut().map(|client| client.read_close().0).collect();
    assert_eq!(codes, [Some(1012), Some(1012), Some(3001)]);
}

#[test]
fn a8_half_open_connections_are_found_by_pings() {
    let gateway = Gateway::start(&[
        "websocket.ping_interval=\"400ms\"",
        "websocket.pong_timeout=\"200ms\"",
        "websocket.close_timeout=\"300ms\"",
        "centrifuge.ping_interval=\"400ms\"",
        "centrifuge.pong_timeout=\"200ms\"",
    ]);
    let began = now();
    let raw = gateway.open("/topic/t");
    let echo = gateway.open("/echo");
    let centrifuge = gateway.centrifuge();
    let metrics = gateway.await_metrics(|metrics| metrics.sum("closed_total") == 3);
    assert!(now() - began < ms(400 + 200 + 300 + 1_000), "{:?}", now() - began);
    let wanted = [
        ("1006 server ping_timeout raw", 1),
        ("1006 server ping_timeout echo", 1),
        ("1006 server ping_timeout centrifuge", 1),
    ];
    assert_eq!(metrics.family("closed_total"), family(wanted));
    assert_eq!(metrics.family("close_sent_total"), family([("3008", 2), ("3012", 1)]));
    drop((raw, echo, centrifuge));
    gateway.finish();
}

#[test]
fn a8_a_cut_cable_is_found_by_pings() {
    // As configured by default, or shortened.
    let short: &[&str] = &[
        "websocket.ping_interval=\"400ms\"",
        "websocket.pong_timeout=\"200ms\"",
        "websocket.close_timeout=\"300ms\"",
    ];
    let gateway = Gateway::start(scaled(short, &[]));
    let (pings, close) = scaled((ms(600), ms(300)), (ms(35_000), ms(5_000)));
    let canary = gateway.canary();
    gateway.await_metrics(|metrics| metrics.sum("connections") == 1);
    let descriptors = gateway.usage().descriptors;
    let mut client = gateway.open("/topic/t");
    let Some(silence) = Silence::between(client.address(), gateway.clients()) else {
        // The other test of A8 has clients that do not answer; here packets would be dropped.
        canary.finish();
        return gateway.finish();
    };
    let began = now();
    gateway.api("publish", r#"{"channel":"t","data":"nobody hears this"}"#);
    while gateway.metrics().sum("closed_total") == 0 {
        assert!(now() - began < pings + close + ms(1_000), "{:?}", now() - began);
        pause(ms(20));
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.family("closed_total"), family([("1006 server ping_timeout raw", 1)]));
    assert_eq!(metrics.family("close_sent_total"), family([("3008", 1)]));
    drop(silence);
    // The client hears of it as soon as it says something.
    let hears = || client.try_send(&frame(FIN | TEXT, b"hello?")).is_err();
    assert!(std::iter::repeat_with(hears).take(100).any(|heard| heard || {
        pause(ms(10));
        false
    }));
    drop(client);
    canary.finish();
    gateway.finish_with_descriptors(descriptors);
}

/// A Close frame as it stands on the wire.
fn close_bytes(code: u16, reason: &str) -> Vec<u8> {
    let len = u8::try_from(2 + reason.len()).expect("reasons are short");
    [&[0x88, len][..], &code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn a11_every_byte_of_a_close_is_meant() {
    let gateway = Gateway::start(&[]);
    let closes: [(&str, Vec<u8>, Vec<u8>); 20] = [
        ("/echo", frame(FIN | CLOSE, b""), b"\x88\x00".to_vec()),
        ("/echo", close(1000, b"bye"), b"\x88\x02\x03\xE8".to_vec()),
        ("/topic/t", close(4999, &[b'x'; 123]), b"\x88\x02\x13\x87".to_vec()),
        ("/connection/websocket", close(1001, b""), b"\x88\x02\x03\xE9".to_vec()),
        ("/echo", b"\x81\x01a".to_vec(), close_bytes(1002, "unmasked_client_frame")),
        ("/echo", frame(0xC1, b"a"), close_bytes(1002, "reserved_bit_set")),
        ("/topic/t", frame(0x83, b"a"), close_bytes(1002, "unknown_opcode")),
        ("/echo", frame(FIN | CONTINUATION, b"a"), close_bytes(1002, "unexpected_continuation")),
        (
            "/echo",
            [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(),
            close_bytes(1002, "expected_continuation"),
        ),
        ("/topic/t", frame(0x09, b"a"), close_bytes(1002, "control_fragmented")),
        ("/echo", b"\x89\xFE".to_vec(), close_bytes(1002, "control_too_long")),
        ("/echo", b"\x82\xFE\x00\x7D".to_vec(), close_bytes(1002, "length_not_minimal")),
        ("/echo", b"\x82\xFF\x80\0\0\0\0\0\0\0".to_vec(), close_bytes(1002, "length_top_bit_set")),
        ("/echo", frame(FIN | CLOSE, b"\x03"), close_bytes(1002, "bad_close_length")),
        ("/echo", close(1005, b""), close_bytes(1002, "bad_close_code")),
        ("/connection/websocket", frame(FIN | TEXT, b"\xC0"), close_bytes(1007, "invalid_utf8")),
        (
            "/topic/t",
            b"\x82\xFF\0\0\0\0\0\x01\0\x01\0\0\0\0".to_vec(),
            close_bytes(1009, "too_big"),
        ),
        ("/topic/quiet:t", frame(FIN | TEXT, b"x"), close_bytes(1008, "publish denied")),
        ("/connection/websocket", frame(FIN | 0x2, b"{}"), close_bytes(1003, "unsupported data")),
        ("/connection/websocket", frame(FIN | TEXT, b"x"), close_bytes(3501, "bad request")),
    ];
    for (path, sent, wanted) in closes {
        let mut client = gateway.open(path);
        client.send(&sent);
        client.finish_writing();
        let bytes = client.read_all();
        assert_eq!(bytes, wanted, "{path}: {}", String::from_utf8_lossy(&bytes));
    }
    gateway.finish();
}

#[test]
fn a11_every_byte_of_a_close_that_nobody_asked_for_is_meant() {
    let gateway = Gateway::start(&[
        "websocket.ping_interval=\"60s\"",
        "websocket.idle_timeout=\"300ms\"",
        "centrifuge.connect_timeout=\"300ms\"",
        "websocket.close_timeout=\"300ms\"",
    ]);
    for (path, code, reason) in [
        ("/echo", 3008, "idle"),
        ("/topic/t", 3008, "idle"),
        ("/connection/websocket", 3502, "stale"),
    ] {
        let bytes = gateway.open(path).read_all();
        assert_eq!(bytes, close_bytes(code, reason), "{path}: {}", String::from_utf8_lossy(&bytes));
    }
    gateway.finish();

    let gateway = Gateway::start(&[
        "websocket.ping_interval=\"200ms\"",
        "websocket.pong_timeout=\"100ms\"",
        "centrifuge.ping_interval=\"200ms\"",
        "centrifuge.pong_timeout=\"100ms\"",
        "websocket.close_timeout=\"300ms\"",
    ]);
    for path in ["/echo", "/topic/t"] {
        let wanted = [b"\x89\x00".to_vec(), close_bytes(3008, "ping timeout")].concat();
        assert_eq!(gateway.open(path).read_all(), wanted, "{path}");
    }
    let wanted = [b"\x81\x02{}".to_vec(), close_bytes(3012, "no pong")].concat();
    assert_eq!(gateway.centrifuge().read_all(), wanted);
    gateway.finish();

    let gateway = Gateway::start(&["websocket.close_timeout=\"300ms\"", "log.level=\"warn\""]);
    let mut clients = ["/echo", "/topic/t", "/connection/websocket"].map(|path| gateway.open(path));
    gateway.signal(Signal::TERM);
    let restart = close_bytes(1012, "restart retry_ms=500-5000");
    let wanted = [restart.clone(), restart, close_bytes(3001, "shutdown")];
    assert_eq!(clients.each_mut().map(Client::read_all), wanted);
    assert_eq!(gateway.end().0.code(), Some(0));
}
