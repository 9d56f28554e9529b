//! Networks, and what counts as one client's address.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// The networks of `texts`: `10.0.0.0/8`, or an address alone.
    ///
    /// Errors: the first text that is neither.
    pub fn parse(texts: &[String]) -> Result<Self, &str> {
        let parsed = texts.iter().map(|text| {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| text.as_str())
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Whether no network is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them has `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// What is limited as one client: an IPv4 address, or the /64 that an IPv6 address is in, since
/// whoever has one address of it has all of them.
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        Networks::parse(&texts).unwrap()
    }

    #[test]
    fn an_address_is_in_a_network_however_it_is_written() {
        let networks = networks(&["10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "::1"]);
        for inside in ["10.1.255.1", "::ffff:10.1.0.9", "192.0.2.7", "2001:db8:1::2", "::1"] {
            assert!(networks.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["10.2.0.1", "192.0.2.8", "2001:db9::", "::2"] {
            assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(!Networks::default().contains("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_named() {
        let texts = ["::1".to_owned(), "10.0.0.0/33".to_owned()];
        assert_eq!(Networks::parse(&texts), Err("10.0.0.0/33"));
        assert_eq!(Networks::parse(&["localhost".to_owned()]), Err("localhost"));
    }

    #[test]
    fn a_household_is_an_ipv4_address_or_64_bits_of_an_ipv6_one() {
        let cases = [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ];
        for (address, expected) in cases {
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(household(address.parse().unwrap()), expected);
        }
    }
}
