//! What handshakes are held to.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer, kx_group};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::certificate::{Certificate, Certificates, read_chain};

/// The application protocol that is spoken here: WebSocket begins as HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2, and what came later.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Whether key exchange that also withstands quantum computers (X25519MLKEM768) is spoken. Clients
/// that offer it first get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostQuantum {
    /// It is.
    On,
    /// It is not: it costs more bytes and time.
    Off,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate of one of these authorities (PEM), if the client has one.
    Optional(Vec<u8>),
    /// A certificate of one of these authorities (PEM).
    Required(Vec<u8>),
}

/// Settings that certificates come on top of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The oldest version that is spoken.
    pub min_version: Version,
    /// Key exchange.
    pub post_quantum: PostQuantum,
}

/// What handshakes with one listener are held to; made once, never changed.
pub struct Terms {
    config: Arc<ServerConfig>,
    client_auth: ClientAuth,
}

impl Terms {
    /// Terms with these certificates, of which the first also serves clients that ask for another
    /// name or for none.
    ///
    /// Tickets of `former` terms stay good if clients are asked for the same.
    ///
    /// Errors: what is wrong with the authorities of `client_auth`, and what would be right.
    pub fn new(
        settings: Settings,
        certificates: &[Certificate],
        client_auth: ClientAuth,
        former: Option<&Self>,
    ) -> Result<Self, String> {
        let provider = Arc::new(provider(settings.post_quantum));
        let versions: &[_] = match settings.min_version {
            Version::Tls12 => &[&TLS12, &TLS13],
            Version::Tls13 => &[&TLS13],
        };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier(&client_auth, provider)?);
        let mut config = config.with_cert_resolver(Arc::new(Certificates::new(certificates)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Tickets are with the clients: nothing is kept here, and no lock is shared for it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ticketer(&client_auth, former)?;
        Ok(Self { config: Arc::new(config), client_auth })
    }

    /// For a listener whose bytes are not ours to carry: the operators'.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The cryptography that certificates are checked with.
pub(super) fn crypto() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn provider(post_quantum: PostQuantum) -> CryptoProvider {
    let classic = [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    let kx_groups = match post_quantum {
        PostQuantum::On => [&[kx_group::X25519MLKEM768], &classic[..]].concat(),
        PostQuantum::Off => classic.to_vec(),
    };
    CryptoProvider { kx_groups, ..crypto() }
}

fn verifier(
    client_auth: &ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let authorities = match client_auth {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Optional(pem) | ClientAuth::Required(pem) => read_chain(pem)?,
    };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| {
            format!("holds a certificate that is none of an authority: {error}")
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match client_auth {
        ClientAuth::Optional(_) => builder.allow_unauthenticated(),
        ClientAuth::None | ClientAuth::Required(_) => builder,
    };
    builder.build().map_err(|error| error.to_string())
}

/// A ticket vouches for the client that got it, so it is good only where the same is asked.
fn ticketer(
    client_auth: &ClientAuth,
    former: Option<&Terms>,
) -> Result<Arc<dyn ProducesTickets>, String> {
    match former {
        Some(former) if former.client_auth == *client_auth => {
            Ok(Arc::clone(&former.config.ticketer))
        }
        _ => Ticketer::new().map_err(|error| format!("no keys for session tickets: {error}")),
    }
}
