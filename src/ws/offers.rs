//! What a client offers in its handshake: subprotocols and extensions. Linear in the bytes.

use memchr::memchr;

/// Most subprotocols in one offer: keeps the check for repetitions small.
const SUBPROTOCOLS_MAX: usize = 32;

/// Whether `values` (of `Sec-WebSocket-Protocol`) are lists of different tokens.
///
/// Source: RFC 6455 §4.1 (10), §11.3.4.
pub(super) fn are_subprotocols<'b>(values: impl Iterator<Item = &'b [u8]>) -> bool {
    let mut seen = [&b""[..]; SUBPROTOCOLS_MAX];
    for (count, item) in values.flat_map(list_items).enumerate() {
        if !is_token(item) || count == SUBPROTOCOLS_MAX || seen[..count].contains(&item) {
            return false;
        }
        seen[count] = item;
    }
    true
}

/// Whether `value` (of `Sec-WebSocket-Extensions`) is a list of extensions with parameters.
///
/// Source: RFC 6455 §9.1, §4.3.
pub(super) fn are_extensions(value: &[u8]) -> bool {
    let mut rest = value;
    let mut part = Part::Extension;
    loop {
        let Some(after) = take_token(rest.trim_ascii_start()) else { return false };
        rest = after.trim_ascii_start();
        if let (Part::Parameter, Some(argument)) = (part, rest.strip_prefix(b"=")) {
            let Some(after) = take_argument(argument.trim_ascii_start()) else { return false };
            rest = after.trim_ascii_start();
        }
        (part, rest) = match rest {
            [] => return true,
            [b',', after @ ..] => (Part::Extension, after),
            [b';', after @ ..] => (Part::Parameter, after),
            _ => return false,
        };
    }
}

/// One extension that is offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'h> {
    pub(super) name: &'h [u8],
    parameters: &'h [u8],
}

/// The extensions of `value`, which must be such a list: then commas, semicolons and equals signs
/// are never part of a token, not even of one in quotes.
pub(super) fn extensions(value: &[u8]) -> impl Iterator<Item = Extension<'_>> {
    list_items(value).map(|item| {
        let end = memchr(b';', item).unwrap_or(item.len());
        let (name, parameters) = item.split_at(end);
        Extension { name: name.trim_ascii(), parameters }
    })
}

impl<'h> Extension<'h> {
    /// Names and values of its parameters, the values as they were written.
    pub(super) fn parameters(self) -> impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> {
        let parameters = self.parameters.split(|&byte| byte == b';').skip(1);
        parameters.map(|parameter| match memchr(b'=', parameter) {
            None => (parameter.trim_ascii(), None),
            Some(at) => (parameter[..at].trim_ascii(), Some(parameter[at + 1..].trim_ascii())),
        })
    }
}

/// What begins at this place of an extension list.
#[derive(Clone, Copy)]
enum Part {
    Extension,
    Parameter,
}

/// The items between the commas of `list`, without space around them.
pub(super) fn list_items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Source: RFC 9110 §5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && memchr(byte, b"\"(),/:;<=>?@[\\]{}").is_none()
}

fn take_token(text: &[u8]) -> Option<&[u8]> {
    let len = text.iter().take_while(|&&byte| is_token_byte(byte)).count();
    (len > 0).then(|| &text[len..])
}

/// A token, or one in quotes in which `\` takes the next character as it is.
fn take_argument(text: &[u8]) -> Option<&[u8]> {
    let Some(quoted) = text.strip_prefix(b"\"") else { return take_token(text) };
    let mut rest = quoted;
    let mut is_empty = true;
    loop {
        rest = match rest {
            [b'"', after @ ..] if !is_empty => return Some(after),
            [b'\\', byte, after @ ..] | [byte, after @ ..] if is_token_byte(*byte) => after,
            _ => return None,
        };
        is_empty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subprotocols_are_different_tokens() {
        let check = |values: &[&str]| are_subprotocols(values.iter().map(|value| value.as_bytes()));
        assert!(check(&[]));
        assert!(check(&["chat"]));
        assert!(check(&["chat, super.chat ,x", "y"]));
        for bad in ["", " ", "a,", ",a", "a,,b", "a b", "a;b", "\"a\"", "a/b", "a, a", "ü"] {
            assert!(!check(&[bad]), "{bad:?}");
        }
        assert!(!check(&["a", "a"]));
        assert!(!check(&["a,".repeat(7500).as_str()]));
        let offer =
            |count: usize| (0..count).map(|i| format!("p{i}")).collect::<Vec<_>>().join(",");
        assert!(check(&[&offer(32)]));
        assert!(!check(&[&offer(33)]));
    }

    #[test]
    fn extensions_are_tokens_with_parameters() {
        for good in [
            "foo",
            "permessage-deflate; client_max_window_bits",
            "foo; bar; baz=2, bar;x = \"10\" , foo",
            "a;b=\"\\1\\0\"",
        ] {
            assert!(are_extensions(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "a,",
            ",a",
            "a;",
            ";a",
            "a=",
            "a;b=",
            "a;b=\"\"",
            "a;b=\"",
            "a;b=\"x",
            "a b",
            "a;b=\"x y\"",
            "a;b=\"x\\\"",
            "a;b=\"x\"y",
            "a;=b",
            "a;b=c=d",
            "a=b",
            "\"a\"",
            "a;b=\"\\ \"",
        ] {
            assert!(!are_extensions(bad.as_bytes()), "{bad:?}");
        }
        for hostile in ["a,".repeat(7500), " ".repeat(15_000), "\"".repeat(15_000)] {
            assert!(!are_extensions(hostile.as_bytes()));
        }
    }
    #[test]
    fn extensions_are_taken_apart() {
        let value = b"foo; bar ;baz = 2,x;y=\"\\1\"";
        let mut found = extensions(value);
        let (first, second) = (found.next().unwrap(), found.next().unwrap());
        assert!(found.next().is_none());
        assert_eq!((first.name, second.name), (&b"foo"[..], &b"x"[..]));
        let parameters: Vec<_> = first.parameters().collect();
        assert_eq!(parameters, [(&b"bar"[..], None), (b"baz", Some(&b"2"[..]))]);
        let parameters: Vec<_> = second.parameters().collect();
        assert_eq!(parameters, [(&b"y"[..], Some(&b"\"\\1\""[..]))]);
    }
}
