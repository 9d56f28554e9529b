//! Compression: what is agreed, what comes of it, and what hostile clients make of it.

use rustix::process::Signal;

use crate::deflate::{Sender, compress, inflate};
use crate::gateway::client::{Client, request};
use crate::gateway::clock::{ms, pause};
use crate::gateway::frame::{
    BINARY, CONTINUATION, FIN, Frame, Length, PING, RSV1, TEXT, frame, header,
};
use crate::gateway::metrics::family;
use crate::gateway::{Gateway, scaled};

const ON: &str = "deflate.enabled=true";
const TAKEOVER: &str = "deflate.client_takeover=true";

/// The answer when clients may not keep their context.
const ALONE: &str = "; server_no_context_takeover; client_no_context_takeover";

/// Sends `bytes` on new connections of each protocol, which are to fail with `code` and nothing
/// else, counted once for `cause`.
fn fail(gateway: &Gateway, bytes: &[u8], code: u16, cause: &str) {
    for (path, protocol) in
        [("/echo", "echo"), ("/topic/t", "raw"), ("/connection/websocket", "centrifuge")]
    {
        let before = gateway.metrics();
        let (mut client, _) = gateway.open_deflate(path, "");
        client.send(bytes);
        client.expect_close(code);
        drop(client);
        let name = "closed_total";
        let after = gateway.await_metrics(|metrics| metrics.sum(name) > before.sum(name));
        let labels = format!("{code} server {cause} {protocol}");
        assert_eq!(after.since(&before, name), family([(&labels, 1)]));
    }
}

fn compressed(message: &[u8]) -> Vec<u8> {
    frame(FIN | RSV1 | BINARY, &compress(message))
}

/// A text that shrinks to less than a tenth.
fn letters(len: usize) -> String {
    "the same words over and over; ".chars().cycle().take(len).collect()
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    (0..len).map(next).collect()
}

#[test]
fn messages_are_compressed_both_ways_and_counted() {
    let gateway = Gateway::start(&[ON]);
    let (mut client, answer) = gateway.open_deflate("/echo", "; client_max_window_bits");
    assert_eq!(answer, ALONE);
    let text = letters(1000);
    client.send_compressed(&text);
    assert_eq!(client.read_compressed(), text);
    client.send_text(&text);
    assert_eq!(client.read_compressed(), text, "what is sent does not depend on what came");
    client.send_compressed("short");
    assert_eq!(client.read_text(), "short");
    let hard = noise(1000);
    client.send(&frame(FIN | BINARY, &hard));
    assert_eq!(client.read_frame(), Frame { first: FIN | BINARY, payload: hard });
    // In fragments, with a Ping between them.
    let payload = compress(text.as_bytes());
    client.send_frame(RSV1 | TEXT, &payload[..5]);
    client.send_frame(FIN | PING, b"?");
    client.send_frame(CONTINUATION, &payload[5..]);
    client.send_frame(FIN | CONTINUATION, b"");
    assert_eq!(client.read_frame().payload, b"?");
    assert_eq!(client.read_compressed(), text);

    let metrics = gateway.await_metrics(|m| m.sum("deflate_messages_sent_total") == 3);
    for (name, expected) in [
        ("messages_received_total", 3),
        ("bytes_inflated_total", 2005),
        ("messages_compressed_total", 3),
        ("bytes_plain_total", 3000),
        ("skipped_short_total", 1),
        ("skipped_gain_total", 1),
    ] {
        assert_eq!(metrics.sum(&format!("deflate_{name}")), expected, "{name}");
    }
    for name in ["deflate_bytes_compressed_total", "deflate_bytes_received_total"] {
        assert!((90..300).contains(&metrics.sum(name)), "{name} {}", metrics.sum(name));
    }
    let memory = metrics.sum("deflate_memory_bytes");
    assert!((300_000..800_000).contains(&memory), "{memory}");
    drop(client);
    gateway.finish();
}

