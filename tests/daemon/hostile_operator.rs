//! What is wrong with calls of the server API: whoever can reach its port can send anything.

use crate::gateway::Gateway;
use crate::gateway::client::{Client, Next, Response};
use crate::gateway::clock::{ms, now};
use crate::gateway::metrics::family;

const KEY: &str = "a key that nobody guesses";

/// The head of a call with a body of `len` bytes.
fn head(method: &str, key: &str, len: usize) -> String {
    let key = if key.is_empty() { String::new() } else { format!("X-API-Key: {key}\r\n") };
    format!("POST /api/{method} HTTP/1.1\r\nHost: o\r\n{key}Content-Length: {len}\r\n\r\n")
}

fn call(gateway: &Gateway, method: &str, key: &str, body: &str) -> Response {
    let mut client = Client::connect(gateway.operators());
    let whole = [head(method, key, body.len()).as_bytes(), body.as_bytes()].concat();
    // A body that is too large may be refused before its end.
    let _ = client.try_send(&whole);
    client.read_response()
}

/// The status, and the code in the body.
fn outcome(response: &Response) -> (u16, u64) {
    let body: serde_json::Value = serde_json::from_slice(&response.body).expect("it is JSON");
    (response.status, body["error"]["code"].as_u64().unwrap_or(0))
}

/// `count` names of topics, as a list.
fn names(count: usize) -> String {
    let names: Vec<String> = (0..count).map(|n| format!("\"t{n:06}\"")).collect();
    format!("[{}]", names.join(","))
}

fn start(overrides: &[&str]) -> Gateway {
    let key = format!("operator.api_key=\"{KEY}\"");
    Gateway::start(&[&["operator.api_insecure=false", &key], overrides].concat())
}

#[test]
fn a13_calls_without_the_key_are_refused_whatever_they_ask() {
    let gateway = start(&[]);
    let canary = gateway.canary();
    let body = r#"{"channel":"a","data":1}"#;
    let almost = &KEY[..KEY.len() - 1];
    for (key, method) in
        [("", "publish"), ("wrong", "publish"), (almost, "publish"), ("", "nothing"), ("x", "info")]
    {
        assert_eq!(outcome(&call(&gateway, method, key, body)), (401, 101), "{key:?} {method}");
    }
    // Its body is not awaited.
    let mut client = Client::connect(gateway.operators());
    client.send(head("publish", "wrong", 1_000).as_bytes());
    assert_eq!(outcome(&client.read_response()), (401, 101));
    assert_eq!(outcome(&call(&gateway, "publish", KEY, body)), (200, 0));
    let metrics = gateway.metrics();
    let calls =
        family([("info 401", 1), ("publish 200", 1), ("publish 401", 4), ("unknown 401", 1)]);
    assert_eq!(metrics.family("api_requests_total"), calls);
    assert_eq!(metrics.sum("publications_total"), 1);
    canary.finish();
    gateway.finish();
}

#[test]
fn a13_bodies_that_are_too_large_or_too_slow_are_refused_and_not_kept() {
    let gateway =
        start(&["operator.body_timeout=\"1s\"", "websocket.message_bytes_max=\"64 KiB\""]);
    let canary = gateway.canary();
    let publish = |len: usize| format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(len));
    assert_eq!(outcome(&call(&gateway, "publish", KEY, &publish(60_000))), (200, 0));
    let before = gateway.usage().watch();
    // The data of a publication, then the body, then one of which nothing is read, then one that is
    // read in part before that.
    for len in [70_000, 1 << 20, 6 << 20, 16 << 20] {
        let response = call(&gateway, "publish", KEY, &publish(len));
        assert_eq!(outcome(&response), (413, 106), "{len}");
    }
    let chunked =
        head("publish", KEY, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let mut client = Client::connect(gateway.operators());
    client.send(chunked.as_bytes());
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let sent = (0..1_000).take_while(|_| client.try_send(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 1_000, "64 MB were taken");
    drop(client);

    let start = now();
    let mut slow: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::connect(gateway.operators());
            client.send(head("publish", KEY, 1_000).as_bytes());
            client.send(b"{\"channel\":");
            client
        })
        .collect();
    for client in &mut slow {
        let response = client.read_response();
        assert_eq!(outcome(&response), (408, 107));
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(client.next(), Next::Fin);
    }
    let took = now() - start;
    assert!((ms(900)..ms(3_000)).contains(&took), "{took:?}");
    // Two bodies of the largest size, and what reading takes.
    let growth = before.peak_growth_kib();
    assert!(growth < 6 * 1024, "{growth} KiB");
    let metrics = gateway.metrics();
    let calls = family([("publish 200", 1), ("publish 408", 100), ("publish 413", 5)]);
    assert_eq!(metrics.family("api_requests_total"), calls);
    canary.finish();
    gateway.finish();
}

