//! Settings of TLS: which files, and what is asked of clients.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::rate::Rate;
use crate::conn::tls::terms::{PostQuantum, Version};

use super::Config;
use super::reader::{Sections, Settings};
use super::violation::Violation;

/// TLS of all listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates; the first is also for clients that ask for none of their names.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub min_version: Version,
    /// Key exchange that withstands quantum computers.
    pub post_quantum: PostQuantum,
    /// Longest time from the connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Handshakes that may be under way in all.
    pub handshakes_max: usize,
    /// Steps of handshakes that a shard takes in one turn.
    pub handshakes_per_turn: usize,
    /// How often a shard begins a handshake; `None`: at any pace.
    pub handshakes_rate: Option<Rate>,
    /// Time between two looks at the files; `None`: they are read again on SIGHUP only.
    pub reload_interval: Option<Duration>,
}

/// Where a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Its place in the configuration, counted from 0.
    pub index: usize,
    /// The chain, in PEM.
    pub chain: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// An OCSP answer to be stapled, in DER; it need not exist.
    pub ocsp: Option<PathBuf>,
}

/// What is asked of the clients of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate of these authorities, of those clients that have one.
    Optional(PathBuf),
    /// A certificate of these authorities.
    Required(PathBuf),
}

/// Takes the settings of all listeners together.
pub(super) fn build(sections: &Sections, violations: &mut Vec<Violation>) -> Tls {
    let settings = sections.one("tls");
    let all = sections.all("certificate").iter().enumerate();
    Tls {
        certificates: all.filter_map(|(index, s)| files(index, s, violations)).collect(),
        min_version: match settings.text("min_version").as_str() {
            "tls1.3" => Version::Tls13,
            _ => Version::Tls12,
        },
        post_quantum: match settings.switch("post_quantum") {
            true => PostQuantum::On,
            false => PostQuantum::Off,
        },
        handshake_timeout: settings.time("handshake_timeout"),
        handshakes_max: settings.number("handshakes_max"),
        handshakes_per_turn: settings.number("handshakes_per_turn"),
        handshakes_rate: settings.rate("handshakes_rate", "handshakes_burst"),
        reload_interval: Some(settings.time("reload_interval")).filter(|time| !time.is_zero()),
    }
}

/// The files of one certificate; `None`: nobody has written any.
fn files(
    index: usize,
    settings: &Settings,
    violations: &mut Vec<Violation>,
) -> Option<CertificateFiles> {
    let path = |name| Some(settings.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from);
    let (chain, key, ocsp) = (path("chain"), path("key"), path("ocsp"));
    if chain.is_none() && key.is_none() && ocsp.is_none() {
        return None;
    }
    for (name, file) in [("chain", &chain), ("key", &key)] {
        if file.is_none() {
            let problem = "is missing: a certificate needs both its chain and its key";
            violations.push(settings.wrong(name, problem));
        }
    }
    Some(CertificateFiles { index, chain: chain?, key: key?, ocsp })
}

/// What a section with `tls`, `client_auth` and `client_ca` asks for; `None`: no TLS.
pub(super) fn client_auth(
    settings: &Settings,
    violations: &mut Vec<Violation>,
) -> Option<ClientAuth> {
    let wanted = settings.text("client_auth");
    let authorities = Some(settings.text("client_ca")).filter(|path| !path.is_empty());
    let authorities = authorities.map(PathBuf::from);
    if !settings.switch("tls") {
        let useless = [("client_auth", wanted != "none"), ("client_ca", authorities.is_some())];
        for (name, is_useless) in useless {
            if is_useless {
                violations.push(settings.wrong(name, "has no effect without tls = true"));
            }
        }
        return None;
    }
    match (wanted.as_str(), authorities) {
        ("optional", Some(path)) => Some(ClientAuth::Optional(path)),
        ("required", Some(path)) => Some(ClientAuth::Required(path)),
        ("none", None) => Some(ClientAuth::None),
        ("none", Some(_)) => {
            let problem = "has no effect: set client_auth to optional or required";
            violations.push(settings.wrong("client_ca", problem));
            Some(ClientAuth::None)
        }
        (_, _) => {
            let problem = "needs client_ca, the file of the authorities that sign the certificates";
            violations.push(settings.wrong("client_auth", problem));
            Some(ClientAuth::None)
        }
    }
}

/// Adds what does not go together.
pub(super) fn report(config: &Config, sections: &Sections, violations: &mut Vec<Violation>) {
    if !config.tls.certificates.is_empty() {
        return;
    }
    let listeners = sections.all("listener").iter().zip(&config.listeners);
    let listeners = listeners.map(|(settings, listener)| (settings, listener.tls.is_some()));
    let operator = (sections.one("operator"), config.operator.tls.is_some());
    for (settings, _) in listeners.chain([operator]).filter(|(_, has_tls)| *has_tls) {
        let problem = "needs a certificate: add a section [[certificate]] with chain and key";
        violations.push(settings.wrong("tls", problem));
    }
}