#[test]
fn without_the_setting_nothing_is_agreed() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.connect();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    client.send(request("/echo", offer).as_bytes());
    assert_eq!(client.expect_upgrade().header("sec-websocket-extensions"), None);
    client.send(&compressed(b"x"));
    client.expect_close(1002);
    drop(client);
    gateway.finish();
}

#[test]
fn one_publication_is_compressed_once_for_each_class_that_hears_it() {
    let gateway = Gateway::start(&[ON]);
    let mut plain = gateway.open("/topic/t");
    let (mut wide, _) = gateway.open_deflate("/topic/t", "");
    let (mut wide_too, _) = gateway.open_deflate("/topic/t", "; server_max_window_bits=15");
    let (mut narrow, answer) = gateway.open_deflate("/topic/t", "; server_max_window_bits=14");
    assert_eq!(answer, format!("{ALONE}; server_max_window_bits=12"));
    let (mut tiny, answer) = gateway.open_deflate("/topic/t", "; server_max_window_bits=9");
    assert_eq!(answer, format!("{ALONE}; server_max_window_bits=9"));

    // What is short enough for both windows has one form for all that take compressed messages.
    for (len, runs) in [(2_000, 1), (20_000, 2)] {
        let before = gateway.metrics();
        let text = letters(len);
        plain.send_text(&text);
        for client in [&mut plain, &mut tiny] {
            assert_eq!(client.read_text(), text);
        }
        for client in [&mut wide, &mut wide_too, &mut narrow] {
            assert_eq!(client.read_compressed(), text);
        }
        let name = "deflate_messages_sent_total";
        let after = gateway.await_metrics(|m| m.sum(name) == before.sum(name) + 3);
        let name = "deflate_messages_compressed_total";
        assert_eq!(after.since(&before, name), family([("", runs)]), "{len} bytes");
    }

    // The Centrifugo protocol has forms of its own.
    let (mut push, _) = gateway.open_deflate("/connection/websocket", "");
    push.send_text(r#"{"id":1,"connect":{}}"#);
    push.read_text();
    push.send_text(r#"{"id":2,"subscribe":{"channel":"t"}}"#);
    push.read_text();
    let data = letters(1_000);
    gateway.api("publish", &format!(r#"{{"channel":"t","data":"{data}"}}"#));
    assert!(push.read_compressed().contains(&data));
    assert!(wide.read_compressed().contains(&data));
    assert!(narrow.read_compressed().contains(&data));
    assert!(plain.read_text().contains(&data) && tiny.read_text().contains(&data));
    // What a client missed comes compressed, too.
    let (mut late, _) = gateway.open_deflate("/topic/t?offset=0", "");
    assert_eq!(late.read_compressed(), letters(2_000));
    drop((plain, wide, wide_too, narrow, tiny, push, late));
    gateway.finish();
}

#[test]
fn a_narrow_window_is_kept_to() {
    let gateway = Gateway::start(&[ON]);
    // The second half could only be said by referring back further than the narrow window.
    let message = noise(6_000).repeat(2);
    for (offer, is_compressed) in [("", true), ("; server_max_window_bits=12", false)] {
        let (mut client, _) = gateway.open_deflate("/echo", offer);
        client.send(&frame(FIN | BINARY, &message));
        let Frame { first, payload } = client.read_frame();
        assert_eq!(first & RSV1 != 0, is_compressed, "{offer}");
        let read = if is_compressed { inflate(&payload) } else { payload };
        assert_eq!(read, message);
    }
    gateway.finish();
}

#[test]
fn namespaces_with_secrets_are_not_compressed() {
    let gateway = Gateway::start(&[ON, "namespace.0.compress=false"]);
    let (mut raw, _) = gateway.open_deflate("/topic/t", "");
    let text = letters(1_000);
    raw.send_compressed(&text);
    assert_eq!(raw.read_text(), text);
    let (mut late, _) = gateway.open_deflate("/topic/t?offset=0", "");
    assert_eq!(late.read_text(), text);
    let (mut push, _) = gateway.open_deflate("/connection/websocket", "");
    for (command, len) in [
        (r#"{"id":1,"connect":{}}"#, 0),
        (r#"{"id":2,"subscribe":{"channel":"t","recover":true,"offset":0}}"#, 1_000),
        (r#"{"id":3,"history":{"channel":"t","limit":5}}"#, 1_000),
    ] {
        push.send_text(command);
        assert!(push.read_text().len() > len, "{command}");
    }
    drop((raw, late, push));
    gateway.finish();
}

#[test]
fn d1_a_bomb_is_stopped_as_soon_as_it_is_too_long() {
    const COUNT: usize = 200;
    let gateway = Gateway::start(&[ON]);
    let canary = gateway.canary();
    // 64 MiB of zeros in 64 KiB.
    let bomb = compressed(&vec![0; 64 << 20]);
    assert!(bomb.len() < 66_000, "{}", bomb.len());
    fail(&gateway, &bomb, 1009, "too_big");
    let mut clients: Vec<Client> =
        (0..COUNT).map(|_| gateway.open_deflate("/echo", "").0).collect();
    let before = gateway.usage().watch();
    for client in &mut clients {
        client.send(&bomb);
    }
    for client in &mut clients {
        client.expect_close(1009);
    }
    let growth = before.peak_growth_kib();
    let cpu_ms = before.cpu_ns_since() / 1_000_000;
    // At most what has arrived: nothing is inflated beyond 64 KiB, and one message at a time.
    let sent_kib = COUNT as u64 * 65;
    assert!(growth < sent_kib + 4096, "{growth} KiB");
    assert!(cpu_ms < sent_kib / 4, "{cpu_ms} ms for {sent_kib} KiB");
    drop(clients);
    canary.finish();
    gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    let closed = gateway.metrics().family("closed_total");
    assert_eq!(closed.get("1009 server too_big echo"), Some(&(COUNT as u64 + 1)), "{closed:?}");
    gateway.finish();
}

#[test]
fn d2_bombs_in_any_wrapping_are_stopped() {
    let gateway = Gateway::start(&[ON, TAKEOVER]);
    let canary = gateway.canary();
    let bomb = compress(&vec![0; 1 << 20]);
    let mut fragments = frame(RSV1 | BINARY, &bomb[..1]);
    for piece in bomb[1..].chunks(bomb.len().div_ceil(100)) {
        fragments.extend(frame(CONTINUATION, piece));
    }
    fragments.extend(frame(FIN | CONTINUATION, b""));
    fail(&gateway, &fragments, 1009, "too_big");
    let flood = [frame(RSV1 | BINARY, b""), frame(CONTINUATION, b"").repeat(128)].concat();
    fail(&gateway, &flood, 1008, "too_many_fragments");
    // One that refers to what was said before.
    let mut sender = Sender::new();
    let first = sender.compress(&noise(32_000));
    let second = sender.compress(&noise(32_000).repeat(40));
    assert!(second.len() < 10_000, "{}", second.len());
    let (mut client, answer) = gateway.open_deflate("/echo", "");
    assert_eq!(answer, "; server_no_context_takeover");
    client.send(&frame(FIN | RSV1 | BINARY, &first));
    assert_eq!(client.read_frame().payload, noise(32_000));
    client.send(&frame(FIN | RSV1 | BINARY, &second));
    client.expect_close(1009);
    drop(client);
    gateway.await_metrics(|metrics| metrics.sum("connections") == 1);
    // Blocks that say nothing: without end; and each the last one.
    let stored = b"\x00\x00\x00\xFF\xFF";
    fail(&gateway, &frame(FIN | RSV1 | BINARY, &stored.repeat(100_000)), 1009, "too_big");
    let finals = b"\x03\x00".repeat(30_000);
    fail(&gateway, &frame(FIN | RSV1 | BINARY, &finals), 1007, "bad_deflate");
    // As many as a message can hold: stored ones, and four of ten bits each in five bytes.
    let (mut client, _) = gateway.open_deflate("/echo", "");
    for blocks in [&stored[..], b"\x02\x08\x20\x80\x00"] {
        let before = gateway.usage();
        for _ in 0..20 {
            let payload = [&blocks.repeat(12_000)[..], b"\x00"].concat();
            client.send(&frame(FIN | RSV1 | BINARY, &payload));
            assert_eq!(client.read_frame(), Frame { first: FIN | BINARY, payload: vec![] });
        }
        let (cpu_us, kib) = (before.cpu_ns_since() / 1_000, 20 * 60_000 / 1024);
        assert!(cpu_us < kib * 1_000, "{cpu_us} µs for {kib} KiB of {blocks:02x?}");
    }
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn many_messages_of_little_input_take_their_turns() {
    let gateway = Gateway::start(&[ON, "outbox.bytes_max=\"64 MiB\""]);
    let canary = gateway.canary();
    // 64 KiB of zeros in less than 100 bytes, 500 times at once.
    let zeros = compressed(&vec![0; 64 << 10]);
    let (mut client, _) = gateway.open_deflate("/echo", "");
    client.send(&zeros.repeat(500));
    for _ in 0..500 {
        let Frame { first, payload } = client.read_frame();
        assert_eq!((first, inflate(&payload).len()), (FIN | RSV1 | BINARY, 64 << 10));
    }
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn bombs_of_many_clients_at_once_take_their_turns() {
    const COUNT: usize = 600;
    const EACH: usize = 2;
    // The kernel takes what is echoed, so that nothing of it is kept for those who do not read yet.
    let gateway = Gateway::start(&[ON, "socket.notsent_lowat=\"256 KiB\""]);
    // Echoed as it is: more than the window of these clients has no compressed form for them.
    let message = vec![0; 64 << 10];
    let bombs = compressed(&message).repeat(EACH);
    let open = |_| gateway.open_deflate("/echo", "; server_max_window_bits=10").0;
    let mut clients: Vec<Client> = (0..COUNT).map(open).collect();
    let canary = gateway.canary();
    let before = gateway.usage().watch();
    // All of it is there when the gateway next looks.
    gateway.signal(Signal::STOP);
    clients.iter_mut().for_each(|client| client.send(&bombs));
    gateway.signal(Signal::CONT);
    for client in &mut clients {
        for _ in 0..EACH {
            let Frame { first, payload } = client.read_frame();
            assert!(first == FIN | BINARY && payload == message);
        }
    }
    // What waits is what they have sent, and not the 75 MiB that become of it.
    let growth = before.peak_growth_kib();
    assert!(growth < 16 * 1024, "{growth} KiB");
    drop(clients);
    canary.finish();
    gateway.finish();
}

#[test]
fn d3_bad_offers_are_declined_and_the_connection_stays_plain() {
    let gateway = Gateway::start(&[ON]);
    let canary = gateway.canary();
    let fifty = ["permessage-deflate; server_max_window_bits=7"; 50].join(", ");
    for offer in [
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; unknown=1",
        "permessage-inflate",
        &fifty,
    ] {
        let mut client = gateway.connect();
        let header = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        client.send(request("/echo", &header).as_bytes());
        let response = client.expect_upgrade();
        assert_eq!(response.header("sec-websocket-extensions"), None, "{offer}");
        let text = letters(500);
        client.send_text(&text);
        assert_eq!(client.read_text(), text);
    }
    // An empty value makes it no list of extensions at all.
    let mut client = gateway.connect();
    let header = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=\"\"\r\n";
    client.send(request("/echo", header).as_bytes());
    assert_eq!(client.read_response().status, 400);
    let offers = "; server_max_window_bits=7, permessage-deflate";
    assert_eq!(gateway.open_deflate("/echo", offers).1, ALONE);
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn d4_the_bit_means_something_only_where_it_was_agreed() {
    let gateway = Gateway::start(&[ON]);
    let canary = gateway.canary();
    for bytes in [
        frame(FIN | RSV1 | PING, b""),
        [frame(RSV1 | TEXT, b"\x00"), frame(FIN | RSV1 | CONTINUATION, b"")].concat(),
        [frame(TEXT, b"a"), frame(FIN | RSV1 | CONTINUATION, b"b")].concat(),
        frame(FIN | 0x20 | TEXT, b"a"),
        frame(FIN | RSV1 | 0x10 | TEXT, b"a"),
    ] {
        fail(&gateway, &bytes, 1002, "reserved_bit_set");
    }
    let mut plain = gateway.open("/echo");
    plain.send(&compressed(b"x"));
    plain.expect_close(1002);
    drop(plain);
    canary.finish();
    gateway.finish();
}

#[test]
fn d5_empty_messages_are_empty_and_broken_ones_fail() {
    let gateway = Gateway::start(&[ON]);
    let canary = gateway.canary();
    let (mut client, _) = gateway.open_deflate("/echo", "");
    for payload in [&b""[..], b"\x00", b"\x02\x00"] {
        client.send(&frame(FIN | RSV1 | TEXT, payload));
        assert_eq!(client.read_frame(), Frame { first: FIN | TEXT, payload: vec![] });
    }
    let good = compress(letters(500).as_bytes());
    let cut = good[..good.len() - 3].to_vec();
    for payload in [cut, vec![0xFF; 20], vec![0x06, 0x00, 0xFF], noise(300)] {
        fail(&gateway, &frame(FIN | RSV1 | BINARY, &payload), 1007, "bad_deflate");
    }
    let bad_text = frame(FIN | RSV1 | TEXT, &compress(b"\xCE\xBA\xFF and more"));
    fail(&gateway, &bad_text, 1007, "invalid_utf8");
    // The second refers to the first, and this client agreed to keep nothing.
    let mut sender = Sender::new();
    let text = b"twice the same words";
    let frames = [text, text].map(|text| frame(FIN | RSV1 | BINARY, &sender.compress(text)));
    let (mut forgetful, _) = gateway.open_deflate("/echo", "");
    forgetful.send(&frames[0]);
    assert_eq!(forgetful.read_frame().payload, text);
    forgetful.send(&frames[1]);
    forgetful.expect_close(1007);
    drop((client, forgetful));
    canary.finish();
    gateway.finish();
}

#[test]
fn d6_clients_that_agree_and_say_nothing_cost_no_memory_of_compression() {
    const PLAIN: u64 = 2_000;
    let count: u64 = scaled(2_000, 10_000);
    let gateway = Gateway::start(&[ON]);
    let canary = gateway.canary();
    let open = |count: u64, offer: Option<&str>| -> Vec<Client> {
        let one = |_| match offer {
            Some(offer) => gateway.open_deflate("/echo", offer).0,
            None => gateway.open("/echo"),
        };
        (0..count).map(one).collect()
    };
    let warm = open(PLAIN, None);
    let before = gateway.usage();
    let plain = open(PLAIN, None);
    let plain_kib = gateway.usage().memory_kib.saturating_sub(before.memory_kib);
    let before = gateway.usage();
    let mut agreed = open(count, Some("; client_max_window_bits"));
    let agreed_kib = gateway.usage().memory_kib.saturating_sub(before.memory_kib);
    // Under 100 bytes more for each.
    let most = plain_kib * count / PLAIN + count / 10;
    assert!(agreed_kib < most, "{agreed_kib} KiB of {count}, plain {plain_kib} KiB of {PLAIN}");
    assert_eq!(gateway.metrics().sum("deflate_memory_bytes"), 0);
    // When each of them has said something, there is what they share.
    let text = letters(2_000);
    for client in &mut agreed {
        client.send_compressed(&text);
        assert_eq!(client.read_compressed(), text);
    }
    let memory = gateway.metrics().sum("deflate_memory_bytes");
    assert!((100_000..800_000).contains(&memory), "{memory}");
    drop((warm, plain, agreed));
    canary.finish();
    gateway.finish();
}

#[test]
fn d6_contexts_are_limited_in_number_and_size_and_given_back() {
    let limits = ["deflate.contexts_max=3", "deflate.client_window_bits=12"];
    let gateway = Gateway::start(&[&[ON, TAKEOVER][..], &limits].concat());
    let canary = gateway.canary();
    let kept = "; server_no_context_takeover; client_max_window_bits=12";
    let offer = "; client_max_window_bits";
    let (first, answer) = gateway.open_deflate("/echo", offer);
    assert_eq!(answer, kept);
    let (second, answer) = gateway.open_deflate("/topic/t", offer);
    assert_eq!(answer, kept);
    // One that cannot be told to keep less, and one that wants to keep nothing.
    assert_eq!(gateway.open_deflate("/echo", "").1, ALONE);
    assert_eq!(gateway.open_deflate("/echo", "; client_no_context_takeover").1, ALONE);
    let (mut third, answer) = gateway.open_deflate("/echo", offer);
    assert_eq!(answer, kept);
    assert_eq!(gateway.open_deflate("/echo", offer).1, ALONE, "no room is left");
    let metrics = gateway.await_metrics(|metrics| metrics.sum("deflate_contexts") == 3);
    assert_eq!(metrics.sum("deflate_memory_bytes"), 0, "nobody has said anything");
    let mut sender = Sender::new();
    for _ in 0..20 {
        third.send(&frame(FIN | RSV1 | BINARY, &sender.compress(&[7; 1_000])));
        let Frame { payload, .. } = third.read_frame();
        assert_eq!(inflate(&payload), [7; 1_000]);
    }
    drop((first, second, third));
    gateway.await_metrics(|metrics| metrics.sum("deflate_contexts") == 0);
    assert_eq!(gateway.open_deflate("/echo", offer).1, kept);
    canary.finish();
    gateway.finish();
}

#[test]
fn d7_messages_of_all_lengths_arrive_whole_through_a_narrow_reader() {
    let small = ["socket.send_buffer=\"8 KiB\"", "socket.notsent_lowat=\"4 KiB\""];
    let gateway = Gateway::start(&[&[ON, TAKEOVER][..], &small].concat());
    let canary = gateway.canary();
    let mut client = Client::connect_narrow(gateway.clients(), 2_048);
    let header = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    client.send(request("/echo", header).as_bytes());
    client.expect_upgrade();
    let mut sender = Sender::new();
    let lens = [1, 2, 125, 126, 127, 255, 256, 257, 4_095, 4_096, 4_097, 32_768, 65_535, 65_536];
    let messages: Vec<Vec<u8>> = lens
        .into_iter()
        .flat_map(|len| [noise(len), letters(len).into_bytes(), vec![0; len]])
        .collect();
    for message in &messages {
        client.send(&frame(FIN | RSV1 | BINARY, &sender.compress(message)));
    }
    pause(ms(300));
    for message in &messages {
        let Frame { first, payload } = client.read_frame();
        let read = if first & RSV1 == 0 { payload } else { inflate(&payload) };
        assert!(read == *message, "a message of {} bytes came back changed", message.len());
    }
    assert!(client.is_silent_for(ms(100)));
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn a_compressed_frame_is_judged_by_its_header_too() {
    let gateway = Gateway::start(&[ON]);
    let limit = 64 * 1024;
    let allowed = limit + limit / 16 + 64;
    fail(&gateway, &header(FIN | RSV1 | TEXT, allowed + 1, Length::Minimal), 1009, "too_big");
    // What cannot be compressed may be as long as a plain message; what its blocks cost is on top.
    let (mut client, _) = gateway.open_deflate("/echo", "");
    let payload = compress(&noise(limit));
    assert!(payload.len() > limit);
    client.send(&frame(FIN | RSV1 | BINARY, &payload));
    assert_eq!(client.read_frame().payload, noise(limit));
    client.send(&compressed(&noise(limit + 1)));
    client.expect_close(1009);
    drop(client);
    gateway.finish();
}
