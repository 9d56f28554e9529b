//! Clients behind proxies: who may speak for others, and who only tries.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::gateway::canary::Canary;
use crate::gateway::client::{Client, Next, request};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::metrics::family;
use crate::gateway::{Gateway, free_address};

/// The load balancers: 127.0.0.2 to .3 are trusted, others are not.
const TRUSTED: &str = "127.0.0.2/31";

fn source(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

/// Two shards and two listeners: one asks for PROXY headers, one hears forwarded addresses. Two
/// connections for each address, loopback ones included.
struct Site {
    gateway: Gateway,
    behind_tcp: SocketAddr,
    behind_http: SocketAddr,
}

impl Site {
    fn start(overrides: &[&str]) -> Self {
        let (behind_tcp, behind_http) = (free_address(), free_address());
        let text = format!(
            "[[listener]]\naddress = \"{behind_http}\"\ntrusted_proxies = [\"{TRUSTED}\"]\n\
             [[listener]]\naddress = \"{behind_tcp}\"\ntrusted_proxies = [\"{TRUSTED}\"]\n\
             proxy_protocol = \"required\"\n\
             [limits]\naddress_connections_max = 2\naddress_exempt = []\n"
        );
        let overrides = [&["shards=2"], overrides].concat();
        let gateway = Gateway::start_with(&text, behind_http, &overrides);
        Self { gateway, behind_tcp, behind_http }
    }

    fn canary(&self) -> Canary {
        let mut client = Client::connect_from(source(3), self.behind_http);
        client.upgrade("/echo");
        Canary::start(client)
    }

    /// Comes through the load balancer with this header.
    fn through(&self, header: &[u8]) -> Client {
        let mut client = Client::connect_from(source(2), self.behind_tcp);
        client.send(header);
        client
    }

    /// Comes through the web proxy with these header lines.
    fn forwarded(&self, from: u8, lines: &str) -> (Client, u16) {
        let mut client = Client::connect_from(source(from), self.behind_http);
        client.send(request("/echo", lines).as_bytes());
        let status = client.read_response().status;
        (client, status)
    }
}

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 5000 443\r\n").into_bytes()
}

fn v2(command: u8, client: [u8; 4], more: &[u8]) -> Vec<u8> {
    let len = u16::try_from(12 + more.len()).expect("short").to_be_bytes();
    let start = b"\r\n\r\n\0\r\nQUIT\n";
    let rest = [198, 51, 100, 1, 0, 80, 1, 187];
    [&start[..], &[command, 0x11], &len, &client, &rest, more].concat()
}

fn ask(client: &mut Client) -> u16 {
    client.send(request("/echo", "").as_bytes());
    client.read_response().status
}

#[test]
fn clients_behind_a_load_balancer_are_known_by_their_own_address() {
    let site = Site::start(&[]);
    let canary = site.canary();
    let tlv = [4, 0, 3, 1, 2, 3];
    let headers = [v1("192.0.2.1"), v2(0x21, [192, 0, 2, 1], &[]), v2(0x21, [192, 0, 2, 1], &tlv)];
    for (at, header) in headers.iter().enumerate() {
        // The place is taken when the header has come: one after the other, then.
        let mut enter = |status| {
            let mut client = site.through(header);
            assert_eq!(ask(&mut client), status, "header {at}");
            client
        };
        let [mut first, second, third] = [101, 101, 429].map(&mut enter);
        first.send_text("here");
        assert_eq!(first.read_text(), "here");
        let mut other = site.through(&v1("192.0.2.2"));
        assert_eq!(ask(&mut other), 101);
        drop((first, second, third, other));
        site.gateway.await_metrics(|metrics| metrics.sum("connections") == 1);
    }
    // The load balancer's own checks: as many as it likes.
    let mut local: Vec<Client> = (0..5).map(|_| site.through(&v2(0x20, [0; 4], &[]))).collect();
    assert!(local.iter_mut().all(|client| ask(client) == 101));
    drop(local);
    let refused = site.gateway.metrics().family("handshake_refused_total");
    assert_eq!(refused, family([("429 address_connections", 3)]));
    canary.finish();
    site.gateway.finish();
}

