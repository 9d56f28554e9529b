//! Two gateways on one Redis server, which is killed, stopped and emptied.

use rustix::process::Signal;

use crate::gateway::client::{Client, Response, request};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::redis::{Log, Redis};
use crate::gateway::{Gateway, PATIENCE, free_address, metrics};

/// A gateway all of whose topics are the server's; those of `live:` have no positions.
fn gateway(redis: &Redis) -> Gateway {
    let clients = free_address();
    let text = format!(
        r#"
[[listener]]
address = "{clients}"

[[namespace]]
broker = "redis"
publish = "allow"

[[namespace]]
name = "live"
mode = "live"
broker = "redis"
publish = "allow"

[redis]
address = "{}"
"#,
        redis.address()
    );
    Gateway::start_with(&text, clients, &[])
}

/// Subscribes to the raw topic at `path`; returns the answer, too.
fn subscribe(gateway: &Gateway, path: &str) -> (Client, Response) {
    let mut client = gateway.connect();
    client.send(request(path, "").as_bytes());
    let response = client.expect_upgrade();
    (client, response)
}

fn publish(gateway: &Gateway, channel: &str, data: u32) -> (u16, String) {
    let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
    metrics::post(gateway.operators(), "/api/publish", &body).expect("the operator port answers")
}

/// Publishes, and again until it is taken.
fn publish_at_last(gateway: &Gateway, channel: &str, data: u32) {
    let deadline = now() + PATIENCE;
    while publish(gateway, channel, data).0 != 200 {
        assert!(now() < deadline, "the broker is back, and takes nothing");
        pause(ms(50));
    }
}

fn readiness(gateway: &Gateway) -> (u16, String) {
    metrics::get(gateway.operators(), "/readyz").expect("the operator port answers")
}

fn await_readiness(gateway: &Gateway, status: u16) -> String {
    let deadline = now() + PATIENCE;
    loop {
        let (found, text) = readiness(gateway);
        if found == status {
            return text;
        }
        assert!(now() < deadline, "{found} instead of {status}: {text}");
        pause(ms(20));
    }
}

