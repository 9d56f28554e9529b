//! TLS of the client's side: whom it trusts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::target::{Scheme, Target};

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those in this file, and those that an authority in it has signed.
    Listed(PathBuf),
    /// Everybody's: the run is about load, and the server is known.
    Anybody,
}

/// What every connection to one server needs to speak TLS with it.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// For `target`; `None`: it speaks without TLS.
    ///
    /// Sessions are not resumed, so that every connection costs the server the same.
    ///
    /// Errors: the file of certificates cannot be read or holds none; the host is no server's name.
    pub(crate) fn of(target: &Target, trust: &Trust) -> io::Result<Option<Self>> {
        if target.scheme == Scheme::Ws {
            return Ok(None);
        }
        let name = ServerName::try_from(target.host().to_owned()).map_err(io::Error::other)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let believed = match trust {
            Trust::Listed(file) => Believed::listed(file, Arc::clone(&provider))?,
            Trust::Anybody => Believed::Anybody,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Judge { provider, believed }))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Some(Self { config: Arc::new(config), name }))
    }

    /// A session that has yet to begin.
    pub(crate) fn session(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)
    }
}

/// Whether a certificate is accepted; that the server has its key is always checked.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    believed: Believed,
}

#[derive(Debug)]
enum Believed {
    Anybody,
    Listed { certificates: Vec<CertificateDer<'static>>, signed: Arc<WebPkiServerVerifier> },
}

impl Believed {
    fn listed(file: &Path, provider: Arc<CryptoProvider>) -> io::Result<Self> {
        let told = |why: String| io::Error::other(format!("{}: {why}", file.display()));
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
        let certificates: Vec<_> = read.map_err(|error| told(error.to_string()))?;
        if certificates.is_empty() {
            return Err(told("no certificate in it".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| told(error.to_string()))?;
        }
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| told(error.to_string()))?;
        Ok(Self::Listed { certificates, signed })
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.believed {
            Believed::Anybody => Ok(ServerCertVerified::assertion()),
            // What people sign for themselves is often marked as an authority's, which no server may be.
            Believed::Listed { certificates, .. } if certificates.contains(end_entity) => {
                Ok(ServerCertVerified::assertion())
            }
            Believed::Listed { signed, .. } => signed.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
