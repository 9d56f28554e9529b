//! Operators over real sockets; on the other end of the lanes threads that answer like shards.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

use super::closes::{Ends, Words};
use super::hub::{self, Hub};
use super::orders::{Changes, Drain, Order};
use super::pulse::{Pulse, keep};
use super::server::serve;
use super::state::{Access, Figures, Limits, NodeInfo, Parts, Readiness, State};
use crate::mail::close::{Book, Close, Closes, Event, History, Kind};
use crate::mail::message::{Delivery, Refused, Reply, Request};
use crate::mail::post::{Post, Settings, connect};
use crate::metrics::control;
use crate::topic::home::{HomeError, Homes};
use crate::topic::namespace::{Broker, Mode, Namespace, PublishRight};

const SHARDS: usize = 2;
const KEY: &str = "0123456789abcdef";

/// A shard as the control thread sees it: it has topics, and one client named `c-1`.
struct Shard {
    post: Post,
    homes: Homes,
    /// While it is set the shard takes nothing.
    hangs: Arc<AtomicBool>,
}

impl Shard {
    fn run(mut self, wake: impl Fn()) {
        loop {
            while self.can_serve()
                && let Some(request) = self.post.take_request(SHARDS)
            {
                if matches!(request, Request::Stop) {
                    return;
                }
                self.serve(request);
                self.post.wakes(|_| wake());
            }
            self.post.fall_asleep();
            if !self.can_serve() || self.post.peek_request(SHARDS).is_none() {
                std::thread::park();
            }
        }
    }

    fn can_serve(&self) -> bool {
        !self.hangs.load(Ordering::SeqCst) && self.post.has_delivery_room(SHARDS)
    }

    fn serve(&mut self, request: Request) {
        let now = Instant::now().into_std();
        let (to, reply) = match request {
            Request::Ping { asker } => (asker, Reply::Pong),
            Request::Publish { asker, draft } => {
                let topic = draft.topic.clone();
                let reply = match namespace(topic.namespace()) {
                    None => Reply::Refused { topic, why: Refused::UnknownNamespace },
                    Some(namespace) => {
                        let publication = self.homes.publish(draft, &namespace, now).unwrap();
                        let position = publication.offset.and(self.homes.position(&topic));
                        Reply::Published(position)
                    }
                };
                (asker.unwrap(), reply)
            }
            Request::History { asker, topic, query } => {
                let namespace = namespace(topic.namespace()).unwrap();
                let reply = match self.homes.history(&topic, &namespace, &query, now) {
                    Ok((publications, position)) => Reply::History { publications, position },
                    Err(HomeError::OtherEpoch) => {
                        Reply::Refused { topic, why: Refused::OtherEpoch }
                    }
                    Err(_) => Reply::Refused { topic, why: Refused::NoHistory },
                };
                (asker, reply)
            }
            Request::Census { asker } => {
                let census = self.homes.census().map(|(name, _)| (name.clone(), 3)).collect();
                (asker, Reply::Census(census))
            }
            Request::Disconnect { asker, client, code, reason } => {
                assert_eq!((code, &*reason), (4001, "bye"));
                let is_here = &*client == "c-1";
                (asker, Reply::Disconnected(usize::from(is_here)))
            }
            Request::Closes { asker, filter } => {
                let closes = some_closes(now).into_iter().filter(|close| filter.admits(close));
                let found: Vec<_> = closes.take(filter.limit).collect();
                let books =
                    [Book { ended: 5, recorded: 4, held: 2 }, Book::default(), Book::default()];
                (asker, Reply::Closes(Closes { matched: found.len(), found, books }))
            }
            other => panic!("{other:?}"),
        };
        self.post.deliver(SHARDS, Delivery::Reply { to, reply });
    }
}

