//! The PROXY protocol, versions 1 and 2: a load balancer tells, before all other bytes, who its
//! client is.
//!
//! Source: "The PROXY protocol", HAProxy Technologies, 2020-03-05.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header of version 1, with its line break.
pub const V1_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is taken: addresses, and what load balancers say beside them.
/// The format itself allows 65,551 bytes.
pub const V2_BYTES_MAX: usize = 4096;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The start, then version and command, family and transport, and the length of the rest.
const V2_HEAD_BYTES: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The type of what tells about the client's TLS, and the bit that says that there is some.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 1;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes.
    pub len: usize,
    /// The client; `None`: the peer speaks for itself, or does not know.
    pub client: Option<IpAddr>,
    /// Whether the client speaks TLS with the load balancer.
    pub is_secure: bool,
}

/// The bytes are no header, or one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads the header at the front of `input`; `None`: more bytes are needed.
///
/// `input` are all bytes received so far. Whether it is malformed shows as early as it can.
///
/// Errors: [`Malformed`].
pub fn parse(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let starts = |start: &[u8]| {
        let len = input.len().min(start.len());
        input[..len] == start[..len]
    };
    if starts(V2_START) && !input.is_empty() {
        parse_v2(input)
    } else if starts(V1_START) {
        parse_v1(input)
    } else {
        Err(Malformed)
    }
}

fn parse_v1(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let within = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if input.len() < V1_BYTES_MAX { Ok(None) } else { Err(Malformed) };
    };
    let line = within[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(V1_START));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Malformed)?;
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    let client = match family {
        "TCP4" => Some(v1_client::<Ipv4Addr>(rest)?.into()),
        "TCP6" => Some(v1_client::<Ipv6Addr>(rest)?.into()),
        // Whatever follows is to be ignored.
        "UNKNOWN" => None,
        _ => return Err(Malformed),
    };
    Ok(Some(Header { len: end + 1, client, is_secure: false }))
}

/// The first address of `source destination port port`.
fn v1_client<A: std::str::FromStr>(text: &str) -> Result<A, Malformed> {
    let mut words = text.split(' ');
    let mut next = || words.next().ok_or(Malformed);
    let client: A = next()?.parse().map_err(|_| Malformed)?;
    next()?.parse::<A>().map_err(|_| Malformed)?;
    for _ in 0..2 {
        let port = next()?;
        let is_plain = port == "0" || !port.starts_with(['0', '+']);
        port.parse::<u16>().ok().filter(|_| is_plain).ok_or(Malformed)?;
    }
    if words.next().is_some() { Err(Malformed) } else { Ok(client) }
}

fn parse_v2(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(&command) = input.get(V2_START.len()) else { return Ok(None) };
    if command != LOCAL && command != PROXY {
        return Err(Malformed);
    }
    let Some(&family) = input.get(V2_START.len() + 1) else { return Ok(None) };
    let addresses = match family {
        // TCP over IPv4 and IPv6.
        0x11 => 12,
        0x21 => 36,
        // Unknown, datagrams and sockets of Unix: nobody whom we could know.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => 0,
        _ => return Err(Malformed),
    };
    let Some(&[high, low]) = input.get(14..V2_HEAD_BYTES) else { return Ok(None) };
    let rest_len = usize::from(u16::from_be_bytes([high, low]));
    let len = V2_HEAD_BYTES + rest_len;
    let too_short = command == PROXY && rest_len < addresses;
    if len > V2_BYTES_MAX || too_short {
        return Err(Malformed);
    }
    let Some(rest) = input.get(V2_HEAD_BYTES..len) else { return Ok(None) };
    if command == LOCAL {
        return Ok(Some(Header { len, client: None, is_secure: false }));
    }
    let client = match addresses {
        12 => rest.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        36 => rest.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes).to_canonical()),
        _ => None,
    };
    let is_secure = addresses > 0 && tells_tls(&rest[addresses..])?;
    Ok(Some(Header { len, client, is_secure }))
}

