//! Frames that break RFC 6455 or the limits.

use std::net::SocketAddr;
use std::thread;

use crate::gateway::client::{Client, Next};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{
    BINARY, CLOSE, CONTINUATION, FIN, Frame, Length, PING, PONG, TEXT, close, frame, header,
};
use crate::gateway::metrics::family;
use crate::gateway::{Gateway, scaled};

/// Sends `bytes` on new connections of each protocol, which are to fail with `code` and nothing
/// else.
///
/// # Panics
/// Unless the Close is the next frame, FIN follows it, and each is counted once.
fn fail(gateway: &Gateway, bytes: &[u8], code: u16, cause: &str) {
    for (path, protocol) in
        [("/echo", "echo"), ("/topic/t", "raw"), ("/connection/websocket", "centrifuge")]
    {
        let before = gateway.metrics();
        let mut client = gateway.open(path);
        client.send(bytes);
        client.expect_close(code);
        drop(client);
        expect_count(gateway, &before, &format!("{code} server {cause} {protocol}"));
        let sent = gateway.metrics().since(&before, "close_sent_total");
        assert_eq!(sent, family([(&code.to_string(), 1)]));
    }
}

/// Waits until one more connection is counted as closed, like this.
fn expect_count(gateway: &Gateway, before: &crate::gateway::metrics::Metrics, labels: &str) {
    let name = "closed_total";
    let after = gateway.await_metrics(|metrics| metrics.sum(name) > before.sum(name));
    assert_eq!(after.since(before, name), family([(labels, 1)]));
}

/// Sends `bytes` and reads the code of the Close that follows after whatever was echoed.
fn code_after(gateway: &Gateway, bytes: &[u8]) -> Option<u16> {
    let mut client = gateway.open("/echo");
    client.send(bytes);
    let (code, _) = client.read_close();
    assert_eq!(client.next(), Next::Fin);
    code
}

#[test]
fn f1_declared_lengths_are_refused_on_the_header_alone() {
    // What is remembered of ended connections grows until it is full, whatever ended them.
    let gateway = Gateway::start(&["closes.kept=0"]);
    let canary = gateway.canary();
    let declare = |len: u64| header(FIN | BINARY, 0, Length::Eight(len));
    // Receive buffers become resident one after the other, whoever fills them: use them all first.
    let mut echo = gateway.open("/echo");
    for _ in 0..64 {
        echo.send_frame(FIN | BINARY, &[0; 32 * 1024]);
        echo.read_frame();
    }
    drop(echo);
    gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    for _ in 0..20 {
        fail(&gateway, &declare(1 << 32), 1009, "too_big");
    }
    // A page that some thread touches for the first time is not the frame's: what a declared length
    // costs, it costs in every round.
    let round = || {
        let before = gateway.usage().watch();
        fail(&gateway, &declare(1 << 63), 1002, "length_top_bit_set");
        fail(&gateway, &declare((1 << 63) + 1), 1002, "length_top_bit_set");
        fail(&gateway, &declare(u64::MAX), 1002, "length_top_bit_set");
        fail(&gateway, &declare(u64::MAX >> 1), 1009, "too_big");
        fail(&gateway, &declare(1 << 32), 1009, "too_big");
        fail(&gateway, &declare(64 * 1024 + 1), 1009, "too_big");
        before.peak_growth_kib()
    };
    let growth: Vec<u64> = (0..40).map(|_| round()).take_while(|&kib| kib >= 4).collect();
    assert!(growth.len() < 40, "{growth:?} KiB");
    canary.finish();
    gateway.finish();
}

#[test]
fn f2_a_thousand_declared_gigabytes_cost_nothing() {
    const COUNT: usize = 1_000;
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| gateway.open("/echo")).collect();
    let before = gateway.usage().watch();
    for client in &mut clients {
        client.send(&header(FIN | TEXT, 0, Length::Eight(4 << 30)));
    }
    for client in &mut clients {
        client.expect_close(1009);
    }
    let growth = before.peak_growth_kib();
    assert!(growth < 4 * 1024, "{growth} KiB");
    drop(clients);
    canary.finish();
    gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    let closed = gateway.metrics().family("closed_total");
    let wanted = [("1000 client client_close echo", 1), ("1009 server too_big echo", COUNT as u64)];
    assert_eq!(closed, family(wanted));
    gateway.finish();
}

