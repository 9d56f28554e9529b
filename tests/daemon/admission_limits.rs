//! Who comes in when not all may: limits that are exact over all shards, and what the others are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::gateway::client::{Client, Next, Response, request};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::metrics::family;
use crate::gateway::{Gateway, free_address};

/// Addresses of this machine that are not the usual one.
fn source(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

/// Two shards; limits for addresses apply to loopback, too, but not to whoever looks from outside.
fn gateway(overrides: &[&str]) -> Gateway {
    let clients = free_address();
    let text = format!("[[listener]]\naddress = \"{clients}\"\n");
    let IpAddr::V4(own) = clients.ip() else { panic!("loopback addresses are IPv4 here") };
    let exempt = format!("limits.address_exempt=[\"{own}\", \"127.0.0.1\"]");
    let usual = ["shards=2", &exempt];
    Gateway::start_with(&text, clients, &[&usual, overrides].concat())
}

/// Asks to be upgraded to the echo.
fn ask(mut client: Client) -> (Client, Response) {
    client.send(request("/echo", "").as_bytes());
    let response = client.read_response();
    (client, response)
}

fn ask_from(n: u8, clients: SocketAddr) -> (Client, Response) {
    ask(Client::connect_from(source(n), clients))
}

/// The answer says when to come back, and the connection ends with it.
fn assert_told(client: &mut Client, response: &Response, status: u16) {
    assert_eq!(response.status, status, "{response:?}");
    let wait = response.header("retry-after").and_then(|text| text.parse::<u32>().ok());
    assert!(wait.is_some_and(|seconds| (2..=4).contains(&seconds)), "{response:?}");
    assert_eq!(client.next(), Next::Fin);
}

#[test]
fn an_address_has_ten_connections_and_the_eleventh_is_told_429_whichever_shard_it_meets() {
    let gateway = gateway(&["limits.address_connections_max=10"]);
    let canary = Client::connect_from(source(1), gateway.clients());
    let (canary, response) = ask(canary);
    assert_eq!(response.status, 101);
    let canary = crate::gateway::canary::Canary::start(canary);
    for n in 2..=4 {
        let mut open = Vec::new();
        for _ in 0..10 {
            let (client, response) = ask_from(n, gateway.clients());
            assert_eq!(response.status, 101, "{response:?}");
            open.push(client);
        }
        for _ in 0..20 {
            let (mut client, response) = ask_from(n, gateway.clients());
            assert_told(&mut client, &response, 429);
        }
        // Another address is none of this one's business.
        let (other, response) = ask_from(9, gateway.clients());
        assert_eq!(response.status, 101);
        // One goes, one comes.
        drop((open.pop(), other));
        let open_now = u64::try_from(open.len()).expect("few") + 1;
        gateway.await_metrics(|metrics| metrics.sum("connections") == open_now);
        let (client, response) = ask_from(n, gateway.clients());
        assert_eq!(response.status, 101);
        drop((client, open));
        gateway.await_metrics(|metrics| metrics.sum("connections") == 1);
    }
    let refused = gateway.metrics().family("handshake_refused_total");
    assert_eq!(refused, family([("429 address_connections", 60)]));
    canary.finish();
    gateway.finish();
}

#[test]
fn waits_before_coming_back_are_spread() {
    let gateway = gateway(&["limits.address_connections_max=1"]);
    let (_first, response) = ask_from(2, gateway.clients());
    assert_eq!(response.status, 101);
    let mut waits: Vec<String> = (0..40)
        .map(|_| ask_from(2, gateway.clients()).1)
        .map(|response| response.header("retry-after").expect("it is told").to_owned())
        .collect();
    waits.sort();
    waits.dedup();
    assert_eq!(waits, ["2", "3", "4"]);
}

#[test]
fn an_address_connects_as_often_as_it_may() {
    let gateway = gateway(&["limits.address_rate=2", "limits.address_burst=5"]);
    let statuses: Vec<u16> = (0..12).map(|_| ask_from(3, gateway.clients()).1.status).collect();
    assert_eq!(statuses[..5], [101; 5]);
    assert!(statuses[7..].iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(ask_from(4, gateway.clients()).1.status, 101, "another address");
    pause(ms(1200));
    assert_eq!(ask_from(3, gateway.clients()).1.status, 101, "after a rest");
    let refused = gateway.metrics().family("handshake_refused_total");
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["429 address_rate"]);
    gateway.finish();
}

#[test]
fn connections_in_all_and_by_listener_are_counted_over_both_shards() {
    for (limit, reason) in [
        ("limits.connections_max=10", "503 connections"),
        ("listener.0.connections_max=10", "503 listener_connections"),
    ] {
        let gateway = gateway(&[limit]);
        let mut open: Vec<Client> = (0..10).map(|_| gateway.open("/echo")).collect();
        for _ in 0..20 {
            let (mut client, response) = ask(gateway.connect());
            assert_told(&mut client, &response, 503);
        }
        let refused = gateway.metrics().family("handshake_refused_total");
        assert_eq!(refused, family([(reason, 20)]));
        open.pop();
        gateway.await_metrics(|metrics| metrics.sum("connections") == 9);
        open.push(gateway.open("/echo"));
        let (_, response) = ask(gateway.connect());
        assert_eq!(response.status, 503);
        drop(open);
        gateway.finish();
    }
}

#[test]
fn those_turned_away_take_no_handshakes_from_others_and_are_few() {
    let gateway = gateway(&[
        "limits.address_connections_max=1",
        "limits.handshakes_max=20",
        "limits.connections_max=1000",
    ]);
    // Silent, and all but one of them too many: nobody can be told 429 before they ask.
    let silent: Vec<Client> = (0..500)
        .filter_map(|_| Client::try_connect_from(source(5), gateway.clients()).ok())
        .collect();
    let metrics = gateway.await_metrics(|metrics| {
        metrics.sum("accepted_total") >= 500
            && metrics.sum("connections_refused_total") > 0
            && metrics.sum("connections_handshaking") < 200
    });
    let unheard = metrics.family("connections_refused_total");
    assert_eq!(unheard.keys().collect::<Vec<_>>(), ["address_connections"]);
    let waiting = metrics.sum("connections_handshaking");
    // 64 over both shards, and the one that may be there.
    assert!((64..=66).contains(&waiting), "{waiting} wait");
    assert_eq!(unheard["address_connections"] + waiting, 500);
    for n in 6..=9 {
        assert_eq!(ask_from(n, gateway.clients()).1.status, 101);
    }
    drop(silent);
    gateway.finish();
}

#[test]
fn a14_all_clients_that_were_cut_off_are_back_in_time() {
    const CLIENTS: u64 = 2_000;
    let gateway = gateway(&[]);
    let canary = gateway.canary();
    let enter = || {
        let clients: Vec<Client> = (0..CLIENTS)
            .map(|_| {
                let mut client = gateway.connect();
                client.send(request("/topic/t", "").as_bytes());
                client
            })
            .collect();
        clients.into_iter().map(|mut client| {
            client.expect_upgrade();
            client
        })
    };
    let before: Vec<Client> = enter().collect();
    let began = now();
    before.into_iter().for_each(Client::reset);
    let back: Vec<Client> = enter().collect();
    let took = now() - began;
    assert!(took < ms(20_000), "{took:?}");
    gateway.await_metrics(|metrics| metrics.sum("subscriptions") == CLIENTS);
    assert_eq!(gateway.metrics().family("handshake_refused_total"), family([]));
    drop(back);
    canary.finish();
    gateway.finish();
}