#[test]
fn a_proxy_header_may_come_in_single_bytes() {
    let site = Site::start(&[]);
    for header in [v1("192.0.2.1"), v2(0x21, [192, 0, 2, 1], &[0x20, 0, 1, 1])] {
        let mut client = Client::connect_from(source(2), site.behind_tcp);
        for byte in [&header[..], request("/echo", "").as_bytes()].concat() {
            client.send(&[byte]);
        }
        client.expect_upgrade();
    }
    site.gateway.finish();
}

#[test]
fn whoever_begins_otherwise_is_closed_unheard_and_counted() {
    let site = Site::start(&["http.head_timeout=\"300ms\""]);
    let canary = site.canary();
    let too_long = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(), vec![0; 100]].concat();
    let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 107]].concat();
    let bad = [
        request("/echo", "").into_bytes(),
        b"\x16\x03\x01\x02\x00".to_vec(),
        v2(0x22, [192, 0, 2, 1], &[]),
        v1("192.0.2.256"),
        too_long,
        endless,
    ];
    for bytes in &bad {
        let mut client = site.through(bytes);
        assert_eq!(client.next(), Next::Reset, "{bytes:?}");
    }
    // A header that does not end in time ends as one that never began: without a word.
    for begun in [&b""[..], b"PROXY TC", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
        let began = now();
        let mut client = site.through(begun);
        assert_eq!(client.next(), Next::Fin, "{begun:?}");
        let took = now() - began;
        assert!((ms(250)..ms(900)).contains(&took), "{took:?}");
    }
    // Nobody may speak for others who is not trusted, whatever is said.
    for n in 4..=9 {
        let mut client = Client::connect_from(source(n), site.behind_tcp);
        let _ = client.try_send(&[&v1("192.0.2.1")[..], request("/echo", "").as_bytes()].concat());
        assert_eq!(client.read_all(), b"", "{n}");
    }
    let metrics = site.gateway.metrics();
    let unheard = metrics.family("connections_refused_total");
    assert_eq!(unheard, family([("proxy_header", 6), ("proxy_peer", 6)]));
    assert_eq!(metrics.family("handshake_refused_total"), family([]));
    assert_eq!(metrics.family("handshakes_ended_total").get("refused"), None);
    canary.finish();
    site.gateway.finish();
}

#[test]
fn forged_forwarding_changes_nothing() {
    let site = Site::start(&[]);
    let canary = site.canary();
    // The proxy appends the client's address to whatever the client has sent.
    let mut open = Vec::new();
    for (forged, expected) in [
        ("X-Forwarded-For: 1.1.1.1, 192.0.2.1\r\n", 101),
        ("X-Forwarded-For: 2.2.2.2\r\nX-Forwarded-For: 192.0.2.1\r\n", 101),
        ("X-Forwarded-For: 127.0.0.2, 192.0.2.1, 127.0.0.3\r\n", 429),
        ("X-Forwarded-For: ,,,\t, 192.0.2.1\r\n", 429),
    ] {
        let (client, status) = site.forwarded(2, forged);
        assert_eq!(status, expected, "{forged}");
        open.push(client);
    }
    // A stranger is counted by the address that its packets come from.
    for (at, expected) in [101, 101, 429].into_iter().enumerate() {
        let lines = format!("X-Forwarded-For: 192.0.2.{}\r\n", 50 + at);
        let (client, status) = site.forwarded(5, &lines);
        assert_eq!(status, expected);
        open.push(client);
    }
    // A page that came over TLS is of the same origin where a trusted proxy says that it did.
    let page = "Origin: https://gateway.test\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(site.forwarded(2, page).1, 101);
    assert_eq!(site.forwarded(6, page).1, 403);
    drop(open);
    pause(ms(50));
    canary.finish();
    site.gateway.finish();
}
