//! What is wrong above the frames: commands, subscriptions, clients that do not read.

use std::io::Write;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::gateway::client::{Client, Next, request};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{CLOSE, FIN, Frame, TEXT, frame};
use crate::gateway::metrics::family;

/// Sends `text` on a Centrifugo connection that has been let in; it is to be closed as a bad
/// command, once.
fn reject(gateway: &Gateway, text: &str) {
    let before = gateway.metrics();
    let mut client = gateway.centrifuge();
    client.send_text(text);
    let shown = &text[..text.len().min(100)];
    let (code, reason) = client.read_close();
    assert_eq!((code, &*reason), (Some(3501), "bad request"), "{shown}");
    client.send_close(3501);
    assert_eq!(client.next(), Next::Fin, "{shown}");
    drop(client);
    let after =
        gateway.await_metrics(|metrics| metrics.sum("closed_total") > before.sum("closed_total"));
    let counted = after.since(&before, "closed_total");
    assert_eq!(counted, family([("3501 server bad_command centrifuge", 1)]), "{shown}");
}

/// `count` members that nobody knows, each with a comma behind it.
fn unknown_members(count: usize) -> String {
    (0..count).map(|n| format!("\"k{n}\":0,")).collect()
}

/// Commands that no client library writes.
fn bad_commands() -> Vec<String> {
    let nested = |open: &str, close: &str, depth: usize| {
        let (open, close) = (open.repeat(depth), close.repeat(depth));
        format!(r#"{{"id":2,"publish":{{"channel":"a","data":{open}1{close}}}}}"#)
    };
    let many_keys = unknown_members(5_000);
    let digits = "9".repeat(60_000);
    vec![
        "[".repeat(32 * 1024),
        "{\"a\":".repeat(10 * 1024),
        nested("[", "]", 31),
        nested("[", "]", 10_000),
        nested("{\"a\":", "}", 5_000),
        format!(r#"{{"id":{digits},"publish":{{"channel":"a","data":1}}}}"#),
        r#"{"id":2,"id":3,"publish":{"channel":"a","data":1}}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":"a","channel":"b","data":1}}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":"a","data":1},"subscribe":{"channel":"a"}}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":"\ud800","data":1}}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":7,"data":1}}"#.to_owned(),
        r#"{"id":"2","publish":{"channel":"a","data":1}}"#.to_owned(),
        r#"{"id":-2,"publish":{"channel":"a","data":1}}"#.to_owned(),
        r#"{"id":2.5,"publish":{"channel":"a","data":1}}"#.to_owned(),
        r#"{"id":4294967296,"publish":{"channel":"a","data":1}}"#.to_owned(),
        r#"{"publish":{"channel":"a","data":1}}"#.to_owned(),
        r#"{"id":2,"publish":[]}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":"a","data":01}}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":"a","data":NaN}}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":"a","data":1}"#.to_owned(),
        r#"{"id":2,"publish":{"channel":"a","data":1}} x"#.to_owned(),
        r#"{"id":2,"history":{"channel":"a","limit":2147483648}}"#.to_owned(),
        r#"{"id":2,"connect":{}}"#.to_owned(),
        r#"{"id":2}"#.to_owned(),
        format!("{{{many_keys}\"id\":2}}"),
        "null".to_owned(),
        "[]".to_owned(),
        String::new(),
        "{}".to_owned(), // a pong that nobody has asked for
    ]
}

#[test]
fn a1_commands_of_any_length_are_read_to_their_end_and_no_further() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let mut client = gateway.centrifuge();
    client.send_text(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    assert!(client.read_text().starts_with(r#"{"id":2,"subscribe":{"#));
    // All at once, so that the commands end at any place of a buffer, next to what is not theirs.
    let data = |len: usize| "x".repeat(len);
    let publish = |len: usize| {
        format!(r#"{{"id":{},"publish":{{"channel":"a","data":"{}"}}}}"#, 100 + len, data(len))
    };
    let frames: Vec<u8> =
        (0..=256).flat_map(|len| frame(FIN | TEXT, publish(len).as_bytes())).collect();
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || writer.write_all(&frames));
    let (mut pushed, mut replied) = (0, 0);
    while pushed <= 256 || replied <= 256 {
        for line in client.read_text().lines() {
            if line.starts_with(r#"{"push":"#) {
                let wanted = format!(r#""data":"{}","#, data(pushed));
                assert!(line.contains(&wanted), "{pushed}: {line}");
                pushed += 1;
            } else {
                assert_eq!(line, format!(r#"{{"id":{},"publish":{{}}}}"#, 100 + replied));
                replied += 1;
            }
        }
    }
    sender.join().expect("it only writes").expect("the gateway reads");
    drop(client);
    // A command that is complete only with what lies behind it is none.
    for len in 0..64 {
        let whole = publish(len);
        let mut client = gateway.centrifuge();
        client.send_text(&whole[..whole.len() - 1]);
        assert_eq!(client.read_close().0, Some(3501), "{len}");
        client.reset();
    }
    canary.finish();
    gateway.finish();
}

#[test]
fn a2_bad_commands_are_refused_and_leave_nothing_behind() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let rejected = bad_commands();
    for text in &rejected {
        reject(&gateway, text);
    }
    let before = gateway.usage().watch();
    rejected.iter().for_each(|text| reject(&gateway, text));
    let growth = before.peak_growth_kib();
    assert!(growth < 1024, "{growth} KiB");

    canary.finish();
    gateway.finish();
}

#[test]
fn a2_odd_but_valid_data_arrives_byte_for_byte() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let many_keys = unknown_members(5_000);
    let mut client = gateway.centrifuge();
    client.send_text(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    assert!(client.read_text().starts_with(r#"{"id":2,"subscribe":{"#));
    let number = "1".repeat(300);
    for data in [
        "[".repeat(29) + &"]".repeat(29),
        r#"{"a":1,"a":2}"#.to_owned(),
        number,
        "-0.0e-7".to_owned(),
        r#""\u0000\ud83d\ude00""#.to_owned(),
        format!("{{{many_keys}\"z\":0}}"),
    ] {
        let text = format!(r#"{{"id":3,"publish":{{"channel":"a","data":{data}}}}}"#);
        client.send_text(&text);
        let (mut replies, mut pushed) = (0, 0);
        while replies + pushed < 2 {
            for line in client.read_text().lines() {
                replies += usize::from(line == r#"{"id":3,"publish":{}}"#);
                pushed += usize::from(line.contains(&format!(r#""data":{data}"#)));
            }
        }
        assert_eq!((replies, pushed), (1, 1), "{data}");
    }
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn a3_wrong_types_are_refused_whatever_they_are_wrong_for() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let members = [
        ("subscribe", "channel", "\"a\""),
        ("subscribe", "recover", "true"),
        ("subscribe", "offset", "2147483648"),
        ("subscribe", "epoch", "\"e\""),
        ("subscribe", "token", "\"\""),
        ("publish", "channel", "\"a\""),
        ("history", "limit", "5"),
        ("history", "since", "{}"),
        ("history", "reverse", "true"),
        ("unsubscribe", "channel", "\"a\""),
    ];
    for (method, name, right) in members {
        for wrong in ["true", "-1", "\"text\"", "{}", "[]"] {
            let is_right_kind = |kind: &str| right.starts_with(kind) && wrong.starts_with(kind);
            if ["\"", "{", "true"].into_iter().any(is_right_kind)
                || (name == "limit" && wrong == "-1")
            {
                continue;
            }
            let channel = if name == "channel" { "" } else { "\"channel\":\"a\"," };
            reject(&gateway, &format!(r#"{{"id":2,"{method}":{{{channel}"{name}":{wrong}}}}}"#));
        }
    }
    canary.finish();
    gateway.finish();
}

#[test]
fn a4_commands_in_one_message_are_carried_out_in_order() {
    let gateway = Gateway::start(&[]);
    let canary = gateway.canary();
    let mut listener = gateway.open("/topic/order");
    let mut client = gateway.centrifuge();
    let commands: Vec<String> = (2..=101)
        .map(|id| format!(r#"{{"id":{id},"publish":{{"channel":"order","data":{id}}}}}"#))
        .collect();
    client.send_text(&commands.join("\n"));
    let mut replies = Vec::new();
    while replies.len() < 100 {
        replies.extend(client.read_text().lines().map(str::to_owned));
    }
    for (id, reply) in (2..=101).zip(&replies) {
        assert_eq!(*reply, format!(r#"{{"id":{id},"publish":{{}}}}"#));
        assert_eq!(listener.read_text(), id.to_string());
    }
    drop((client, listener));
    canary.finish();
    gateway.finish();
}

#[test]
fn a5_subscriptions_are_limited_in_number_and_names_in_length() {
    let gateway = Gateway::start(&["limits.subscriptions_max=128", "limits.commands_rate=0"]);
    let canary = gateway.canary();
    let mut client = gateway.centrifuge();
    let subscribe = |id: usize, channel: &str| {
        format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}"}}}}"#)
    };
    let limit = r#""error":{"code":106,"message":"limit exceeded"}"#;
    for id in 2..=10_000 {
        client.send_text(&subscribe(id, &format!("t{id}")));
        let reply = client.read_text();
        let wanted = if id < 130 { r#""subscribe":{"# } else { limit };
        assert!(reply.starts_with(&format!(r#"{{"id":{id},{wanted}"#)), "{reply}");
    }
    assert_eq!(gateway.metrics().sum("subscriptions"), 128);
    for id in 0..1_000 {
        client.send_text(&format!(r#"{{"id":{},"unsubscribe":{{"channel":"t2"}}}}"#, 20_000 + id));
        assert!(client.read_text().contains(r#""unsubscribe":{}"#));
        client.send_text(&subscribe(30_000 + id, "t2"));
        assert!(client.read_text().contains(r#""subscribe":{"#));
    }
    client.send_text(&subscribe(40_000, "t2"));
    assert!(client.read_text().contains(r#""error":{"code":105,"#));
    client.send_text(&subscribe(40_001, &"x".repeat(10 * 1024)));
    assert!(client.read_text().contains(r#""error":{"code":107,"#));
    drop(client);
    let mut client = gateway.connect();
    let long = format!("/topic/{}", "x".repeat(10 * 1024));
    client.send(request(&long, "").as_bytes());
    assert_eq!(client.read_response().status, 400);
    drop(client);
    canary.finish();
    gateway.finish();
}

#[test]
fn a5_a_flood_of_subscribes_is_refused_then_ended_and_costs_little() {
    let gateway = Gateway::start(&["limits.commands_rate=100", "limits.commands_burst=300"]);
    let canary = gateway.canary();
    let memory = gateway.usage().watch();
    let mut client = gateway.centrifuge();
    let mut writer = client.writer();
    let flood = std::thread::spawn(move || {
        // 100,000 in one go, as far as they are taken.
        let texts = (2..100_002).map(|id| {
            frame(
                FIN | TEXT,
                format!(r#"{{"id":{id},"subscribe":{{"channel":"t{id}"}}}}"#).as_bytes(),
            )
        });
        let bytes: Vec<u8> = texts.flatten().collect();
        let _ = writer.write_all(&bytes);
    });
    let (mut granted, mut limited, mut too_many) = (0, 0, 0);
    let close = loop {
        match client.next() {
            Next::Frame(Frame { first, payload }) if first == FIN | TEXT => {
                let text = String::from_utf8(payload).expect("text is UTF-8");
                granted += text.matches(r#""subscribe":{"#).count();
                limited += text.matches(r#""error":{"code":106,"#).count();
                too_many += text.matches(r#""error":{"code":111,"#).count();
            }
            Next::Frame(frame) => break frame,
            end => panic!("{end:?} instead of a Close"),
        }
    };
    assert_eq!(close.first, FIN | CLOSE);
    assert_eq!(close.payload, [&3013_u16.to_be_bytes()[..], b"too many requests"].concat());
    assert_eq!(granted, 128);
    // The burst, and what was earned while the flood was read.
    assert!((170..400).contains(&limited), "{limited}");
    assert!(too_many >= 99, "{too_many}");
    let growth = memory.peak_growth_kib();
    assert!(growth < 4 * 1024, "{growth} KiB");
    drop(client);
    flood.join().expect("it only writes");
    let metrics = gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    assert_eq!(metrics.sum("close_sent_total"), 1);
    let closed = metrics.family("closed_total");
    assert!(closed.keys().all(|labels| labels.ends_with("server rate centrifuge")), "{closed:?}");
    canary.finish();
    gateway.finish();
}

#[test]
fn a5_a_raw_client_that_publishes_too_fast_is_closed() {
    let gateway = Gateway::start(&["limits.commands_rate=1", "limits.commands_burst=10"]);
    let canary = gateway.canary();
    let mut client = gateway.open("/topic/fast");
    for n in 0..11 {
        client.send_text(&n.to_string());
    }
    // Nothing follows our Close: those that the other shard has not sent back by then are missing.
    let mut heard = 0;
    loop {
        let frame = client.read_frame();
        if frame.first == FIN | CLOSE {
            assert_eq!(frame.payload, [&4429_u16.to_be_bytes()[..], b"rate"].concat());
            break;
        }
        assert_eq!(frame, Frame { first: FIN | TEXT, payload: heard.to_string().into_bytes() });
        heard += 1;
    }
    assert!(heard <= 10);
    drop(client);
    let metrics = gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    assert_eq!(metrics.family("closed_total"), family([("1006 server rate raw", 1)]));
    assert_eq!(metrics.sum("publications_total"), 10);
    canary.finish();
    gateway.finish();
}

#[test]
fn a5_topics_are_limited_in_number() {
    let gateway = Gateway::start(&["limits.topics_max=3"]);
    let canary = gateway.canary();
    let held = ["/topic/a", "/topic/b", "/topic/c"].map(|path| gateway.open(path));
    let mut late = gateway.connect();
    late.send(request("/topic/d", "").as_bytes());
    let response = late.read_response();
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some(), "{response:?}");
    let mut client = gateway.centrifuge();
    client.send_text(r#"{"id":2,"subscribe":{"channel":"e"}}"#);
    let reply = client.read_text();
    assert!(reply.starts_with(r#"{"id":2,"error":{"code":106,"#), "{reply}");
    client.send_text(r#"{"id":3,"subscribe":{"channel":"a"}}"#);
    assert!(client.read_text().starts_with(r#"{"id":3,"subscribe":{"#));
    let refused = gateway.metrics().family("handshake_refused_total");
    assert_eq!(refused, family([("503 hub_unavailable", 1)]));
    assert_eq!(gateway.metrics().sum("topics"), 3);
    drop((held, late, client));
    canary.finish();
    gateway.finish();
}

/// Publishes `count` messages of 16 KiB while `client` reads nothing; it is to be told `code` when
/// it reads, after an unbroken row of messages.
fn overwhelm(gateway: &Gateway, mut client: Client, count: usize, code: u16) {
    let before = gateway.metrics();
    let memory = gateway.usage().watch();
    let mut publisher = gateway.centrifuge();
    let filler = "x".repeat(16 * 1024);
    for id in 2..count + 2 {
        let data = format!(r#"{{"n":{},"x":"{filler}"}}"#, id - 2);
        publisher
            .send_text(&format!(r#"{{"id":{id},"publish":{{"channel":"big","data":{data}}}}}"#));
        assert_eq!(publisher.read_text(), format!(r#"{{"id":{id},"publish":{{}}}}"#));
    }
    let growth = memory.peak_growth_kib();
    assert!(growth < 8 * 1024, "{growth} KiB for {} KiB", count * 16);
    let metrics = gateway.await_metrics(|metrics| metrics.sum("outbox_overflows_total") > 0);
    assert_eq!(metrics.since(&before, "close_sent_total"), family([(&code.to_string(), 1)]));
    let mut next = 0;
    let close = loop {
        let frame = client.read_frame();
        if frame.first != FIN | TEXT {
            break frame;
        }
        let text = String::from_utf8(frame.payload).expect("text is UTF-8");
        for line in text.lines().filter(|line| line.contains(r#""x":"#)) {
            assert!(line.contains(&format!(r#"{{"n":{next},"#)), "{next} is missing");
            next += 1;
        }
    };
    assert_eq!(
        close,
        Frame { first: FIN | CLOSE, payload: [&code.to_be_bytes(), &b"slow"[..]].concat() }
    );
    assert!(next > 0 && next < count, "{next} of {count}");
    client.send_close(code);
    assert_eq!(client.next(), Next::Fin);
    drop((client, publisher));
    gateway.await_metrics(|metrics| metrics.sum("connections") == 1); // the canary
}

#[test]
fn a6_a_subscriber_that_does_not_read_is_told_that_it_is_slow() {
    let gateway = Gateway::start(&["websocket.close_timeout=\"20s\"", "limits.commands_rate=0"]);
    let canary = gateway.canary();
    let mut raw = Client::connect_narrow(gateway.clients(), 64 * 1024);
    raw.upgrade("/topic/big");
    overwhelm(&gateway, raw, 6_400, 4008); // 100 MB
    let closed = gateway.metrics().family("closed_total");
    assert_eq!(closed.get("4008 server slow_full raw"), Some(&1), "{closed:?}");
    canary.finish();
    gateway.finish();

    let gateway = Gateway::start(&["websocket.close_timeout=\"20s\"", "limits.commands_rate=0"]);
    let canary = gateway.canary();
    let mut centrifuge = Client::connect_narrow(gateway.clients(), 64 * 1024);
    centrifuge.upgrade("/connection/websocket");
    centrifuge
        .send_text("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"big\"}}");
    let mut replies = 0;
    while replies < 2 {
        replies += centrifuge.read_text().lines().count();
    }
    overwhelm(&gateway, centrifuge, 6_400, 3008);
    let closed = gateway.metrics().family("closed_total");
    assert_eq!(closed.get("3008 server slow_full centrifuge"), Some(&1), "{closed:?}");
    canary.finish();
    gateway.finish();
}

#[test]
fn a6_a_subscriber_that_takes_nothing_for_long_is_slow_below_the_limit_too() {
    let gateway = Gateway::start(&[
        "outbox.stall_timeout=\"500ms\"",
        "websocket.close_timeout=\"500ms\"",
        "socket.send_buffer=\"8 KiB\"",
        "socket.notsent_lowat=\"4 KiB\"",
    ]);
    let canary = gateway.canary();
    let descriptors = gateway.usage().descriptors;
    let mut client = Client::connect_narrow(gateway.clients(), 4096);
    client.upgrade("/topic/stall");
    for _ in 0..20 {
        gateway.api("publish", &format!(r#"{{"channel":"stall","data":"{}"}}"#, "x".repeat(8192)));
    }
    let began = now();
    let metrics = gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    assert!(now() - began < Duration::from_secs(3), "{:?}", now() - began);
    assert_eq!(metrics.family("closed_total"), family([("1006 server slow_stalled raw", 1)]));
    assert_eq!(client.drain(), Next::Reset);
    drop(client);
    canary.finish();
    gateway.finish_with_descriptors(descriptors);
}

#[test]
fn a6_a_subscriber_that_stays_long_above_the_soft_limit_is_slow() {
    let gateway = Gateway::start(&[
        "outbox.soft_timeout=\"600ms\"",
        "outbox.soft_bytes_max=\"32 KiB\"",
        "websocket.close_timeout=\"500ms\"",
        "socket.send_buffer=\"8 KiB\"",
        "socket.notsent_lowat=\"4 KiB\"",
    ]);
    let mut client = Client::connect_narrow(gateway.clients(), 4096);
    client.upgrade("/topic/soft");
    let publish = |count: usize| {
        for _ in 0..count {
            gateway
                .api("publish", &format!(r#"{{"channel":"soft","data":"{}"}}"#, "x".repeat(8192)));
        }
    };
    // Above the limit, but not for long: nothing happens.
    publish(20);
    for _ in 0..20 {
        assert_eq!(client.read_text().len(), 8194);
    }
    pause(ms(800));
    assert_eq!(gateway.metrics().sum("closed_total"), 0);
    publish(20);
    let began = now();
    // It reads on, too slowly.
    while gateway.metrics().sum("outbox_overflows_total") == 0 {
        assert!(now() - began < ms(600 + 1_000), "nobody minds");
        client.read_some(256);
        pause(ms(50));
    }
    assert!(now() - began > ms(500), "{:?}", now() - began);
    drop(client);
    gateway.finish();
}

#[test]
fn a6_a_client_that_sends_to_the_echo_and_never_reads_is_slow() {
    let gateway = Gateway::start(&["websocket.close_timeout=\"500ms\"", "ring.buffers=8"]);
    let canary = gateway.canary();
    let flood = || {
        let mut client = Client::connect_narrow(gateway.clients(), 4096);
        client.upgrade("/echo");
        let bytes = frame(FIN | TEXT, &[b'x'; 1000]);
        let sent = (0..64_000).take_while(|_| client.try_send(&bytes).is_ok()).count();
        assert!(sent < 64_000, "64 MB were taken");
    };
    flood();
    let before = gateway.usage().watch();
    flood();
    let growth = before.peak_growth_kib();
    assert!(growth < 4 * 1024, "{growth} KiB");
    canary.finish();
    let metrics = gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    let closed = metrics.family("closed_total");
    let wanted = [("1000 client client_close echo", 1), ("1006 server slow_full echo", 2)];
    assert_eq!(closed, family(wanted));
    assert_eq!(metrics.sum("outbox_overflows_total"), 2);
    gateway.finish();
}