/// Whether the types, lengths and values behind the addresses tell that the client speaks TLS.
fn tells_tls(mut rest: &[u8]) -> Result<bool, Malformed> {
    let mut is_secure = false;
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let value = after.get(..len).ok_or(Malformed)?;
        is_secure |= kind == TLV_SSL && value.first().is_some_and(|bits| bits & CLIENT_SSL != 0);
        rest = &after[len..];
    }
    if rest.is_empty() { Ok(is_secure) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_START, &[command, family], &len, rest].concat()
    }

    #[test]
    fn version_1_names_the_client() {
        let cases = [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", client("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", client("2001:db8::1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:: whatever 1\r\n", None),
        ];
        for (line, client) in cases {
            let header = Header { len: line.len(), client, is_secure: false };
            assert_eq!(parse(format!("{line}GET /").as_bytes()), Ok(Some(header)), "{line}");
        }
    }

    #[test]
    fn version_2_names_the_client_or_nobody() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        let tls = [&v4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
        let plain = [&v4[..], &[0x20, 0, 5, 0, 0, 0, 0, 0], &[4, 0, 1, 0]].concat();
        let cases = [
            (v2(PROXY, 0x11, &v4), client("192.0.2.1"), false),
            (v2(PROXY, 0x21, &v6), client("2001:db8::"), false),
            (v2(PROXY, 0x11, &tls), client("192.0.2.1"), true),
            (v2(PROXY, 0x11, &plain), client("192.0.2.1"), false),
            (v2(LOCAL, 0x11, &v4), None, false),
            (v2(LOCAL, 0x00, &[]), None, false),
            (v2(PROXY, 0x00, &[]), None, false),
            (v2(PROXY, 0x31, &[0; 216]), None, false),
        ];
        for (bytes, client, is_secure) in cases {
            let header = Header { len: bytes.len(), client, is_secure };
            assert_eq!(parse(&bytes), Ok(Some(header)), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_early_as_it_shows() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
        for text in [
            "GET / HTTP/1.1\r\n",
            "proxy",
            "\r\n\r\nX",
            "\x16\x03\x01",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
            "PROXY \r\n",
            &long,
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text:?}");
        }
        for bytes in [
            v2(0x22, 0x11, &[0; 12]),
            v2(0x11, 0x11, &[0; 12]),
            v2(PROXY, 0x13, &[0; 12]),
            v2(PROXY, 0x11, &[0; 11]),
            v2(PROXY, 0x21, &[0; 35]),
            v2(PROXY, 0x11, &[0; 13]),
            v2(PROXY, 0x11, &[&[0; 12][..], &[4, 0, 2, 0]].concat()),
            v2(PROXY, 0x11, &vec![0; V2_BYTES_MAX - V2_HEAD_BYTES + 1]),
        ] {
            assert_eq!(parse(&bytes), Err(Malformed), "{bytes:?}");
        }
        // The declared length is refused before the bytes have come.
        assert_eq!(parse(&[V2_START, &[PROXY, 0x11, 0xff, 0xff]].concat()), Err(Malformed));
    }

    /// What a much used parser of the format says; it takes headers of any length.
    fn oracle(input: &[u8]) -> Option<(usize, Option<IpAddr>)> {
        match ppp::HeaderResult::parse(input) {
            ppp::HeaderResult::V1(header) => {
                let header = header.ok()?;
                let client = match header.addresses {
                    ppp::v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
                    ppp::v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
                    ppp::v1::Addresses::Unknown => None,
                };
                Some((header.header.len(), client))
            }
            ppp::HeaderResult::V2(header) => {
                let header = header.ok()?;
                let is_stream = header.protocol == ppp::v2::Protocol::Stream;
                let client = match header.addresses {
                    _ if !is_stream || header.command == ppp::v2::Command::Local => None,
                    ppp::v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
                    ppp::v2::Addresses::IPv6(addresses) => {
                        Some(IpAddr::from(addresses.source_address).to_canonical())
                    }
                    ppp::v2::Addresses::Unspecified | ppp::v2::Addresses::Unix(_) => None,
                };
                Some((header.len(), client))
            }
        }
    }

    fn headers() -> impl Strategy<Value = Vec<u8>> {
        let v1 = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u16; 2]>()).prop_map(|(a, b, p)| {
            let (a, b) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
            format!("PROXY TCP4 {a} {b} {} {}\r\n", p[0], p[1]).into_bytes()
        });
        let v1_6 = (any::<u128>(), any::<u128>(), any::<[u16; 2]>()).prop_map(|(a, b, p)| {
            let (a, b) = (Ipv6Addr::from(a), Ipv6Addr::from(b));
            format!("PROXY TCP6 {a} {b} {} {}\r\n", p[0], p[1]).into_bytes()
        });
        let tlv = (1_u8..64, proptest::collection::vec(any::<u8>(), 0..20));
        let tlvs = proptest::collection::vec(tlv, 0..4);
        let v2 = (prop_oneof![Just(LOCAL), Just(PROXY)], any::<bool>(), any::<[u8; 36]>(), tlvs);
        let v2 = v2.prop_map(|(command, is_v6, addresses, tlvs)| {
            let (family, len) = if is_v6 { (0x21, 36) } else { (0x11, 12) };
            let mut rest = addresses[..len].to_vec();
            for (kind, value) in tlvs {
                rest.extend([kind, 0, u8::try_from(value.len()).unwrap()]);
                rest.extend(value);
            }
            super::tests::v2(command, family, &rest)
        });
        prop_oneof![v1, v1_6, v2]
    }

    proptest! {
        #[test]
        fn a_good_header_is_read_as_the_oracle_does_and_not_before_its_last_byte(
            header in headers(),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            for cut in 0..header.len() {
                prop_assert_eq!(parse(&header[..cut]), Ok(None), "{} of {:?}", cut, header);
            }
            let whole = [&header[..], &behind].concat();
            let read = parse(&whole).unwrap().unwrap();
            prop_assert_eq!(read.len, header.len());
            prop_assert_eq!(Some((read.len, read.client)), oracle(&whole));
        }

        #[test]
        fn a_changed_header_is_refused_or_read_alike_however_it_is_cut(
            header in headers(),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = header;
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let whole = parse(&bytes);
            if let Ok(Some(read)) = whole {
                let is_local = bytes.starts_with(V2_START) && bytes[V2_START.len()] == LOCAL;
                // Whatever a LOCAL header holds is to be ignored; the oracle looks at it.
                let expected = if is_local {
                    let rest_len = u16::from_be_bytes([bytes[14], bytes[15]]);
                    Some((V2_HEAD_BYTES + usize::from(rest_len), None))
                } else {
                    oracle(&bytes)
                };
                prop_assert_eq!(Some((read.len, read.client)), expected);
            }
            // The first verdict on the way is the last one.
            let first = (0..=bytes.len()).map(|cut| parse(&bytes[..cut])).find(|r| *r != Ok(None));
            prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
        }
    }
}
