//! TLS between a socket and a connection, without I/O: the only place that names rustls.
//!
//! A [`session::Tls`] turns received bytes into plain ones and, at the flush, plain bytes into
//! records. What it is held to (certificates, versions, client certificates) are [`terms::Terms`],
//! which never change; [`offer::Offer`] is where a listener finds the newest.

pub mod acquaintance;
pub mod certificate;
mod client;
pub mod failure;
pub mod offer;
pub mod session;
pub mod terms;

pub use client::Client;

#[cfg(test)]
pub(crate) mod tests;

/// Makes aws-lc the provider of all cryptography in this process. To be called first of all.
pub fn install_provider() {
    // Refused only when one is installed, which then is this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
