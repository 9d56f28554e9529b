//! The terms of a client that knows by its certificate whom it calls, or tells nothing that others may not know:
//! Ringway calling itself.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::certificate::read_chain;
use super::terms::crypto;

/// Terms on which only the holder of the key of this certificate (PEM) is talked to, whatever its
/// names, dates and authority are: whoever calls by a loopback address knows no better.
///
/// Errors: what is wrong with the file.
pub fn only(chain: &[u8]) -> Result<Arc<ClientConfig>, String> {
    terms(Some(read_chain(chain)?.swap_remove(0)))
}

/// Terms on which whoever answers is talked to: for questions that anybody may hear.
///
/// Errors: why there are none.
pub fn anyone() -> Result<Arc<ClientConfig>, String> {
    terms(None)
}

fn terms(expected: Option<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
    let verifier = Acquaintance { expected, provider: crypto() };
    let config = ClientConfig::builder_with_provider(Arc::new(crypto()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Acquaintance {
    /// `None`: any certificate will do.
    expected: Option<CertificateDer<'static>>,
    provider: CryptoProvider,
}

impl ServerCertVerifier for Acquaintance {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.expected.as_ref().is_none_or(|expected| end_entity == expected) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