#[test]
fn gateways_on_one_redis_are_one() {
    let redis = Redis::start(Log::Always);
    let (first, second) = (gateway(&redis), gateway(&redis));
    let (mut here, _) = subscribe(&first, "/topic/news");
    let (mut there, response) = subscribe(&second, "/topic/news");
    assert_eq!(response.header("ringway-offset"), Some("0"));
    let epoch = response.header("ringway-epoch").expect("an epoch").to_owned();

    let (status, text) = publish(&first, "news", 1);
    assert_eq!(text, format!(r#"{{"result":{{"offset":1,"epoch":"{epoch}"}}}}"#));
    assert_eq!(status, 200);
    here.send_text("from a client");
    for client in [&mut here, &mut there] {
        assert_eq!(client.read_text(), "1");
        assert_eq!(client.read_text(), "from a client");
    }
    there.reset();

    // What was missed on one gateway is recovered on the other.
    assert_eq!(publish(&second, "news", 3).0, 200);
    assert_eq!(here.read_text(), "3");
    let path = format!("/topic/news?offset=1&epoch={epoch}");
    let (mut back, response) = subscribe(&first, &path);
    assert_eq!(response.header("ringway-recovered"), Some("true"));
    assert_eq!((back.read_text(), back.read_text()), ("from a client".into(), "3".into()));
    let (fresh, response) = subscribe(&second, &path);
    assert_eq!(response.header("ringway-recovered"), Some("true"));

    let history = second.api("history", r#"{"channel":"news","limit":-1}"#);
    let expected = format!(
        r#"{{"result":{{"publications":[{{"data":1,"offset":1}},{{"data":"from a client","offset":2}},{{"data":3,"offset":3}}],"epoch":"{epoch}","offset":3}}}}"#
    );
    assert_eq!(history, expected);

    let (mut live, response) = subscribe(&second, "/topic/live:a");
    assert_eq!(response.header("ringway-epoch"), None);
    assert_eq!(publish(&first, "live:a", 4), (200, r#"{"result":{}}"#.to_owned()));
    assert_eq!(live.read_text(), "4");
    for gateway in [&first, &second] {
        // What is remembered of the server's topics counts.
        gateway.await_metrics(|metrics| {
            let bytes = metrics.sum("history_bytes");
            bytes > 0 && metrics.family("memory_bytes").get("history") == Some(&bytes)
        });
    }
    [here, back, fresh, live].into_iter().for_each(Client::reset);
    first.finish();
    second.finish();
}

#[test]
fn while_redis_is_gone_everybody_is_told_and_afterwards_nothing_is_missing() {
    let mut redis = Redis::start(Log::Always);
    let (first, second) = (gateway(&redis), gateway(&redis));
    let (mut subscriber, response) = subscribe(&second, "/topic/news");
    let epoch = response.header("ringway-epoch").expect("an epoch").to_owned();
    assert_eq!(publish(&first, "news", 1).0, 200);
    let mut publisher = first.open("/topic/other");
    let mut client = first.centrifuge();

    redis.kill();
    let killed = now();
    for gateway in [&first, &second] {
        assert_eq!(await_readiness(gateway, 503), "the broker redis does not answer\n");
    }
    assert!(
        now().duration_since(killed) < ms(3000),
        "G7: told after {:?}",
        now().duration_since(killed)
    );
    let (status, text) = publish(&first, "news", 2);
    assert_eq!(status, 503, "{text}");
    assert!(text.starts_with(r#"{"error":{"code":100,"message":"internal error: the broker"#));
    let mut refused = first.connect();
    refused.send(request("/topic/news", "").as_bytes());
    assert_eq!(refused.read_response().status, 503);
    client.send_text(r#"{"id":2,"subscribe":{"channel":"news"}}"#);
    let error =
        r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    assert_eq!(client.read_text(), error);
    client.send_text(r#"{"id":3,"publish":{"channel":"news","data":2}}"#);
    assert_eq!(client.read_text(), error.replace("\"id\":2", "\"id\":3"));
    publisher.send_text("lost?");
    assert_eq!(publisher.read_close(), (Some(1013), "broker unavailable".to_owned()));

    redis.restart();
    for gateway in [&first, &second] {
        await_readiness(gateway, 200);
    }
    publish_at_last(&first, "news", 3);
    assert_eq!((subscriber.read_text(), subscriber.read_text()), ("1".into(), "3".into()));
    let (_, response) = subscribe(&second, "/topic/news");
    let place = (response.header("ringway-offset"), response.header("ringway-epoch"));
    assert_eq!(place, (Some("2"), Some(&*epoch)), "the life goes on");
    assert_eq!(second.metrics().sum("broker_gaps_lost_total"), 0);
    assert_eq!(second.metrics().sum("broker_connects_total"), 2);
}

#[test]
fn what_is_published_while_a_gateway_is_cut_off_is_read_when_it_is_back() {
    let redis = Redis::start(Log::Always);
    let (first, second) = (gateway(&redis), gateway(&redis));
    let (mut subscriber, _) = subscribe(&second, "/topic/news");
    // It takes nothing while it is stopped, and its connection is cut behind its back.
    second.signal(Signal::STOP);
    let clients = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert!(clients.starts_with(':'), "{clients}");
    // The other gateway's was cut, too.
    first.await_metrics(|metrics| metrics.sum("broker_connects_total") == 2);
    await_readiness(&first, 200);
    for data in 1..=5 {
        publish_at_last(&first, "news", data);
    }
    second.signal(Signal::CONT);
    for data in 1..=5 {
        assert_eq!(subscriber.read_text(), data.to_string());
    }
    assert_eq!(second.metrics().sum("broker_gaps_healed_total"), 1);
}

#[test]
fn a_redis_that_is_stopped_is_noticed_and_loses_nothing() {
    let redis = Redis::start(Log::Always);
    let (first, second) = (gateway(&redis), gateway(&redis));
    let (mut subscriber, _) = subscribe(&second, "/topic/news");
    redis.signal(Signal::STOP);
    let stopped = now();
    // It is taken and answered when the time is over: the outcome is unknown.
    let (status, text) = publish(&first, "news", 1);
    assert_eq!(status, 503, "{text}");
    await_readiness(&first, 503);
    await_readiness(&second, 503);
    assert!(
        now().duration_since(stopped) < ms(3000),
        "G7: told after {:?}",
        now().duration_since(stopped)
    );
    pause(ms(3000).saturating_sub(now().duration_since(stopped)));
    redis.signal(Signal::CONT);
    await_readiness(&first, 200);
    await_readiness(&second, 200);
    publish_at_last(&first, "news", 2);
    assert_eq!((subscriber.read_text(), subscriber.read_text()), ("1".into(), "2".into()));
}

#[test]
fn whoever_waits_for_a_redis_that_is_killed_is_answered() {
    let mut redis = Redis::start(Log::Always);
    let gateway = gateway(&redis);
    // As many as one client may have in flight, of each of eight.
    let mut clients = [(); 8].map(|()| gateway.centrifuge());
    let publishes = 2..=17;
    redis.signal(Signal::STOP);
    for client in &mut clients {
        for id in publishes.clone() {
            let publish = format!(r#"{{"id":{id},"publish":{{"channel":"news","data":{id}}}}}"#);
            client.send_text(&publish);
        }
    }
    gateway.await_metrics(|metrics| metrics.sum("broker_pending") == 128);
    redis.kill();
    for client in &mut clients {
        let mut answers: Vec<String> = publishes.clone().map(|_| client.read_text()).collect();
        for id in publishes.clone() {
            let expected = format!(r#"{{"id":{id},"error":{{"code":100,"#);
            let at = answers.iter().position(|answer| answer.starts_with(&expected));
            answers.swap_remove(at.expect("each is answered"));
        }
    }
    gateway.await_metrics(|metrics| metrics.sum("broker_publishes_unknown_total") == 128);
    assert_eq!(gateway.metrics().sum("broker_pending"), 0);
}

#[test]
fn topics_that_redis_refused_are_asked_for_again() {
    let redis = Redis::start(Log::Always);
    let gateway = gateway(&redis);
    let (mut before, _) = subscribe(&gateway, "/topic/before");
    // A replica takes no writes, and the scripts write.
    assert_eq!(redis.command(&["REPLICAOF", "127.0.0.1", "1"]), "+OK");
    let clients = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert!(clients.starts_with(':'), "{clients}");
    gateway.await_metrics(|metrics| metrics.sum("broker_connects_total") == 2);
    await_readiness(&gateway, 200);
    // The topic that is subscribed is asked for within 50 ms.
    pause(ms(200));
    let mut refused = gateway.connect();
    refused.send(request("/topic/news", "").as_bytes());
    assert_eq!(refused.read_response().status, 503, "nobody knows where it begins");
    assert_eq!(redis.command(&["REPLICAOF", "NO", "ONE"]), "+OK");
    let (mut news, response) = subscribe(&gateway, "/topic/news");
    assert_eq!(response.header("ringway-offset"), Some("0"));
    for (channel, subscriber) in [("before", &mut before), ("news", &mut news)] {
        assert_eq!(publish(&gateway, channel, 1).0, 200);
        assert_eq!(subscriber.read_text(), "1");
    }
    assert_eq!(gateway.metrics().sum("broker_connects_total"), 2);
}

#[test]
fn history_is_read_from_behind_or_before_a_publication() {
    let redis = Redis::start(Log::Always);
    let gateway = gateway(&redis);
    let mut epoch = String::new();
    for data in 1..=4 {
        let (status, text) = publish(&gateway, "news", data);
        assert_eq!(status, 200, "{text}");
        epoch = text.split('"').rev().nth(1).expect("an epoch").to_owned();
    }
    let read = |reverse: bool| {
        let since = format!(r#"{{"offset":3,"epoch":"{epoch}"}}"#);
        let query =
            format!(r#"{{"channel":"news","limit":-1,"since":{since},"reverse":{reverse}}}"#);
        gateway.api("history", &query)
    };
    let expected = |publications: &str| {
        format!(r#"{{"result":{{"publications":[{publications}],"epoch":"{epoch}","offset":4}}}}"#)
    };
    assert_eq!(read(false), expected(r#"{"data":4,"offset":4}"#));
    assert_eq!(read(true), expected(r#"{"data":2,"offset":2},{"data":1,"offset":1}"#));
}

#[test]
fn subscribers_are_told_when_redis_has_forgotten_everything() {
    let mut redis = Redis::start(Log::Never);
    let gateway = gateway(&redis);
    let (mut raw, _) = subscribe(&gateway, "/topic/news");
    let mut client = gateway.centrifuge();
    client.send_text(r#"{"id":2,"subscribe":{"channel":"news"}}"#);
    assert!(client.read_text().contains("\"recoverable\":true"));
    assert_eq!(publish(&gateway, "news", 1).0, 200);
    assert_eq!(raw.read_text(), "1");
    assert!(client.read_text().contains("\"offset\":1"));
    redis.kill();
    redis.restart();
    assert_eq!(raw.read_close(), (Some(4010), "position lost".to_owned()));
    let push =
        r#"{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!(client.read_text(), push);
    gateway.await_close("position_lost");
}

#[test]
fn topics_are_left_by_and_by_when_nobody_wants_them() {
    let redis = Redis::start(Log::Never);
    let gateway = gateway(&redis);
    let mut client = gateway.centrifuge();
    for topic in 0..100 {
        let subscribe = format!(r#"{{"id":{},"subscribe":{{"channel":"t{topic}"}}}}"#, topic + 2);
        client.send_text(&subscribe);
        assert!(client.read_text().contains("\"recoverable\":true"));
    }
    assert_eq!(gateway.metrics().sum("broker_topics"), 100);
    client.reset();
    let metrics = gateway.await_metrics(|metrics| metrics.sum("broker_topics") == 0);
    assert_eq!(metrics.sum("topics"), 0);
}
