//! What `/debug/closes` tells about each way to end.

use std::collections::BTreeSet;

use ringway::dialect::cause::Cause;
use ringway::ws::error::ProtocolError;
use serde_json::{Value, json};

use crate::gateway::client::{Client, Next, request};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{
    BINARY, CLOSE, CONTINUATION, FIN, Length, PING, TEXT, close, frame, header,
};
use crate::gateway::metrics::{family, get};
use crate::gateway::{Gateway, free_address};

/// The last events of a close.
fn events(close: &Value) -> Vec<&str> {
    let events = close["events"].as_array().expect("a list");
    events.iter().map(|event| event.as_str().expect("a word")).collect()
}

/// Code, initiator, topics.
fn verdict(close: &Value) -> (u64, &str, u64) {
    let initiator = close["initiator"].as_str().expect("a word");
    let number = |key: &str| close[key].as_u64().expect("a number");
    (number("code"), initiator, number("topics"))
}

#[test]
fn an_orderly_close_is_told_with_the_words_of_both() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.open("/echo");
    let address = client.address().to_string();
    client.send_text("x");
    assert_eq!(client.read_text(), "x");
    client.send_frame(FIN | PING, b"");
    client.read_frame();
    pause(ms(120));
    client.send(&close(1000, "<img src=x onerror=alert(1)>\u{1b}[31m".as_bytes()));
    client.expect_close(1000);
    drop(client);
    let told = gateway.await_close("client_close");
    assert_eq!(verdict(&told), (1000, "client", 0));
    assert_eq!(told["kind"], "orderly");
    assert_eq!(told["address"], json!(address));
    assert_eq!((&told["protocol"], &told["listener"]), (&json!("echo"), &json!(0)));
    let said = json!({"code": 1000, "reason": "<img src=x onerror=alert(1)>\u{1b}[31m"});
    assert_eq!(told["received"], said);
    assert_eq!(told["sent"], json!({"code": 1000, "reason": ""}));
    let wanted =
        ["opened", "message", "ping_received", "close_received", "close_sent", "fin_received"];
    assert_eq!(events(&told), wanted);
    let age = told["age_seconds"].as_f64().expect("a number");
    assert!((0.1..5.0).contains(&age), "{age}");
    assert_eq!(told["unsent_bytes"], 0);
    let tcp = &told["tcp"];
    assert!(tcp["rtt_seconds"].as_f64().is_some_and(|rtt| rtt > 0.0 && rtt < 1.0), "{tcp}");
    assert_eq!(tcp["retransmitted_segments"], 0);
    // The request, a message, a ping and a Close.
    assert!(tcp["received_bytes"].as_u64().is_some_and(|n| (150..600).contains(&n)), "{tcp}");
    gateway.finish();
}

#[test]
fn fin_and_reset_are_told_apart_and_both_know_who_it_was() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.open("/topic/t");
    let address = client.address().to_string();
    client.finish_writing();
    assert_eq!(client.next(), Next::Fin);
    let told = gateway.await_close("client_gone");
    assert_eq!(verdict(&told), (1006, "transport", 1));
    assert_eq!((&told["sent"], &told["received"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&told["address"], events(&told)),
        (&json!(address), vec!["subscribe", "opened", "fin_received"])
    );

    let mut client = gateway.open("/topic/t");
    let address = client.address().to_string();
    client.send_text("x");
    assert_eq!(client.read_text(), "x");
    client.reset();
    let told = gateway.await_close("reset");
    assert_eq!(verdict(&told), (1006, "transport", 1));
    assert_eq!(told["address"], json!(address), "although it has gone");
    assert_eq!(events(&told), ["subscribe", "opened", "publish", "failed"]);
    assert_eq!(told["kind"], "abnormal");
    gateway.finish();
}

