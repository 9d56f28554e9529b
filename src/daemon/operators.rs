//! TLS for operators: their HTTP is tokio's, so their TLS is tokio-rustls.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use crate::api::server::{Plain, Secure};
use crate::conn::tls::offer::Offer;

/// Handshakes under the terms that `offer` has when they begin.
pub(super) fn secure(offer: Arc<Offer>) -> Secure {
    Box::new(move |stream| {
        let acceptor = TlsAcceptor::from(offer.terms().config());
        Box::pin(async move {
            let stream = acceptor.accept(stream).await?;
            Ok(Box::new(stream) as Box<dyn Plain>)
        })
    })
}