#[test]
fn f3_lengths_in_too_many_bytes_fail() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    for length in [Length::Two(0), Length::Two(125), Length::Eight(125), Length::Eight(65_535)] {
        fail(&gateway, &header(FIN | BINARY, 0, length), 1002, "length_not_minimal");
    }
    let mut client = gateway.open("/echo");
    for len in [125, 126, 65_535, 65_536] {
        client.send_frame(FIN | BINARY, &vec![7; len]);
        assert_eq!(client.read_frame(), Frame { first: FIN | BINARY, payload: vec![7; len] });
    }
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f4_unmasked_frames_reserved_bits_and_unknown_opcodes_fail_and_nothing_more_is_read() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let unmasked = ([FIN | TEXT, 2, b'h', b'i'].to_vec(), "unmasked_client_frame");
    let reserved =
        [0x40, 0x20, 0x10].map(|bit| (frame(FIN | bit | TEXT, b"hi"), "reserved_bit_set"));
    let unknown = (0x3..=0x7).chain(0xB..=0xF);
    let unknown = unknown.map(|opcode| (frame(FIN | opcode, b"hi"), "unknown_opcode"));
    for (bytes, cause) in [unmasked].into_iter().chain(reserved).chain(unknown) {
        let and_more = [bytes, frame(FIN | TEXT, b"not echoed"), close(1000, b"")].concat();
        fail(&gateway, &and_more, 1002, cause);
    }
    assert_eq!(gateway.metrics().sum("close_received_total"), 0, "read after the failure");
    canary.finish();
    gateway.finish();
}

#[test]
fn f5_control_frames_are_short_and_whole() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    for opcode in [PING, PONG, CLOSE] {
        for len in [126, 65_536] {
            fail(&gateway, &header(FIN | opcode, len, Length::Minimal), 1002, "control_too_long");
        }
        fail(&gateway, &frame(opcode, b""), 1002, "control_fragmented");
    }
    let mut client = gateway.open("/echo");
    client.send_frame(FIN | PING, &[b'p'; 125]);
    assert_eq!(client.read_frame(), Frame { first: FIN | PONG, payload: vec![b'p'; 125] });
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f6_fragments_are_limited_in_number() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let begun = |count: usize, payload: &[u8]| {
        let mut bytes = frame(TEXT, payload);
        bytes.extend(frame(CONTINUATION, payload).repeat(count - 1));
        bytes
    };
    for payload in [&b"x"[..], b""] {
        fail(&gateway, &begun(129, payload), 1008, "too_many_fragments");
    }
    for payload in [&b"x"[..], b""] {
        let mut client = gateway.open("/echo");
        client.send(&begun(127, payload));
        client.send_frame(FIN | CONTINUATION, payload);
        assert_eq!(client.read_text(), String::from_utf8_lossy(&payload.repeat(128)));
    }
    for payload in [&b"x"[..], b""] {
        let mut client = gateway.open("/echo");
        let flood = begun(scaled(100_000, 1_000_000), payload);
        let mut writer = client.writer();
        let sender = thread::spawn(move || {
            // It is cut off somewhere.
            let _ = std::io::Write::write_all(&mut writer, &flood);
        });
        assert_eq!(client.read_close().0, Some(1008));
        sender.join().expect("it only writes");
    }
    canary.finish();
    gateway.finish();
}

#[test]
fn f6_messages_that_are_begun_and_not_finished_end_in_time_and_cost_little() {
    const COUNT: usize = 1_000;
    // As configured by default, or shortened.
    let gateway = Gateway::start(scaled(&["websocket.message_timeout=\"1s\""], &[]));
    let canary = gateway.canary();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| gateway.open("/echo")).collect();
    let mut stalled = frame(TEXT, &[b'x'; 500]);
    stalled.extend(frame(CONTINUATION, &[b'x'; 500]).repeat(126));
    let before = gateway.usage().watch();
    for client in &mut clients {
        client.send(&stalled);
    }
    for client in &mut clients {
        client.expect_close(3008);
    }
    let growth = before.peak_growth_kib();
    assert!(growth < 96 * 1024, "{growth} KiB");
    drop(clients);
    canary.finish();
    gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    let closed = gateway.metrics().family("closed_total");
    assert_eq!(closed.get("1006 server message_timeout echo"), Some(&(COUNT as u64)), "{closed:?}");
    gateway.finish();
}

