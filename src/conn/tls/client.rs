//! Who a client is, by its certificate.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is kept of a client's certificate: enough to tell who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// The common name, if there is one.
    pub common_name: Option<Box<str>>,
    /// Names that the certificate is for: DNS names, mail addresses and URIs.
    pub names: Box<[Box<str>]>,
    /// Bytes of the certificates that it has shown. rustls keeps them as long as the session.
    chain_bytes: usize,
}

impl Client {
    /// Reads the client's own certificate, the first of a chain that was verified.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Self {
        let certificate = &chain[0];
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
        let chain_bytes = chain.iter().map(|one| size_of::<CertificateDer<'_>>() + one.len()).sum();
        let mut client =
            Self { fingerprint, common_name: None, names: Box::default(), chain_bytes };
        if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
            let common_name = parsed.subject().iter_common_name().next();
            client.common_name = common_name.and_then(|name| name.as_str().ok()).map(Box::from);
            client.names = names(&parsed);
        }
        client
    }

    /// Memory of all that is kept because of it.
    pub(super) fn heap_bytes(&self) -> usize {
        let names = self.names.iter().map(|name| size_of::<Box<str>>() + name.len());
        let common_name = self.common_name.as_deref().map_or(0, str::len);
        size_of::<Self>() + self.chain_bytes + common_name + names.sum::<usize>()
    }
}

fn names(certificate: &X509Certificate<'_>) -> Box<[Box<str>]> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Box::default();
    };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some(Box::from(*name))
        }
        _ => None,
    });
    names.collect()
}
