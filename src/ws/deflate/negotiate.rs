//! What is agreed in the opening handshake.

use std::fmt;

use super::super::offers::{Extension, extensions};
use super::Class;

/// The name of the extension.
const NAME: &[u8] = b"permessage-deflate";

/// Logarithms of windows that the RFC knows.
const BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// Logarithm of the smallest window that our engine can keep to.
const OWN_BITS_MIN: u8 = 9;

/// Whether a client may keep what it said from one message to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientWindow {
    /// A window of this logarithm, if it can be told so.
    Kept(u8),
    /// Nothing.
    Dropped,
}

/// One offer, accepted. Shown, it is the value of the response's header.
///
/// Our own context is never kept: every message that we send stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// `server_max_window_bits`, where it was offered.
    server_bits: Option<u8>,
    /// `client_max_window_bits`, where it was offered and says something.
    client_bits: Option<u8>,
    client: ClientWindow,
}

/// The parameters of one offer.
#[derive(Clone, Copy, Debug, Default)]
struct Offer {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    client_bits: Option<ClientBits>,
}

/// `client_max_window_bits` as it is offered.
#[derive(Clone, Copy, Debug)]
enum ClientBits {
    /// Without a value: it can be told any.
    Any,
    /// The client will not use more than this.
    AtMost(u8),
}

/// Accepts the first offer that can be; offers with parameters that are unknown, repeated or wrong
/// are passed over. `values` must be well-formed.
///
/// Source: RFC 7692 §5.1, §7.1.
pub(super) fn negotiate<'h>(
    values: impl Iterator<Item = &'h [u8]>,
    client: ClientWindow,
) -> Option<Agreement> {
    values
        .flat_map(extensions)
        .filter(|extension| extension.name == NAME)
        .find_map(|extension| Some(accept(Offer::read(extension)?, client)))
}

fn accept(offer: Offer, client: ClientWindow) -> Agreement {
    // One of a class where there is one, since that is what messages are compressed for.
    let server_bits = offer.server_bits.map(|bits| Class::of(bits).map_or(bits, Class::bits));
    let told = match offer.client_bits {
        Some(ClientBits::Any) => Some(15),
        Some(ClientBits::AtMost(bits)) => Some(bits),
        None => None,
    };
    let client = match (client, told) {
        _ if offer.client_no_context => ClientWindow::Dropped,
        (ClientWindow::Kept(bits), Some(told)) => ClientWindow::Kept(bits.min(told)),
        // It cannot be told to keep less than it can.
        (ClientWindow::Kept(..15), None) => ClientWindow::Dropped,
        (client, None) | (client @ ClientWindow::Dropped, Some(_)) => client,
    };
    let client_bits = match client {
        ClientWindow::Kept(bits) if bits < 15 => Some(bits),
        ClientWindow::Kept(_) | ClientWindow::Dropped => None,
    };
    Agreement { server_bits, client_bits, client }
}