#[test]
fn f7_messages_are_limited_over_all_their_fragments() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let fragment = frame(CONTINUATION, &[b'x'; 2048]);
    let whole = |count: usize| [frame(TEXT, &[b'x'; 2048]), fragment.repeat(count - 1)].concat();
    let mut client = gateway.open("/echo");
    client.send(&whole(32));
    client.send_frame(FIN | CONTINUATION, b"");
    assert_eq!(client.read_text().len(), 64 * 1024);
    client.send(&whole(32));
    client.send(&header(CONTINUATION, 1, Length::Minimal));
    client.expect_close(1009);
    fail(&gateway, &whole(40), 1009, "too_big");
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f8_a_message_in_single_bytes_arrives_once_and_right() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let mut client = gateway.open("/echo");
    let payload: Vec<u8> = (0..64 * 1024_u32).map(|n| n.to_le_bytes()[n as usize % 2]).collect();
    let bytes = frame(FIN | BINARY, &payload);
    client.send(&bytes);
    assert!(matches!(client.next(), Next::Frame(echo) if echo.payload == payload));
    let before = gateway.usage().watch();
    for byte in &bytes {
        client.send(std::slice::from_ref(byte));
    }
    assert!(matches!(client.next(), Next::Frame(echo) if echo.payload == payload));
    let growth = before.peak_growth_kib();
    assert!(growth < 1024, "{growth} KiB");
    assert!(client.is_silent_for(ms(100)), "more than one echo");
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f9_pings_are_limited_in_number() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let ping = frame(FIN | PING, b"p");
    let mut client = gateway.open("/echo");
    let before = gateway.metrics();
    let mut writer = client.writer();
    let sender = thread::spawn(move || {
        // It is cut off somewhere.
        let _ = std::io::Write::write_all(&mut writer, &ping.repeat(scaled(200_000, 1_000_000)));
    });
    let mut pongs = 0;
    let close = loop {
        match client.read_frame() {
            Frame { first, payload } if first == FIN | PONG => {
                assert_eq!(payload, b"p");
                pongs += 1;
            }
            frame => break frame,
        }
    };
    assert_eq!(close.first, FIN | CLOSE);
    assert_eq!(close.payload[..2], 1008_u16.to_be_bytes());
    // A burst of 20, and one more for each tenth of a second that this took.
    assert!((20..=25).contains(&pongs), "{pongs} pongs");
    assert!(matches!(client.drain(), Next::Fin | Next::Reset));
    sender.join().expect("it only writes");
    drop(client);
    expect_count(&gateway, &before, "1006 server control_flood echo");
    canary.finish();
    gateway.finish();
}

#[test]
fn f9_one_pong_waits_for_a_client_that_does_not_read() {
    let limits =
        ["websocket.control_frames_rate=1000000", "websocket.control_frames_burst=1000000"];
    let small = ["socket.send_buffer=\"8 KiB\"", "socket.notsent_lowat=\"4 KiB\""];
    // Receive buffers are touched one after the other, whoever sends: few of them, so as not to
    // take them for pongs.
    let gateway = Gateway::start(&[&limits[..], &small, &["ring.buffers=8"]].concat());
    let canary = gateway.canary();
    // Pongs of 5 MB in all, or more.
    let count = scaled(40_000_u32, 1_000_000);
    let numbered = |n: u32| [&n.to_be_bytes()[..], &[b'p'; 121]].concat();
    let flood = || {
        let mut client = Client::connect_narrow(gateway.clients(), 4096);
        client.upgrade("/echo");
        for n in 0..count {
            client.send_frame(FIN | PING, &numbered(n));
        }
        gateway.await_metrics(|metrics| metrics.sum("backlogs") == 1);
        client
    };
    // What the shard keeps for everybody is there after the first.
    drop(flood());
    gateway.await_metrics(|metrics| metrics.sum("backlogs") == 0);
    let before = gateway.usage().watch();
    let mut client = flood();
    let growth = before.peak_growth_kib();
    // What the allocator keeps varies, and does not follow the number of pings.
    assert!(growth < scaled(2, 6) * 1024, "{growth} KiB");
    let mut pongs = Vec::new();
    while pongs.last() != Some(&numbered(count - 1)) {
        let Frame { first, payload } = client.read_frame();
        assert_eq!(first, FIN | PONG);
        pongs.push(payload);
    }
    assert!(pongs.len() < count as usize / 4, "{} pongs were kept", pongs.len());
    assert!(pongs.is_sorted(), "out of order");
    client.send_text("still here");
    assert_eq!(client.read_text(), "still here");
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f9b_every_ping_of_a_client_that_reads_is_answered() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let mut client = gateway.open("/echo");
    let payloads = (0..10_u8).map(|n| vec![n; usize::from(n)]);
    let pings: Vec<u8> = payloads.clone().flat_map(|payload| frame(FIN | PING, &payload)).collect();
    client.send(&pings);
    for payload in payloads {
        assert_eq!(client.read_frame(), Frame { first: FIN | PONG, payload });
    }
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f10_control_frames_may_come_between_fragments_and_messages_may_not() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let mut client = gateway.open("/echo");
    client.send_frame(TEXT, b"one ");
    client.send_frame(FIN | PING, b"between");
    client.send_frame(FIN | CONTINUATION, b"message");
    let pong = Frame { first: FIN | PONG, payload: b"between".to_vec() };
    assert_eq!(client.read_frame(), pong);
    assert_eq!(client.read_text(), "one message");
    client.send_frame(TEXT, b"never finished");
    client.send_close(1001);
    client.expect_close(1001);
    fail(&gateway, &frame(FIN | CONTINUATION, b"x"), 1002, "unexpected_continuation");
    fail(&gateway, &frame(CONTINUATION, b"x"), 1002, "unexpected_continuation");
    for second in [TEXT, FIN | TEXT, BINARY, FIN | BINARY] {
        let bytes = [frame(TEXT, b"x"), frame(second, b"y")].concat();
        fail(&gateway, &bytes, 1002, "expected_continuation");
    }
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f11_text_that_is_not_utf_8_fails_at_once() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let wrong: [&[u8]; 8] = [
        b"\xC0\xAF",         // overlong
        b"\xE0\x80\xAF",     // overlong
        b"\xED\xA0\x80",     // a surrogate
        b"\xF4\x90\x80\x80", // beyond U+10FFFF
        b"\xF8\x88\x80\x80", // no such first byte
        b"\x80",             // no first byte
        b"\xCE\xBA\xFF",     // no such byte
        b"\xE2\x82",         // cut at the end of the message
    ];
    for payload in wrong {
        fail(&gateway, &frame(FIN | TEXT, payload), 1007, "invalid_utf8");
        let split = payload.len() / 2;
        let two = [frame(TEXT, &payload[..split]), frame(FIN | CONTINUATION, &payload[split..])];
        fail(&gateway, &two.concat(), 1007, "invalid_utf8");
        fail(&gateway, &close(1000, payload), 1007, "invalid_utf8");
    }
    // The message is never finished: what came is enough to tell.
    fail(&gateway, &frame(TEXT, b"\xED\xA0\x80"), 1007, "invalid_utf8");
    let long = frame(FIN | TEXT, &[&b"\xF4\x90"[..], &[b'x'; 500]].concat());
    fail(&gateway, &long[..20], 1007, "invalid_utf8");

    let text = "κόσμε €𝄞";
    let bytes = frame(FIN | TEXT, text.as_bytes());
    let mut client = gateway.open("/echo");
    for split in 1..text.len() {
        client.send_frame(TEXT, &text.as_bytes()[..split]);
        client.send_frame(FIN | CONTINUATION, &text.as_bytes()[split..]);
        assert_eq!(client.read_text(), text, "in frames at {split}");
    }
    for split in 1..bytes.len() {
        client.send(&bytes[..split]);
        pause(ms(1));
        client.send(&bytes[split..]);
        assert_eq!(client.read_text(), text, "in segments at {split}");
    }
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn f12_closes_with_what_may_not_be_sent_fail() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    fail(&gateway, &frame(FIN | CLOSE, b"x"), 1002, "bad_close_length");
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, u16::MAX] {
        fail(&gateway, &close(code, b""), 1002, "bad_close_code");
    }
    fail(&gateway, &close(1000, &[b'x'; 124]), 1002, "control_too_long");
    let good = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in good.into_iter().chain([3000, 3999, 4000, 4999]) {
        assert_eq!(code_after(&gateway, &close(code, &[b'x'; 123])), Some(code));
    }
    assert_eq!(code_after(&gateway, &frame(FIN | CLOSE, b"")), None);
    canary.finish();
    gateway.finish();
}