#[test]
fn a_client_of_centrifugo_is_told_by_its_id_and_its_topics() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.open("/connection/websocket");
    client.send_text(r#"{"id":1,"connect":{}}"#);
    let reply = client.read_text();
    let (_, rest) = reply.split_once(r#""client":""#).expect("it has an id");
    let id = rest.split('"').next().expect("it has an end");
    for (n, topic) in ["a", "b", "c"].iter().enumerate() {
        client.send_text(&format!(r#"{{"id":{},"subscribe":{{"channel":"{topic}"}}}}"#, n + 2));
        client.read_text();
    }
    client.send_text(r#"{"id":9,"publish":{"channel":"a","data":1}}"#);
    while !client.read_text().contains(r#""id":9"#) {}
    let order =
        format!(r#"{{"user":"","client":"{id}","disconnect":{{"code":4321,"reason":"go now"}}}}"#);
    gateway.api("disconnect", &order);
    let (code, reason) = loop {
        match client.next() {
            Next::Frame(frame) if frame.first == FIN | CLOSE => {
                let (code, reason) = frame.payload.split_at(2);
                break (code.to_vec(), String::from_utf8_lossy(reason).into_owned());
            }
            Next::Frame(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((code, &*reason), (4321_u16.to_be_bytes().to_vec(), "go now"));
    drop(client);
    let told = gateway.await_close("disconnected");
    assert_eq!(verdict(&told), (1006, "server", 3));
    assert_eq!(told["client"], json!(id));
    assert_eq!(told["sent"], json!({"code": 4321, "reason": "go now"}));
    let told = events(&told);
    assert_eq!(told[..4], ["opened", "subscribe", "publish", "close_sent"]);
    gateway.finish();
}

/// A gateway whose clients are slow soon, and a raw client of it that does not read.
fn slow(settings: &[&str]) -> (Gateway, Client) {
    let clients = free_address();
    let text = format!(
        "[[listener]]\naddress = \"{clients}\"\n[[namespace]]\nhistory_bytes_max = \"32 KiB\"\n"
    );
    let small = [
        "socket.send_buffer=\"8 KiB\"",
        "socket.notsent_lowat=\"4 KiB\"",
        "websocket.close_timeout=\"300ms\"",
    ];
    let settings: Vec<&str> = small.into_iter().chain(settings.iter().copied()).collect();
    let gateway = Gateway::start_with(&text, clients, &settings);
    let mut client = Client::connect_narrow(gateway.clients(), 4096);
    client.upgrade("/topic/big");
    (gateway, client)
}

fn publish(gateway: &Gateway, count: usize) {
    let filler = "x".repeat(8 * 1024);
    for _ in 0..count {
        gateway.api("publish", &format!(r#"{{"channel":"big","data":"{filler}"}}"#));
    }
}

#[test]
fn slow_clients_are_told_apart_by_the_limit_and_by_what_they_left() {
    let full = ["outbox.bytes_max=\"64 KiB\"", "outbox.soft_bytes_max=\"32 KiB\""];
    let (gateway, client) = slow(&full);
    publish(&gateway, 40);
    let told = gateway.await_close("slow_full");
    assert_eq!(verdict(&told), (1006, "server", 1));
    assert_eq!(told["sent"], json!({"code": 4008, "reason": "slow"}));
    assert!(told["unsent_bytes"].as_u64().is_some_and(|n| n > 64 * 1024), "{told}");
    let said = events(&told);
    assert_eq!(said[..3], ["subscribe", "opened", "backlog_began"]);
    assert_eq!(said[said.len() - 2..], ["output_dropped", "close_sent"]);
    assert!(told["tcp"]["window_closed_seconds"].is_number(), "{told}");
    drop(client);
    gateway.finish();

    let stalled = ["outbox.stall_timeout=\"300ms\""];
    let (gateway, client) = slow(&stalled);
    publish(&gateway, 10);
    let told = gateway.await_close("slow_stalled");
    assert_eq!(verdict(&told), (1006, "server", 1));
    assert!(told["unsent_bytes"].as_u64().is_some_and(|n| n > 8 * 1024), "{told}");
    drop(client);
    gateway.finish();

    let behind = ["outbox.soft_bytes_max=\"32 KiB\"", "outbox.soft_timeout=\"300ms\""];
    let (gateway, client) = slow(&behind);
    publish(&gateway, 10);
    let told = gateway.await_close("slow_behind");
    assert_eq!(verdict(&told), (1006, "server", 1));
    assert!(told["unsent_bytes"].as_u64().is_some_and(|n| n > 32 * 1024), "{told}");
    drop(client);
    gateway.finish();
}

/// The causes that only a broken network, a full kernel or a bug of ours leads to.
const OUT_OF_REACH: [Cause; 5] = [
    Cause::TcpTimeout,
    Cause::BrokenPipe,
    Cause::Unreachable,
    Cause::TransportError,
    Cause::Internal,
];

/// Where to connect, what to send, and the cause for which that ends.
fn scripts() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |text: &str| frame(FIN | TEXT, text.as_bytes());
    let ws = "/connection/websocket";
    vec![
        ("/echo", [FIN | TEXT, 1, b'x'].to_vec(), "unmasked_client_frame"),
        ("/echo", frame(FIN | 0x40 | TEXT, b""), "reserved_bit_set"),
        ("/echo", frame(FIN | 0x3, b""), "unknown_opcode"),
        ("/echo", header(FIN | TEXT, 0, Length::Two(5)), "length_not_minimal"),
        ("/echo", header(FIN | TEXT, 0, Length::Eight(1 << 63)), "length_top_bit_set"),
        ("/echo", header(FIN | PING, 126, Length::Minimal), "control_too_long"),
        ("/echo", frame(PING, b""), "control_fragmented"),
        ("/echo", frame(FIN | CONTINUATION, b""), "unexpected_continuation"),
        ("/echo", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat(), "expected_continuation"),
        ("/echo", frame(FIN | CLOSE, b"x"), "bad_close_length"),
        ("/echo", close(1005, b""), "bad_close_code"),
        ("/echo", frame(FIN | TEXT, b"\xFF"), "invalid_utf8"),
        ("/echo", header(FIN | TEXT, 64 * 1024 + 1, Length::Minimal), "too_big"),
        (
            "/echo",
            [frame(TEXT, b""), frame(CONTINUATION, b"").repeat(128)].concat(),
            "too_many_fragments",
        ),
        ("/echo", frame(FIN | PING, b"").repeat(60), "control_flood"),
        ("/echo", frame(TEXT, b"begun"), "message_timeout"),
        ("/echo", close(1000, b""), "client_close"),
        ("/echo", Vec::new(), "ping_timeout"),
        ("/topic/quiet:t", text("x"), "publish_denied"),
        ("/topic/busy", text("x").repeat(6), "rate"),
        (ws, text("nonsense"), "bad_command"),
        (ws, text(r#"{"id":1,"connect":{"token":"t"}}"#), "unauthorized"),
        (ws, text("{\"id\":1,\"connect\":{}}\n{\"send\":{\"data\":{}}}"), "not_available"),
        (ws, frame(FIN | BINARY, b"{}"), "unsupported_data"),
        (ws, Vec::new(), "connect_timeout"),
    ]
}

#[test]
fn every_cause_that_can_be_reached_from_outside_has_its_story() {
    let gateway = Gateway::start(&[
        "http.head_timeout=\"1s\"",
        "demo.enabled=true",
        "deflate.enabled=true",
        "websocket.message_timeout=\"300ms\"",
        "websocket.ping_interval=\"1s\"",
        "websocket.pong_timeout=\"200ms\"",
        "websocket.idle_timeout=\"2s\"",
        "websocket.control_frames_rate=20",
        "websocket.close_timeout=\"100ms\"",
        "centrifuge.connect_timeout=\"300ms\"",
        "limits.commands_rate=1",
        "limits.commands_burst=5",
    ]);
    let scripts = scripts();
    let mut clients = Vec::new();
    for (path, bytes, cause) in &scripts {
        let mut client = gateway.open(path);
        client.send(bytes);
        clients.push(client);
        let is_error = ProtocolError::ALL.iter().any(|error| error.reason() == *cause);
        let told = gateway.await_close(cause);
        let initiator = if *cause == "client_close" { "client" } else { "server" };
        assert_eq!((&told["cause"], &told["initiator"]), (&json!(cause), &json!(initiator)));
        if is_error {
            assert_eq!(told["sent"]["reason"], json!(cause));
            assert_eq!(told["code"], told["sent"]["code"]);
        }
    }
    let (mut packed, _) = gateway.open_deflate("/echo", "");
    packed.send(&frame(FIN | 0x40 | BINARY, &[0xFF; 20]));
    assert_eq!(gateway.await_close("bad_deflate")["code"], 1007);
    unopened(&gateway);
    let busy = gateway.open("/echo");
    answer_pings_until_idle(busy);
    // It has been told; it has ended a little later.
    gateway.await_close("idle");
    let mut seen: BTreeSet<String> = causes_of(&gateway);
    drop(clients);
    gateway.finish();
    seen.extend(told_elsewhere());
    let reachable = Cause::ALL
        .iter()
        .filter(|cause| !Cause::UNREACHED.contains(cause) && !OUT_OF_REACH.contains(cause));
    let reachable: BTreeSet<String> = reachable.map(|cause| cause.label().to_owned()).collect();
    assert_eq!(seen, reachable);
}

/// Causes to which other tests of this folder lead, each with its story.
fn told_elsewhere() -> impl Iterator<Item = String> {
    let others = [
        "slow_full",
        "slow_behind",
        "slow_stalled",
        "disconnected",
        "drain",
        "proxy_header",
        "shed",
        "position_lost",
        "broker_lost",
    ];
    let tls = ["tls_truncated", "tls_alert", "tls_failed", "tls_timeout"];
    others.into_iter().chain(tls).map(str::to_owned)
}

fn causes_of(gateway: &Gateway) -> BTreeSet<String> {
    let closes = gateway.closes("limit=1000");
    closes.iter().filter_map(|close| Some(close["cause"].as_str()?.to_owned())).collect()
}

/// A client that lives by its pongs alone.
fn answer_pings_until_idle(mut client: Client) {
    let deadline = now() + ms(10_000);
    loop {
        let ping = client.read_frame();
        if ping.first == FIN | CLOSE {
            assert_eq!(&ping.payload[2..], b"idle");
            return;
        }
        assert!(now() < deadline, "it lives for ever");
        client.send_frame(FIN | 0xA, &ping.payload);
    }
}

/// Ends before the upgrade.
fn unopened(gateway: &Gateway) {
    let mut refused = gateway.connect();
    refused.send(request("/nowhere", "").as_bytes());
    assert_eq!(refused.read_response().status, 404);
    drop(refused);
    let mut page = gateway.connect();
    page.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(page.read_response().status, 200);
    drop(page);
    gateway.connect().finish_writing();
    gateway.connect().reset();
    let mut silent = gateway.connect();
    assert_eq!(silent.next(), Next::Fin);
    let ends = [
        ("refused", "server", vec!["fin_received"]),
        ("page", "server", vec!["fin_received"]),
        ("client_gone", "transport", vec!["fin_received"]),
        ("reset", "transport", vec!["failed"]),
        ("head_timeout", "server", vec![]),
    ];
    for (cause, initiator, wanted) in ends {
        let told = gateway.await_close(cause);
        assert_eq!((&told["kind"], &told["initiator"]), (&json!("unopened"), &json!(initiator)));
        assert_eq!((&told["protocol"], &told["code"]), (&Value::Null, &Value::Null));
        assert_eq!(events(&told), wanted, "{cause}");
    }
    let metrics = gateway.await_metrics(|metrics| metrics.sum("handshakes_ended_total") == 5);
    let ended = ends_of(["client_gone", "head_timeout", "page", "refused", "reset"]);
    assert_eq!(metrics.family("handshakes_ended_total"), ended);
    let refused = metrics.family("handshake_refused_total");
    assert_eq!(refused, family([("404 no_route", 1)]));
}

fn ends_of(causes: [&str; 5]) -> crate::gateway::metrics::Family {
    family(causes.map(|cause| (cause, 1)))
}

#[test]
fn behind_a_proxy_the_client_is_told_and_so_is_the_proxy() {
    let clients = free_address();
    let text = format!(
        "[[listener]]\naddress = \"{clients}\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
         proxy_protocol = \"required\"\n"
    );
    let gateway = Gateway::start_with(&text, clients, &[]);
    let mut client = gateway.connect();
    let proxy = client.address().to_string();
    client.send(b"PROXY TCP4 203.0.113.9 198.51.100.1 5000 443\r\n");
    client.upgrade("/echo");
    client.reset();
    let told = gateway.await_close("reset");
    assert_eq!((&told["address"], &told["proxy"]), (&json!("203.0.113.9"), &json!(proxy)));

    let mut stranger = gateway.connect();
    let address = stranger.address().to_string();
    stranger.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(stranger.drain(), Next::Fin | Next::Reset));
    let told = gateway.await_close("proxy_header");
    assert_eq!((&told["address"], &told["proxy"]), (&json!(address), &Value::Null));
    assert_eq!((&told["kind"], &told["code"]), (&json!("unopened"), &Value::Null));
    gateway.finish();
}

#[test]
fn wrong_questions_are_answered_with_what_can_be_asked() {
    let gateway =
        Gateway::start(&["operator.api_key=\"0123456789abcdef\"", "operator.api_insecure=false"]);
    let (status, text) = get(gateway.operators(), "/debug/closes").expect("an answer");
    assert_eq!(status, 401, "{text}");
    gateway.finish();
    let gateway = Gateway::start(&["closes.kept=0"]);
    let (status, text) = get(gateway.operators(), "/debug/closes?cause=slow").expect("an answer");
    assert_eq!(status, 400);
    assert!(text.contains("slow_full, slow_behind") && text.contains("not `slow`"), "{text}");
    // Nothing is remembered, but everything is counted.
    gateway.open("/echo").reset();
    gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    let (_, text) = get(gateway.operators(), "/debug/closes").expect("an answer");
    let answer: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&answer["closes"], &answer["counts"][0]["cause"]), (&json!([]), &json!("reset")));
    assert_eq!(answer["books"]["abnormal"], json!({"ended": 1, "recorded": 0, "held": 0}));
    gateway.finish();
}