impl Offer {
    /// `None`: the offer is to be declined.
    fn read(extension: Extension<'_>) -> Option<Self> {
        let mut offer = Self::default();
        for (name, value) in extension.parameters() {
            let is_new = match (name, value) {
                (b"server_no_context_takeover", None) => {
                    !std::mem::replace(&mut offer.server_no_context, true)
                }
                (b"client_no_context_takeover", None) => {
                    !std::mem::replace(&mut offer.client_no_context, true)
                }
                (b"server_max_window_bits", Some(value)) => {
                    let bits = window_bits(value).filter(|&bits| bits >= OWN_BITS_MIN)?;
                    offer.server_bits.replace(bits).is_none()
                }
                (b"client_max_window_bits", value) => {
                    let bits = match value {
                        Some(value) => ClientBits::AtMost(window_bits(value)?),
                        None => ClientBits::Any,
                    };
                    offer.client_bits.replace(bits).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(offer)
    }
}

/// A number of one or two digits, without quotes around it or a zero before it.
fn window_bits(value: &[u8]) -> Option<u8> {
    let mut digits = [0; 2];
    let mut len = 0;
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    for &byte in quoted.unwrap_or(value).iter().filter(|&&byte| byte != b'\\') {
        *digits.get_mut(len)? = byte;
        len += 1;
    }
    let bits = match digits[..len] {
        [digit @ b'1'..=b'9'] => digit - b'0',
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9'] => (tens - b'0') * 10 + (ones - b'0'),
        _ => return None,
    };
    BITS.contains(&bits).then_some(bits)
}

impl Agreement {
    /// Logarithm of the window that our messages keep to.
    pub fn server_window_bits(&self) -> u8 {
        self.server_bits.unwrap_or(Class::Wide.bits())
    }

    /// Logarithm of the window that the client keeps; `None`: its messages stand alone.
    pub fn client_context_bits(&self) -> Option<u8> {
        match self.client {
            ClientWindow::Kept(bits) => Some(bits),
            ClientWindow::Dropped => None,
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate; server_no_context_takeover")?;
        if self.client == ClientWindow::Dropped {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        if let Some(bits) = self.client_bits {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::offers::are_extensions;
    use super::*;

    fn answer(offer: &str, client: ClientWindow) -> Option<String> {
        assert!(are_extensions(offer.as_bytes()), "{offer}");
        let agreement = negotiate([offer.as_bytes()].into_iter(), client);
        agreement.map(|agreement| agreement.to_string())
    }

    #[test]
    fn offers_are_answered_as_the_table_says() {
        use ClientWindow::{Dropped, Kept};
        const OURS: &str = "permessage-deflate; server_no_context_takeover";
        for (offered, client, rest) in [
            ("", Dropped, "; client_no_context_takeover"),
            ("", Kept(15), ""),
            ("", Kept(12), "; client_no_context_takeover"),
            ("; client_no_context_takeover", Kept(15), "; client_no_context_takeover"),
            ("; server_no_context_takeover", Kept(15), ""),
            ("; client_max_window_bits", Dropped, "; client_no_context_takeover"),
            ("; client_max_window_bits", Kept(15), ""),
            ("; client_max_window_bits", Kept(12), "; client_max_window_bits=12"),
            ("; client_max_window_bits=10", Kept(15), "; client_max_window_bits=10"),
            ("; client_max_window_bits=15", Kept(9), "; client_max_window_bits=9"),
            ("; client_max_window_bits=8", Kept(12), "; client_max_window_bits=8"),
            ("; client_max_window_bits=\"1\\0\"", Kept(15), "; client_max_window_bits=10"),
            ("; server_max_window_bits=15", Kept(15), "; server_max_window_bits=15"),
            ("; server_max_window_bits=14", Kept(15), "; server_max_window_bits=12"),
            ("; server_max_window_bits=12", Kept(15), "; server_max_window_bits=12"),
            ("; server_max_window_bits=11", Kept(15), "; server_max_window_bits=11"),
            ("; server_max_window_bits=9", Kept(15), "; server_max_window_bits=9"),
            // Chromium; Python's websockets.
            ("; client_max_window_bits", Dropped, "; client_no_context_takeover"),
            (
                "; server_max_window_bits=12; client_max_window_bits=12",
                Dropped,
                "; client_no_context_takeover; server_max_window_bits=12",
            ),
        ] {
            let offer = format!("permessage-deflate{offered}");
            assert_eq!(answer(&offer, client), Some(format!("{OURS}{rest}")), "{offer}");
        }
    }

    #[test]
    fn bad_offers_are_declined_and_the_next_is_looked_at() {
        for parameters in [
            "server_max_window_bits=7",
            "server_max_window_bits=8", // right, but zlib has no such window
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=115",
            "server_max_window_bits=x",
            "server_max_window_bits",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=+9",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
            "unknown",
            "Server_no_context_takeover",
        ] {
            let bad = format!("permessage-deflate; {parameters}");
            assert_eq!(answer(&bad, ClientWindow::Kept(15)), None, "{bad}");
            let two = format!("{bad}, x-webkit-deflate-frame, permessage-deflate");
            let told = answer(&two, ClientWindow::Kept(15));
            assert_eq!(told.as_deref(), Some("permessage-deflate; server_no_context_takeover"));
        }
        assert_eq!(answer("x-webkit-deflate-frame, foo; bar=1", ClientWindow::Dropped), None);
    }

    #[test]
    fn the_first_good_offer_counts_also_over_several_headers() {
        let offers: [&[u8]; 3] =
            [b"foo", b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate"];
        let agreement = negotiate(offers.into_iter(), ClientWindow::Dropped).unwrap();
        assert_eq!((agreement.server_window_bits(), agreement.client_context_bits()), (10, None));
        let many = ["permessage-deflate; server_max_window_bits=7"; 50].join(", ");
        assert_eq!(answer(&many, ClientWindow::Dropped), None);
    }

    fn some_parameter() -> impl Strategy<Value = String> {
        let names = vec![
            "server_no_context_takeover",
            "client_no_context_takeover",
            "server_max_window_bits",
            "client_max_window_bits",
        ];
        let value = prop_oneof![
            Just(String::new()),
            (6_u8..18).prop_map(|bits| format!("={bits}")),
            (8_u8..16).prop_map(|bits| format!("=\"{bits}\"")),
        ];
        (prop::sample::select(names), value).prop_map(|(name, value)| format!("{name}{value}"))
    }

    proptest! {
        #[test]
        fn the_answer_keeps_within_the_offer(
            offers in prop::collection::vec(prop::collection::vec(some_parameter(), 0..4), 1..4),
            bits in prop::option::of(9_u8..=15),
        ) {
            let offers = offers.iter().map(|parameters| {
                parameters.iter().fold("permessage-deflate".to_owned(), |offer, parameter| {
                    format!("{offer}; {parameter}")
                })
            });
            let value = offers.collect::<Vec<_>>().join(", ");
            let client = bits.map_or(ClientWindow::Dropped, ClientWindow::Kept);
            let Some(told) = answer(&value, client) else { return Ok(()) };
            prop_assert!(are_extensions(told.as_bytes()));
            let offer = extensions(value.as_bytes()).find_map(Offer::read).unwrap();
            // Read as an offer, an answer has the same parameters, each with a value.
            let answer = extensions(told.as_bytes()).find_map(Offer::read).unwrap();
            prop_assert!(answer.server_no_context);
            prop_assert!(answer.client_no_context || !offer.client_no_context);
            if let Some(told) = answer.server_bits {
                prop_assert!(offer.server_bits.is_some_and(|offered| told <= offered));
            } else {
                prop_assert_eq!(offer.server_bits, None);
            }
            match (answer.client_bits, offer.client_bits) {
                (None, _) | (Some(_), Some(ClientBits::Any)) => {}
                (Some(ClientBits::AtMost(told)), Some(ClientBits::AtMost(offered))) => {
                    prop_assert!(told <= offered);
                }
                (told, offered) => prop_assert!(false, "{told:?} to {offered:?}"),
            }
            if !answer.client_no_context {
                let policy = bits.unwrap();
                let told = match answer.client_bits {
                    Some(ClientBits::AtMost(told)) => told,
                    _ => 15,
                };
                prop_assert!(told <= policy, "a context larger than allowed");
            }
        }
    }
}