#[test]
fn f13_what_comes_after_a_close_is_ignored() {
    let gateway = Gateway::start(&["websocket.close_timeout=\"500ms\""]);
    let canary = gateway.canary();
    let after = [frame(FIN | TEXT, b"late"), frame(FIN | PING, b"late"), close(4000, b"")];
    let and_more = [close(1000, b""), after.concat()].concat();
    let mut client = gateway.open("/echo");
    client.send(&and_more);
    client.expect_close(1000);
    // Not even after the FIN of the server.
    let _ = client.try_send(&after.concat());
    drop(client);

    let mut client = gateway.open("/echo");
    client.send(&frame(FIN | 0x3, b""));
    client.expect_close(1002);
    let began = now();
    while client.try_send(&after.concat()).is_ok() {
        assert!(now() < began + ms(2_000), "the server never gives up");
        pause(ms(20));
    }
    drop(client);
    canary.finish();
    gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    let closed = gateway.metrics().family("closed_total");
    let wanted = [("1000 client client_close echo", 2), ("1002 server unknown_opcode echo", 1)];
    assert_eq!(closed, family(wanted));
    gateway.finish();
}

#[test]
fn a_broken_client_on_the_same_address_changes_nothing_for_its_neighbour() {
    let gateway = Gateway::start(&[]);
    let addresses: Vec<SocketAddr> = vec![gateway.clients(); 50];
    let canaries: Vec<_> = (0..3).map(|_| gateway.canary()).collect();
    for address in addresses {
        let mut client = Client::connect(address);
        client.upgrade("/echo");
        client.send(&frame(FIN | 0x70 | TEXT, b"x"));
        client.expect_close(1002);
    }
    canaries.into_iter().for_each(crate::gateway::canary::Canary::finish);
    gateway.finish();
}
