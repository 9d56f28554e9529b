//! Which web pages may connect.
//!
//! A browser sends the page's origin with the opening handshake and cannot be made to lie about it;
//! without this check any page could use the visitor's cookies (CWE-1385).

/// What a page and its gateway speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http` and `ws`.
    Http,
    /// `https` and `wss`.
    Https,
}

/// The rule of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRule {
    /// Origins that may connect, as browsers write them: `https://example.com`, with the port unless
    /// it is the scheme's own. Empty: the one of the same scheme whose authority equals the Host
    /// header.
    pub allowed: Vec<String>,
    /// All origins may connect.
    pub any: bool,
    /// Clients without an Origin header may connect: those that are not browsers.
    pub missing: bool,
}

impl OriginRule {
    /// Whether a handshake with these headers may go on. `origins` are all Origin headers; `scheme` is
    /// what the client spoke to get here.
    pub fn admits<'a>(
        &self,
        mut origins: impl Iterator<Item = &'a [u8]>,
        host: &[u8],
        scheme: Scheme,
    ) -> bool {
        let Some(origin) = origins.next() else { return self.missing };
        if origins.next().is_some() {
            return false;
        }
        if self.any {
            return true;
        }
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        if self.allowed.is_empty() { is_of_host(origin, host, scheme) } else { self.lists(origin) }
    }

    /// Scheme and host compare without case, as browsers write them in lower case.
    fn lists(&self, origin: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

fn is_of_host(origin: &str, host: &[u8], scheme: Scheme) -> bool {
    let Some((of_page, authority)) = origin.split_once("://") else { return false };
    let default_port: &[u8] = match (of_page, scheme) {
        ("http", Scheme::Http) => b":80",
        ("https", Scheme::Https) => b":443",
        _ => return false,
    };
    let without_port = |a: &[u8]| a.strip_suffix(default_port).unwrap_or(a).to_ascii_lowercase();
    without_port(authority.as_bytes()) == without_port(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(rule: &OriginRule, origins: &[&str], host: &str) -> bool {
        rule.admits(origins.iter().map(|o| o.as_bytes()), host.as_bytes(), Scheme::Http)
    }

    #[test]
    fn by_default_only_the_page_of_the_same_host_and_port_may_connect() {
        let rule = OriginRule { allowed: vec![], any: false, missing: true };
        assert!(admits(&rule, &["http://example.com"], "example.com"));
        assert!(admits(&rule, &["http://Example.com:80"], "example.COM"));
        assert!(admits(&rule, &["http://localhost:8000"], "localhost:8000"));
        assert!(admits(&rule, &[], "example.com"));
        for bad in [
            "http://evil.example",
            "null",
            "http://example.com.evil",
            "http://example.com:8080",
            "http://example.com:80:80",
            "https://example.com",
            "https://example.com:443",
            "HTTP://example.com",
            "ftp://example.com",
            "example.com",
            "http://example.com/",
            "http://example.com@evil.example",
            "http://xn--exmple-cua.com",
        ] {
            assert!(!admits(&rule, &[bad], "example.com"), "{bad}");
        }
        assert!(!admits(&rule, &["http://example.com", "http://example.com"], "example.com"));
    }

    #[test]
    fn over_tls_only_pages_that_came_over_tls_are_of_the_same_host() {
        let rule = OriginRule { allowed: vec![], any: false, missing: true };
        let admits = |origin: &'static str, host: &str| {
            rule.admits(std::iter::once(origin.as_bytes()), host.as_bytes(), Scheme::Https)
        };
        assert!(admits("https://example.com", "example.com"));
        assert!(admits("https://example.com", "example.com:443"));
        assert!(admits("https://example.com:8443", "example.com:8443"));
        assert!(!admits("http://example.com", "example.com"));
        assert!(!admits("https://example.com", "example.com:80"));
    }

    #[test]
    fn a_list_replaces_the_rule_of_the_same_host() {
        let allowed = vec!["https://app.example".to_owned()];
        let rule = OriginRule { allowed, any: false, missing: false };
        assert!(admits(&rule, &["https://app.example"], "ws.example"));
        assert!(!admits(&rule, &["http://app.example"], "ws.example"), "the scheme counts");
        assert!(!admits(&rule, &["https://ws.example"], "ws.example"));
        assert!(!admits(&rule, &[], "ws.example"));
    }

    #[test]
    fn any_admits_all_but_two_origins_at_once() {
        let rule = OriginRule { allowed: vec![], any: true, missing: false };
        assert!(admits(&rule, &["null"], "x"));
        assert!(!admits(&rule, &["a", "b"], "x"));
        assert!(!admits(&rule, &[], "x"));
    }
}
