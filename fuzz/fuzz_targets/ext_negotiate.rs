//! First byte: the policy. Rest: the value of `Sec-WebSocket-Extensions`.
//!
//! Whatever is offered, the answer is well-formed, keeps within one of the offers, and within the
//! policy. An offer is taken apart here in the simplest way there is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::http1::head::HeadLimits;
use ringway::http1::request::RequestHead;
use ringway::ws::deflate::{Codec, Settings};
use ringway::ws::handshake;

fuzz_target!(|data: &[u8]| {
    let [policy, value @ ..] = data else { return };
    let request = [
        &b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
           Sec-WebSocket-Extensions: "[..],
        value,
        b"\r\n\r\n",
    ]
    .concat();
    let limits = HeadLimits::default();
    let Ok(head) = RequestHead::parse(&request, &limits) else { return };
    let Ok(upgrade) = handshake::check(&head) else { return };
    let kept = (policy % 8 > 0).then_some(policy % 8 + 8);
    let settings = Settings { level: 1, bytes_min: 0, client_window_bits: kept };
    let codec = Codec::new(Some(settings), usize::from(policy / 128));
    let Some((agreement, peer)) = codec.negotiate(upgrade.extensions()) else { return };

    let answer = agreement.to_string();
    let value = String::from_utf8(value.to_vec()).expect("what is accepted is ASCII");
    let value = value.replace(['"', '\\'], "");
    let told = parameters(&answer);
    let keeps_within = |offer: &str| {
        let offered = parameters(offer);
        let bits = |list: &[(String, Option<String>)], name: &str| {
            let found = list.iter().find(|(key, _)| key == name)?;
            Some(found.1.as_ref().map_or(15, |bits| bits.parse::<u8>().expect("a number")))
        };
        let is_asked_for = |name| offered.iter().any(|(key, _)| key == name);
        let is_told = |name| told.iter().any(|(key, _)| key == name);
        let windows = ["server_max_window_bits", "client_max_window_bits"];
        offer.trim().starts_with("permessage-deflate")
            && offered.iter().skip(1).all(|(_, bits)| {
                bits.as_ref().is_none_or(|bits| bits.parse::<u8>().is_ok_and(|n| n < 16))
            })
            && windows.iter().all(|name| match (bits(&told, name), bits(&offered, name)) {
                (Some(told), Some(offered)) => told <= offered,
                (Some(_), None) => false,
                (None, _) => true,
            })
            && (is_told("client_no_context_takeover")
                || !is_asked_for("client_no_context_takeover"))
            && (is_told("server_max_window_bits") == is_asked_for("server_max_window_bits"))
    };
    assert!(value.split(',').any(keeps_within), "{answer} to {value}");
    assert!(told.iter().any(|(name, _)| name == "server_no_context_takeover"));
    let keeps = !told.iter().any(|(name, _)| name == "client_no_context_takeover");
    assert_eq!(keeps, peer.context.is_some());
    assert!(!keeps || (kept.is_some() && policy / 128 > 0), "a context that is not allowed");
    assert!((9..=15).contains(&peer.window_bits));
});

/// Name and parameters of one extension.
fn parameters(extension: &str) -> Vec<(String, Option<String>)> {
    let parts = extension.split(';').map(|part| match part.split_once('=') {
        Some((name, value)) => (name.trim().to_owned(), Some(value.trim().to_owned())),
        None => (part.trim().to_owned(), None),
    });
    parts.collect()
}
