//! Certificates with their keys, and which of them a client gets.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::terms::crypto;

/// A chain with its key, ready to be used.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// DNS names that it is for, in lower case.
    names: Vec<String>,
    /// When it begins to be valid, in seconds since 1970.
    pub not_before: i64,
    /// When it ends to be valid, in seconds since 1970.
    pub not_after: i64,
}

/// A file of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The chain.
    Certificate,
    /// The private key.
    Key,
}

/// What is wrong with one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// With which.
    pub part: Part,
    /// What, and what would be right.
    pub problem: String,
}

impl Certificate {
    /// Reads a chain (the server's own certificate first) and its key from PEM, and the OCSP
    /// answer to be stapled from DER.
    ///
    /// Errors: [`Flaw`].
    pub fn read(chain: &[u8], key: &[u8], ocsp: Option<Vec<u8>>) -> Result<Self, Flaw> {
        let wrong_chain = |problem| Flaw { part: Part::Certificate, problem };
        let wrong_key = |problem| Flaw { part: Part::Key, problem };
        let chain = read_chain(chain).map_err(wrong_chain)?;
        let (names, not_before, not_after) = read_facts(&chain[0]).map_err(wrong_chain)?;
        let key = read_key(key).map_err(wrong_key)?;
        let mut certified = CertifiedKey::from_der(chain, key, &crypto()).map_err(|error| {
            wrong_key(match error {
                rustls::Error::InconsistentKeys(_) => {
                    "is not the key of this certificate: its public half is another; give the key that the certificate was made with".to_owned()
                }
                error => format!("cannot be used: {error}; RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, and Ed25519 can"),
            })
        })?;
        certified.ocsp = ocsp;
        Ok(Self { key: Arc::new(certified), names, not_before, not_after })
    }

    /// The names that it is for; at least one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether an OCSP answer is stapled to it.
    pub fn is_stapled(&self) -> bool {
        self.key.ocsp.is_some()
    }
}

/// Reads the certificates in a PEM text.
///
/// Errors: what is wrong, and what would be right.
pub(super) fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| not_pem(&error))?;
    if found.is_empty() {
        let instead = instead(pem, "openssl x509 -inform der");
        return Err(format!("has no CERTIFICATE section: {instead}"));
    }
    Ok(found)
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // PKCS #8 has a label of its own for it, and older forms a header.
    let marks: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(_) if marks.iter().any(|mark| memchr::memmem::find(pem, mark).is_some()) => Err(
            "is encrypted, and there is nobody to ask for the password; decrypt it with `openssl pkey`"
                .to_owned(),
        ),
        Err(PemError::NoItemsFound) => {
            let instead = instead(pem, "openssl pkey -inform der");
            Err(format!("has no PRIVATE KEY section: {instead}"))
        }
        Err(error) => Err(not_pem(&error)),
    }
}

fn not_pem(error: &PemError) -> String {
    let flaw = match error {
        PemError::MissingSectionEnd { .. } => "an END line is missing".to_owned(),
        PemError::IllegalSectionStart { .. } => "a BEGIN line is broken".to_owned(),
        PemError::Base64Decode(_) => {
            "what stands between its BEGIN and END lines is not base64".to_owned()
        }
        error => error.to_string(),
    };
    format!("is not whole PEM: {flaw}; make the file again")
}

/// What a file holds that does not have what it should; `convert` makes PEM of DER.
fn instead(pem: &[u8], convert: &str) -> String {
    if pem.is_empty() {
        return "the file is empty; name another, or make it again".to_owned();
    }
    match first_label(pem) {
        Some(label) => format!("holds {label:?} instead; is it the wrong file?"),
        None => format!("there is no PEM in it; was it DER, convert it with `{convert}`"),
    }
}

/// The first line that begins a section of PEM, as far as it says which.
fn first_label(pem: &[u8]) -> Option<String> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const LABEL_BYTES_MAX: usize = 40;
    let rest = &pem[memchr::memmem::find(pem, BEGIN)? + BEGIN.len()..];
    let rest = &rest[..rest.len().min(LABEL_BYTES_MAX)];
    let label = rest.split(|byte| matches!(byte, b'-' | b'\r' | b'\n')).next()?;
    Some(String::from_utf8_lossy(label).into_owned())
}

/// DNS names, and from when to when it is valid.
fn read_facts(certificate: &[u8]) -> Result<(Vec<String>, i64, i64), String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("is not an X.509 certificate: {error}; make the file again"))?;
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map_or(&[][..], |names| &names.value.general_names);
    let names = alternatives.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return Err("names no host: clients look for DNS names or addresses in subjectAltName, and ignore the common name; order one with them".to_owned());
    }
    let validity = parsed.validity();
    Ok((names, validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::Ipv4Addr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(std::net::Ipv6Addr::from);
    v4.map(|address| address.to_string()).or(v6.map(|address| address.to_string())).ok()
}

/// Finds the certificate for the name that a client asks for.
pub(super) struct Certificates {
    /// By whole name, and by `*.` and the rest of the name behind its first dot.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For those who ask for nothing, or for a name that nobody has.
    others: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// The first certificate is also for those who ask for none of the names.
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for Certificate { key, names, .. } in certificates {
            for name in names {
                by_name.entry_ref(name.as_str()).or_default().push(Arc::clone(key));
            }
        }
        let first = certificates.first();
        let others = first.map_or_else(Vec::new, |first| {
            // Others for the very same names may suit clients that this one does not.
            let alike = certificates.iter().filter(|other| other.names == first.names);
            alike.map(|certificate| Arc::clone(&certificate.key)).collect()
        });
        Self { by_name, others }
    }

    fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase()) else {
            return &self.others;
        };
        if let Some(found) = self.by_name.get(&name) {
            return found;
        }
        let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        parent.and_then(|wildcard| self.by_name.get(&wildcard)).unwrap_or(&self.others)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.find(hello.server_name());
        let schemes = hello.signature_schemes();
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        candidates.iter().find(suits).or(candidates.first()).map(Arc::clone)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}
