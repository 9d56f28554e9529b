//! What proxies say about the clients behind them, in header fields.

use std::net::{IpAddr, SocketAddr};

use super::network::Networks;

/// The client's address, as `X-Forwarded-For` tells it to somebody whose peer is `peer`.
///
/// Each proxy appends the address of its own peer. So the fields are read from the end, and only as
/// long as whoever wrote an entry is trusted: the last address reached is the one that no trusted
/// proxy vouches beyond. What is no address ends the way, too. `fields` are all of them, in order.
pub fn client_address<'a>(
    peer: IpAddr,
    fields: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &Networks,
) -> IpAddr {
    let mut client = peer;
    let entries = fields.rev().flat_map(|field| field.rsplit(|&byte| byte == b','));
    for entry in entries {
        if !trusted.contains(client) {
            break;
        }
        let Some(address) = address(entry) else { break };
        client = address;
    }
    client
}

/// An address, perhaps with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|with| with.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Whether the last `X-Forwarded-Proto` says that the client speaks TLS; `None`: nothing known.
pub fn is_secure<'a>(fields: impl DoubleEndedIterator<Item = &'a [u8]>) -> Option<bool> {
    let last = fields.rev().flat_map(|field| field.rsplit(|&byte| byte == b',')).next()?;
    match last.trim_ascii() {
        word if word.eq_ignore_ascii_case(b"https") || word.eq_ignore_ascii_case(b"wss") => {
            Some(true)
        }
        word if word.eq_ignore_ascii_case(b"http") || word.eq_ignore_ascii_case(b"ws") => {
            Some(false)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> Networks {
        Networks::parse(&["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()]).unwrap()
    }

    fn client(peer: &str, fields: &[&str]) -> String {
        let fields = fields.iter().map(|field| field.as_bytes());
        client_address(peer.parse().unwrap(), fields, &trusted()).to_string()
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_not_trusted() {
        assert_eq!(client("10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["6.6.6.6,192.0.2.1 ,\t10.9.9.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 192.0.2.1", "10.9.9.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(client("2001:db8::1", &["[2001:db9::7]:443"]), "2001:db9::7");
        assert_eq!(client("10.0.0.1", &["192.0.2.1:5000"]), "192.0.2.1");
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(client("192.0.2.9", &["10.0.0.1"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_address_ends_the_way() {
        for bad in ["", "unknown", "192.0.2.1.5", "6.6.6.6, x", "6.6.6.6, ", "\u{fffd}"] {
            assert_eq!(client("10.0.0.1", &[bad]), "10.0.0.1", "{bad}");
        }
        assert_eq!(client("10.0.0.1", &["6.6.6.6, x, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn the_last_scheme_counts() {
        let secure = |fields: &[&str]| is_secure(fields.iter().map(|field| field.as_bytes()));
        assert_eq!(secure(&["https"]), Some(true));
        assert_eq!(secure(&["https", "http"]), Some(false));
        assert_eq!(secure(&["http, HTTPS"]), Some(true));
        assert_eq!(secure(&["gopher"]), None);
        assert_eq!(secure(&[]), None);
    }

    proptest! {
        #[test]
        fn nobody_gets_past_an_untrusted_hop(
            forged in "[ -~]{0,40}",
            hops in proptest::collection::vec(0_u8..4, 0..5),
        ) {
            // Whatever a client writes itself stands before what the proxies append.
            let mut field = format!("{forged}, 192.0.2.1");
            for hop in hops {
                field.push_str(&format!(", 10.0.0.{hop}"));
            }
            prop_assert_eq!(client("10.0.0.9", &[&field]), "192.0.2.1");
        }
    }
}