#[test]
fn a13_a_million_topics_in_one_call_are_refused_before_they_are_read_apart() {
    let million = format!(r#"{{"data":1,"channels":{}}}"#, names(1_000_000));
    let most = format!(r#"{{"data":1,"channels":{}}}"#, names(1_000));
    let more = format!(r#"{{"data":1,"channels":{}}}"#, names(1_001));
    // As it stands the body is too large; where larger ones are allowed, there are too many names.
    for (bytes_max, status) in [("1 MiB", 413), ("16 MiB", 400)] {
        let gateway = start(&[&format!("operator.body_bytes_max=\"{bytes_max}\"")]);
        let canary = gateway.canary();
        let before = gateway.usage().watch();
        let response = call(&gateway, "broadcast", KEY, &million);
        assert_eq!(outcome(&response), (status, 106), "{bytes_max}");
        // The body, once more while it grows, and no name of it.
        let growth = before.peak_growth_kib();
        let most_growth = if status == 413 { 6 * 1024 } else { 40 * 1024 };
        assert!(growth < most_growth, "{growth} KiB");
        assert_eq!(outcome(&call(&gateway, "broadcast", KEY, &more)), (400, 106));
        assert_eq!(gateway.metrics().sum("publications_total"), 0);
        assert_eq!(outcome(&call(&gateway, "broadcast", KEY, &most)), (200, 0));
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("publications_total"), 1_000);
        assert_eq!(metrics.family("api_requests_total")["broadcast 200"], 1);
        canary.finish();
        gateway.finish();
    }
}

#[test]
fn a13_a_repeated_idempotency_key_publishes_once_and_gives_the_same_offset() {
    let gateway = start(&["namespace.0.history_size=10", "namespace.0.history_age=\"1m\""]);
    let canary = gateway.canary();
    let mut listener = gateway.open("/topic/once");
    let keyed = |key: &str, data: usize| {
        let body = format!(r#"{{"channel":"once","data":{data},"idempotency_key":"{key}"}}"#);
        let response = call(&gateway, "publish", KEY, &body);
        assert_eq!(response.status, 200);
        let answer: serde_json::Value = serde_json::from_slice(&response.body).expect("it is JSON");
        answer["result"]["offset"].as_u64().expect("topics with history have offsets")
    };
    // At the same time, and again afterwards; what it is counts no more.
    let offsets: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| keyed("k", 1))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it is answered")).collect()
    });
    assert_eq!(offsets, [1; 8]);
    assert_eq!(keyed("k", 2), 1);
    assert_eq!(keyed("l", 3), 2);
    assert_eq!([listener.read_text(), listener.read_text()], ["1", "3"]);
    assert!(listener.is_silent_for(ms(100)));
    assert_eq!(gateway.metrics().sum("publications_total"), 2);
    let long = format!(r#"{{"channel":"once","data":1,"idempotency_key":"{}"}}"#, "k".repeat(256));
    assert_eq!(outcome(&call(&gateway, "publish", KEY, &long)), (400, 107));
    drop(listener);
    canary.finish();
    gateway.finish();
}
