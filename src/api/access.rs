//! Who may call the server API.

use std::hint::black_box;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, ORIGIN};

use super::failure::Failure;
use super::state::Access;

/// Whether a request with these headers may call.
///
/// Errors: [`Failure::NoAccess`], [`Failure::WebPage`], [`Failure::NoKey`], [`Failure::WrongKey`].
pub(super) fn check(access: &Access, headers: &HeaderMap) -> Result<(), Failure> {
    match access {
        Access::Closed => Err(Failure::NoAccess),
        // Any page that the operator visits can make the browser POST to this machine, and then
        // the browser names the page.
        Access::Open if headers.contains_key(ORIGIN) => Err(Failure::WebPage),
        Access::Open => Ok(()),
        Access::Key(key) => {
            let offered = offered(headers).ok_or(Failure::NoKey)?;
            if is_same(offered, key.as_bytes()) { Ok(()) } else { Err(Failure::WrongKey) }
        }
    }
}

/// The key that comes with a request.
fn offered(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes());
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"apikey ").then(|| key.trim_ascii())
}

/// Compares in a time that depends on `offered` alone. Nothing equals an empty key.
fn is_same(offered: &[u8], key: &[u8]) -> bool {
    if key.is_empty() {
        return false;
    }
    let mut difference = u8::from(offered.len() != key.len());
    for (byte, expected) in offered.iter().zip(key.iter().cycle()) {
        difference = black_box(difference | (byte ^ expected));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_comes_in_either_header_and_must_be_the_same() {
        let access = Access::Key("sesame".into());
        for (name, value, expected) in [
            ("x-api-key", "sesame", Ok(())),
            ("authorization", "apikey sesame", Ok(())),
            ("authorization", "ApiKey sesame", Ok(())),
            ("authorization", "Bearer sesame", Err(Failure::NoKey)),
            ("authorization", "api", Err(Failure::NoKey)),
            ("x-api-key", "", Err(Failure::WrongKey)),
            ("x-api-key", "sesam", Err(Failure::WrongKey)),
            ("x-api-key", "sesamesesame", Err(Failure::WrongKey)),
            ("x-api-key", "sesamE", Err(Failure::WrongKey)),
            ("accept", "*/*", Err(Failure::NoKey)),
        ] {
            assert_eq!(check(&access, &headers(&[(name, value)])), expected, "{name}: {value}");
        }
    }

    #[test]
    fn an_empty_key_opens_nothing() {
        let access = Access::Key(String::new());
        assert_eq!(check(&access, &headers(&[("x-api-key", "")])), Err(Failure::WrongKey));
    }

    #[test]
    fn open_is_not_open_to_web_pages_and_closed_not_even_with_a_key() {
        let page = headers(&[("origin", "http://localhost:9000")]);
        assert_eq!(check(&Access::Open, &page), Err(Failure::WebPage));
        assert_eq!(check(&Access::Open, &headers(&[])), Ok(()));
        let key = headers(&[("x-api-key", "")]);
        assert_eq!(check(&Access::Closed, &key), Err(Failure::NoAccess));
    }
}