/// What each shard remembers.
fn some_closes(now: std::time::Instant) -> [Close; 2] {
    let mut history = History::default();
    [Event::Opened, Event::Message, Event::Failed].into_iter().for_each(|e| history.note(e));
    let reset = Close {
        at: now - Duration::from_secs(9),
        age: Duration::from_millis(1500),
        kind: Kind::Abnormal,
        shard: 0,
        listener: 1,
        peer: Some("192.0.2.7:4711".parse().unwrap()),
        forwarded_for: None,
        protocol: Some("raw"),
        client: Some("c-1".into()),
        code: Some(1006),
        code_label: "1006",
        initiator: "transport",
        cause: "reset",
        sent: None,
        sent_reason: None,
        received: Some(1005),
        received_reason: Some("<script>\u{1b}".into()),
        topics: 3,
        unsent_bytes: 77,
        history,
        tcp: None,
    };
    let forwarded_for = Some("2001:db8::1".parse().unwrap());
    let idle =
        Close { at: now, cause: "idle", initiator: "server", forwarded_for, ..reset.clone() };
    [idle, reset]
}

fn some_ends() -> Ends {
    Ends {
        closed: BTreeMap::from([(["1006", "transport", "reset", "raw"], 4)]),
        unopened: BTreeMap::from([("reset", 2)]),
    }
}

fn namespace(name: &str) -> Option<Namespace> {
    let mode = match name {
        "" => Mode::Stream,
        "live" => Mode::Live,
        _ => return None,
    };
    Some(Namespace {
        name: name.into(),
        mode,
        broker: Broker::Embedded,
        history_size: 100,
        history_age: Duration::from_secs(60),
        history_bytes_max: 1 << 20,
        recovery: true,
        publish: PublishRight::Deny,
        compress: true,
    })
}

/// A gateway without clients.
struct Gateway {
    address: std::net::SocketAddr,
    hub: Rc<Hub>,
    hangs: Arc<AtomicBool>,
    readiness: Rc<Cell<Readiness>>,
    threads: Vec<JoinHandle<()>>,
}

impl Gateway {
    async fn start(access: Access, limits: Limits, bounds: hub::Limits) -> Self {
        let mut posts = connect(SHARDS + 1, Settings { requests_max: 16, deliveries_max: 16 });
        let control = posts.pop().unwrap();
        let (news, hangs) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let threads: Vec<JoinHandle<()>> = posts
            .into_iter()
            .map(|post| {
                let homes = Homes::new(format!("e{}", post.node()), 1000);
                let shard = Shard { post, homes, hangs: Arc::clone(&hangs) };
                let news = Arc::clone(&news);
                std::thread::spawn(move || shard.run(|| news.notify_one()))
            })
            .collect();
        let sleepers: Vec<_> = threads.iter().map(|t| t.thread().clone()).collect();
        let wake = Box::new(move |node: usize| sleepers[node].unpark());
        let hub = Rc::new(Hub::new(control, SHARDS, wake, bounds));
        let dispatched = Rc::clone(&hub);
        tokio::task::spawn_local(async move {
            loop {
                news.notified().await;
                dispatched.dispatch();
            }
        });
        let readiness = Rc::new(Cell::new(Readiness::Starting));
        let pulse = Rc::new(Pulse::new(SHARDS, Instant::now()));
        for shard in 0..SHARDS {
            let every = Duration::from_millis(10);
            tokio::task::spawn_local(keep(Rc::clone(&pulse), Rc::clone(&hub), shard, every));
        }
        let (orders, ordered) = unbounded_channel();
        tokio::task::spawn_local(carry_out(ordered));
        let parts = Parts {
            hub: Rc::clone(&hub),
            access: access.into(),
            exporter: Box::new(|| "ringway_build_info{version=\"1\"} 1\n".into()),
            ends: Box::new(some_ends),
            words: Words {
                causes: vec![("reset", "It was reset."), ("idle", "It was idle.")],
                initiators: vec!["client", "server", "transport"],
                protocols: vec!["raw"],
            },
            figures: Box::new(|| Figures {
                connections: 12,
                subscriptions: 34,
                ..Figures::default()
            }),
            pulse,
            readiness: Rc::clone(&readiness),
            node: NodeInfo {
                uid: "n1".into(),
                name: "gateway".into(),
                version: "9.9.9".into(),
                started: Instant::now().into_std(),
            },
            limits: limits.into(),
            secure: None,
            orders,
            numbers: control_numbers().into(),
            links: Vec::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(serve(listener, Rc::new(State::new(parts))));
        Self { address, hub, hangs, readiness, threads }
    }

    /// Lets the shards hang, or go on.
    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }

    async fn stop(self) {
        self.hang(false);
        for node in 0..SHARDS {
            self.hub.post(node, Request::Stop).await;
        }
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// Sends `head` and `body` as they are, and returns all that comes back.
    async fn exchange(&self, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
        read.await.expect("the answer comes in time").unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn read(&self, path: &str) -> String {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close"), b"").await
    }

    /// Calls a method with the right key; returns status and answer.
    async fn call(&self, method: &str, body: &str) -> (u16, Value) {
        let answer = self.exchange(&head(method, KEY, body.len()), body.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        (status(head), serde_json::from_str(body).unwrap())
    }
}

/// Carries out orders without doing anything.
async fn carry_out(mut ordered: UnboundedReceiver<Order>) {
    while let Some(order) = ordered.recv().await {
        let changes = || Changes { live: vec!["a.b: 1 -> 2".into()], ..Changes::default() };
        match order {
            Order::Drain(answer) => {
                let _ = answer.send(Drain { connections: 12, seconds_max: 1.5 });
            }
            Order::Reload(answer) => _ = answer.send(Ok(changes())),
            Order::Compare { text, answer } => {
                let _ = answer.send(if text == "good" { Ok(changes()) } else { Err(text) });
            }
        }
    }
}

fn control_numbers() -> crate::metrics::ControlWriter<super::method::Method> {
    control().0
}

fn head(method: &str, key: &str, length: usize) -> String {
    format!(
        "POST /api/{method} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {key}\r\n\
         Content-Length: {length}"
    )
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn run(access: Access, limits: Limits, bounds: hub::Limits, test: impl AsyncFnOnce(&Gateway)) {
    tokio_uring::start(async {
        let gateway = Gateway::start(access, limits, bounds).await;
        test(&gateway).await;
        gateway.stop().await;
    });
}

fn with_defaults(test: impl AsyncFnOnce(&Gateway)) {
    run(Access::Key(KEY.into()), Limits::default(), hub::Limits::default(), test);
}

#[test]
fn what_is_published_gets_a_position_and_is_found_in_the_history() {
    with_defaults(async |gateway| {
        let (status, first) = gateway.call("publish", r#"{"channel":"a","data":{"n":1.50}}"#).await;
        assert_eq!(status, 200);
        assert_eq!(first["result"]["offset"], 1);
        let epoch = first["result"]["epoch"].clone();
        let tagged = r#"{"channel":"a","data":"x","tags":{"k":"v"}}"#;
        assert_eq!(gateway.call("publish", tagged).await.1["result"]["offset"], 2);
        let (_, history) = gateway.call("history", r#"{"channel":"a","limit":-1}"#).await;
        let publications = json!([
            {"data": {"n": 1.5}, "offset": 1},
            {"data": "x", "offset": 2, "tags": {"k": "v"}},
        ]);
        assert_eq!(history["result"]["publications"], publications);
        assert_eq!(history["result"]["offset"], 2);
        assert_eq!(history["result"]["epoch"], epoch);
        let since = json!({"channel": "a", "limit": 9, "since": {"offset": 1, "epoch": epoch}});
        let (_, history) = gateway.call("history", &since.to_string()).await;
        assert_eq!(history["result"]["publications"].as_array().unwrap().len(), 1);
        let other = r#"{"channel":"a","limit":9,"since":{"offset":1,"epoch":"other"}}"#;
        let (status, refused) = gateway.call("history", other).await;
        assert_eq!((status, &refused["error"]["code"]), (200, &json!(112)));
        let (_, live) = gateway.call("publish", r#"{"channel":"live:a","data":1}"#).await;
        assert_eq!(live, json!({"result": {}}));
        let (status, unknown) = gateway.call("publish", r#"{"channel":"no:a","data":1}"#).await;
        assert_eq!((status, &unknown["error"]["code"]), (200, &json!(102)));
    });
}

#[test]
fn a_repeated_idempotency_key_gives_the_same_offset() {
    with_defaults(async |gateway| {
        let keyed = r#"{"channel":"a","data":1,"idempotency_key":"k"}"#;
        let (first, second) =
            tokio::join!(gateway.call("publish", keyed), gateway.call("publish", keyed));
        assert_eq!(first.1["result"]["offset"], 1);
        assert_eq!(first, second);
        assert_eq!(gateway.call("publish", keyed).await, first);
        let other = r#"{"channel":"a","data":1,"idempotency_key":"l"}"#;
        assert_eq!(gateway.call("publish", other).await.1["result"]["offset"], 2);
        let unknown = r#"{"channel":"no:a","data":1,"idempotency_key":"k"}"#;
        assert_eq!(gateway.call("publish", unknown).await.1["error"]["code"], 102);
        assert_eq!(gateway.call("publish", unknown).await.1["error"]["code"], 102);
    });
}

#[test]
fn a_publication_that_was_given_up_keeps_its_key() {
    let bounds = hub::Limits { answer_wait: Duration::from_millis(100), ..Default::default() };
    run(Access::Key(KEY.into()), Limits::default(), bounds, async |gateway| {
        let keyed = r#"{"channel":"a","data":1,"idempotency_key":"k"}"#;
        gateway.hang(true);
        let (status, lost) = gateway.call("publish", keyed).await;
        assert_eq!((status, &lost["error"]["code"]), (503, &json!(100)));
        gateway.hang(false);
        assert_eq!(gateway.call("publish", keyed).await.1["result"]["offset"], 1);
        let (_, history) = gateway.call("history", r#"{"channel":"a"}"#).await;
        assert_eq!(history["result"]["offset"], 1);
    });
}

#[test]
fn a_broadcast_answers_for_each_channel() {
    let limits = Limits { broadcast_max: 200, ..Limits::default() };
    run(Access::Key(KEY.into()), limits, hub::Limits::default(), async |gateway| {
        let (status, answer) =
            gateway.call("broadcast", r#"{"channels":["a","no:b","","live:c"],"data":1}"#).await;
        assert_eq!(status, 200);
        let responses = &answer["result"]["responses"];
        assert_eq!(responses[0]["result"]["offset"], 1);
        assert_eq!(responses[1]["error"]["code"], 102);
        assert_eq!(responses[2]["error"]["code"], 107);
        assert_eq!(responses[3], json!({"result": {}}));
        // More than one step, and more than a lane holds.
        let names: Vec<String> = (0..200).map(|i| format!("t{i}")).collect();
        let (_, answer) =
            gateway.call("broadcast", &json!({"channels": names, "data": 1}).to_string()).await;
        let responses = answer["result"]["responses"].as_array().unwrap();
        assert!(responses.len() == 200 && responses.iter().all(|r| r["result"]["offset"] == 1));
        let (status, answer) = gateway
            .call("broadcast", &json!({"channels": vec!["t"; 201], "data": 1}).to_string())
            .await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(106)));
        assert_eq!(gateway.call("broadcast", r#"{"data":1}"#).await.0, 400);
    });
}

#[test]
fn info_channels_and_disconnect_have_their_shapes() {
    with_defaults(async |gateway| {
        let (_, info) = gateway.call("info", "").await;
        let node = &info["result"]["nodes"][0];
        assert_eq!((&node["uid"], &node["version"]), (&json!("n1"), &json!("9.9.9")));
        assert_eq!((&node["num_clients"], &node["num_subs"]), (&json!(12), &json!(34)));
        let names = r#"{"channels":["chat1","chat2","news"],"data":1}"#;
        gateway.call("broadcast", names).await;
        let (_, all) = gateway.call("channels", "{}").await;
        assert_eq!(all["result"]["channels"].as_object().unwrap().len(), 3);
        let (_, some) = gateway.call("channels", r#"{"pattern":"chat?"}"#).await;
        let expected = json!({"chat1": {"num_clients": 3}, "chat2": {"num_clients": 3}});
        assert_eq!(some["result"]["channels"], expected);
        let body = r#"{"client":"c-1","disconnect":{"code":4001,"reason":"bye"}}"#;
        assert_eq!(gateway.call("disconnect", body).await, (200, json!({"result": {}})));
        assert_eq!(gateway.call("disconnect", "{}").await.0, 400);
    });
}

#[test]
fn only_the_key_opens_the_api() {
    with_defaults(async |gateway| {
        let body = r#"{"channel":"a","data":1}"#;
        let refused =
            gateway.exchange(&head("publish", "wrong", body.len()), body.as_bytes()).await;
        assert_eq!(status(&refused), 401);
        assert!(refused.ends_with(
            r#"{"error":{"code":101,"message":"unauthorized: this is not operator.api_key"}}"#
        ));
        let other =
            head("publish", KEY, body.len()).replace("X-API-Key: ", "Authorization: apikey ");
        assert_eq!(status(&gateway.exchange(&other, body.as_bytes()).await), 200);
        assert_eq!(status(&gateway.read("/api/publish").await), 405);
        assert_eq!(status(&gateway.read("/api").await), 405);
        let (status, unknown) = gateway.call("presence", "{}").await;
        assert_eq!((status, &unknown["error"]["code"]), (404, &json!(104)));
    });
    run(Access::Closed, Limits::default(), hub::Limits::default(), async |gateway| {
        let (status, refused) = gateway.call("info", "{}").await;
        assert_eq!(status, 403);
        assert!(refused["error"]["message"].as_str().unwrap().contains("operator.api_key"));
    });
}

#[test]
fn bad_bodies_are_answered_and_bounded() {
    let limits = Limits {
        body_bytes_max: 64 * 1024,
        body_wait: Duration::from_millis(200),
        ..Limits::default()
    };
    run(Access::Key(KEY.into()), limits, hub::Limits::default(), async |gateway| {
        for bad in ["{", "[]", "null", "{}x", r#"{"channel":1}"#, "{\"channel\":\"\\ud800\"}"] {
            let (status, answer) = gateway.call("publish", bad).await;
            assert_eq!((status, &answer["error"]["code"]), (400, &json!(107)), "{bad}");
        }
        // In a member that nobody looks at.
        let bad = b"{\"channel\":\"a\",\n\"data\":1,\"x\":\"\xCC\xCC\"}";
        let answer = gateway.exchange(&head("publish", KEY, bad.len()), bad).await;
        assert_eq!(status(&answer), 400);
        assert!(answer.contains("line 2") && answer.contains("column 15"), "{answer}");
        // Twice as much as is allowed, and a million topics: ten times as much.
        let (status_large, answer) = gateway.call("publish", &"x".repeat(128 * 1024)).await;
        assert_eq!((status_large, &answer["error"]["code"]), (413, &json!(106)));
        let million = head("broadcast", KEY, 9_000_000);
        assert_eq!(status(&gateway.exchange(&million, b"{\"channels\":[").await), 413);
        let chunked =
            head("publish", KEY, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
        let body = format!("20000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x20000));
        assert_eq!(status(&gateway.exchange(&chunked, body.as_bytes()).await), 413);
        let slow = gateway.exchange(&head("publish", KEY, 100), b"{\"channel\":").await;
        assert_eq!(status(&slow), 408);
        assert!(slow.to_ascii_lowercase().contains("connection: close"));
    });
}

#[test]
fn a_connection_serves_many_requests_and_there_is_a_limit_of_them() {
    let limits =
        Limits { connections_max: 1, head_wait: Duration::from_millis(200), ..Limits::default() };
    run(Access::Closed, limits, hub::Limits::default(), async |gateway| {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        for _ in 0..2 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 1024];
            let n = stream.read(&mut answer).await.unwrap();
            let answer = std::str::from_utf8(&answer[..n]).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"));
        }
        let mut second = TcpStream::connect(gateway.address).await.unwrap();
        let mut answer = String::new();
        second.read_to_string(&mut answer).await.unwrap();
        assert_eq!(status(&answer), 503);
        assert!(answer.ends_with("\r\n\r\ntoo many operator connections.\n"));
        // Idle for too long: it ends, and there is room again.
        let mut rest = Vec::new();
        timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(status(&gateway.read("/livez").await), 200);
    });
}

#[test]
fn orders_want_the_key_and_are_posted() {
    with_defaults(async |gateway| {
        let order = |method: &str, name: &str, key: &str| {
            format!(
                "{method} /control/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 X-API-Key: {key}\r\nContent-Length: 0"
            )
        };
        let done = gateway.exchange(&order("POST", "drain", KEY), b"").await;
        assert_eq!(status(&done), 200);
        assert!(done.ends_with(r#"{"result":{"connections":12,"seconds_max":1.5}}"#), "{done}");
        let reloaded = gateway.exchange(&order("POST", "reload", KEY), b"").await;
        let changes = r#"{"result":{"live":["a.b: 1 -> 2"],"new_connections":[],"restart":[]}}"#;
        assert!(status(&reloaded) == 200 && reloaded.ends_with(changes), "{reloaded}");
        let diff = order("POST", "diff", KEY).replace("Length: 0", "Length: 4");
        assert!(gateway.exchange(&diff, b"good").await.ends_with(changes));
        let refused = gateway.exchange(&diff, b"ugly").await;
        assert!(status(&refused) == 422 && refused.contains("ugly"), "{refused}");
        for (method, name, key, expected) in [
            ("GET", "drain", KEY, 405),
            ("POST", "drain", "wrong", 401),
            ("POST", "explode", KEY, 404),
            ("POST", "", KEY, 404),
            ("POST", "/control/drain", KEY, 404),
        ] {
            let refused = gateway.exchange(&order(method, name, key), b"").await;
            assert_eq!(status(&refused), expected, "{method} {name}: {refused}");
        }
    });
}

#[test]
fn health_and_numbers_can_be_read() {
    let limits = Limits { silence_max: Duration::from_millis(150), ..Limits::default() };
    run(Access::Closed, limits, hub::Limits::default(), async |gateway| {
        sleep(Duration::from_millis(200)).await;
        assert_eq!(status(&gateway.read("/livez").await), 200);
        assert!(gateway.read("/readyz").await.contains("\r\n\r\nstarting: "));
        gateway.readiness.set(Readiness::Ready);
        assert_eq!(status(&gateway.read("/readyz").await), 200);
        gateway.hang(true);
        sleep(Duration::from_millis(300)).await;
        let dead = gateway.read("/livez").await;
        assert_eq!(status(&dead), 503);
        assert!(dead.ends_with("shard 0 has not answered for 0 s\n"), "{dead}");
        gateway.hang(false);
        sleep(Duration::from_millis(100)).await;
        assert_eq!(status(&gateway.read("/livez").await), 200);
        gateway.readiness.set(Readiness::Draining);
        let draining = gateway.read("/readyz").await;
        assert!(status(&draining) == 503 && draining.contains("\r\n\r\ndraining: "));
        assert_eq!(status(&gateway.read("/livez").await), 200);
        let metrics = gateway.read("/metrics").await;
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
        assert!(metrics.ends_with("ringway_build_info{version=\"1\"} 1\n"));
        let head = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                    Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.3";
        let metrics = gateway.exchange(head, b"").await;
        assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"));
        assert!(metrics.ends_with("ringway_build_info{version=\"1\"} 1\n# EOF\n"));
        assert!(gateway.read("/").await.contains("<td>Connections</td><td>12</td>"));
        let lost = gateway.read("/nowhere").await;
        assert!(status(&lost) == 404 && lost.contains("/metrics"));
        let head = "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0";
        assert_eq!(status(&gateway.exchange(head, b"").await), 405);
    });
}

#[test]
fn closes_are_told_as_numbers_and_examples() {
    with_defaults(async |gateway| {
        let ask = async |query: &str| {
            let head = format!(
                "GET /debug/closes{query} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close"
            );
            let answer = gateway.exchange(&head, b"").await;
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            (status(&answer), serde_json::from_str::<Value>(body).unwrap())
        };
        let (code, all) = ask("").await;
        assert_eq!(code, 200);
        assert_eq!(
            all["counts"],
            json!([{
                "code": "1006", "initiator": "transport", "cause": "reset", "protocol": "raw",
                "total": 4, "recent": 4, "meaning": "It was reset.",
            }])
        );
        let unopened =
            json!([{"cause": "reset", "total": 2, "recent": 2, "meaning": "It was reset."}]);
        assert_eq!(all["unopened"], unopened);
        // Both shards'.
        assert_eq!(all["books"]["abnormal"], json!({"ended": 10, "recorded": 8, "held": 4}));
        assert_eq!((&all["matched"], &all["silent_shards"]), (&json!(4), &json!([])));
        let causes: Vec<_> = all["closes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["cause"].as_str().unwrap())
            .collect();
        assert_eq!(causes, ["idle", "idle", "reset", "reset"], "newest first");

        let first = &all["closes"][0];
        assert_eq!(first["address"], "2001:db8::1");
        assert_eq!(first["proxy"], "192.0.2.7:4711");
        let (_, one) = ask("?cause=reset&since=1m&limit=1").await;
        let close = &one["closes"][0];
        assert_eq!(one["closes"].as_array().unwrap().len(), 1);
        assert_eq!((&close["address"], &close["proxy"]), (&json!("192.0.2.7:4711"), &Value::Null));
        assert_eq!(close["events"], json!(["opened", "message", "failed"]));
        assert_eq!(close["received"], json!({"code": null, "reason": "<script>\u{1b}"}));
        assert_eq!((&close["sent"], &close["unsent_bytes"]), (&Value::Null, &json!(77)));
        let age = one["now"].as_f64().unwrap() - close["at"].as_f64().unwrap();
        assert!((8.9..20.0).contains(&age), "{age}");
        assert_eq!(ask("?since=5s&cause=reset").await.1["matched"], 0);

        let (code, wrong) = ask("?cause=boredom").await;
        assert_eq!((code, &wrong["error"]["code"]), (400, &json!(107)));
        let message = wrong["error"]["message"].as_str().unwrap();
        assert_eq!(message, "bad request: `cause` must be one of reset, idle, not `boredom`");
        assert_eq!(status(&gateway.read("/debug/closes").await), 401, "without the key");
        let posted =
            "POST /debug/closes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0";
        assert_eq!(status(&gateway.exchange(posted, b"").await), 405);
    });
}

#[test]
fn shards_that_do_not_answer_are_named_and_the_page_may_load_nothing_from_elsewhere() {
    let bounds = hub::Limits { answer_wait: Duration::from_millis(200), ..Default::default() };
    run(Access::Open, Limits::default(), bounds, async |gateway| {
        sleep(Duration::from_millis(100)).await;
        gateway.hang(true);
        let answer = gateway.read("/debug/closes").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["silent_shards"], json!([0, 1]));
        assert_eq!((&answer["closes"], &answer["counts"][0]["total"]), (&json!([]), &json!(4)));
        gateway.hang(false);
        let page = gateway.read("/closes").await;
        let policy = "content-security-policy: default-src 'none'; script-src 'self'; \
            style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
            frame-ancestors 'none'\r\n";
        assert!(page.contains(policy), "{page}");
        assert!(gateway.read("/closes/page.js").await.contains("text/javascript"));
        assert!(gateway.read("/closes/page.css").await.contains("text/css"));
    });
}

#[test]
fn a_busy_gateway_says_when_to_try_again() {
    // One question beside those whether the shards turn, which wait as well.
    let bounds = hub::Limits {
        calls_max: 1 + SHARDS,
        answer_wait: Duration::from_millis(800),
        ..Default::default()
    };
    run(Access::Key(KEY.into()), Limits::default(), bounds, async |gateway| {
        gateway.hang(true);
        sleep(Duration::from_millis(100)).await;
        let body = r#"{"channel":"a"}"#;
        let (lost, busy) = tokio::join!(gateway.call("history", body), async {
            sleep(Duration::from_millis(300)).await;
            gateway.exchange(&head("history", KEY, body.len()), body.as_bytes()).await
        });
        assert_eq!((lost.0, &lost.1["error"]["code"]), (503, &json!(100)));
        assert_eq!(status(&busy), 503);
        assert!(busy.contains("retry-after: 1") && busy.contains("\"code\":111"));
    });
}
