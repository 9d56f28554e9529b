//! The operators' side: their port, its TLS, and what is behind it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::api::closes::{Ends, Words};
use crate::api::method::Method;
use crate::api::orders::Orders;
use crate::api::server::{self, Plain, Secure};
use crate::api::state::{Figures, NodeInfo, Parts, State};
use crate::config::Config;
use crate::conn::tls::offer::Offer;
use crate::dialect::cause::{Cause, Initiator, Protocol};
use crate::metrics::export::Exporter;
use crate::metrics::{ControlReader, ProcessReader};
use crate::ring::listen;
use crate::shard::labels::Labels;

use super::control::Gateway;
use super::exit::Failure;
use super::handover::Handed;
use super::reload::{access, operator_limits};
use super::settings;
use super::threads::{cannot_listen, patiently};

/// The operators' listening socket, if there is to be one: that of the service manager where it has
/// opened one.
///
/// Errors: [`Failure::Unfit`], naming the address and what to do.
pub(super) fn door(config: &Config, handed: &mut Handed) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = config.operator.address else { return Ok(None) };
    let mut listen = || {
        let listener = match handed.for_operators(address) {
            Some(socket) => listen::adopt(socket, settings::of_listeners(config))?,
            None => patiently(|| std::net::TcpListener::bind(address))?,
        };
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().map(Some).map_err(|error| cannot_listen(address, &error))
}

/// Handshakes under the terms that `offer` has when they begin. Operators' HTTP is tokio's, so their TLS
/// is tokio-rustls.
fn secure(offer: Arc<Offer>) -> Secure {
    Box::new(move |stream| {
        let acceptor = TlsAcceptor::from(offer.terms().config());
        Box::pin(async move {
            let stream = acceptor.accept(stream).await?;
            Ok(Box::new(stream) as Box<dyn Plain>)
        })
    })
}

impl Gateway {
    /// Serves operators.
    pub(super) fn serve_operators(
        &mut self,
        listener: TcpListener,
        control: ControlReader<Method>,
        process: ProcessReader,
        started: SystemTime,
        orders: Orders,
    ) {
        let bound = listener.local_addr().ok();
        let version = env!("CARGO_PKG_VERSION");
        let (readers, links) = (self.readers.clone(), self.links.clone());
        let exporter = Exporter::new(readers, control, process, links, version, started);
        let state = Rc::new(State::new(self.operator_parts(exporter, orders)));
        self.operators = Some(Rc::clone(&state));
        tokio_uring::spawn(server::serve(listener, state));
        if let Some(address) = bound {
            tracing::info!(%address, "operators may connect");
        }
    }

    fn operator_parts(&self, exporter: Exporter<Labels, Method>, orders: Orders) -> Parts {
        let config = self.document.config();
        let (readers, ended) = (self.readers.clone(), self.readers.clone());
        Parts {
            hub: Rc::clone(&self.hub),
            access: access(config).into(),
            exporter: Box::new(move || exporter.render()),
            ends: Box::new(move || Ends::sum(&ended)),
            words: Words {
                causes: Cause::ALL.iter().map(|cause| (cause.label(), cause.meaning())).collect(),
                initiators: Initiator::ALL.iter().map(|initiator| initiator.label()).collect(),
                protocols: Protocol::ALL.iter().map(|protocol| protocol.label()).collect(),
            },
            figures: Box::new(move || Figures::sum(&readers)),
            pulse: Rc::clone(&self.pulse),
            readiness: Rc::clone(&self.readiness),
            node: NodeInfo {
                uid: format!("{:016x}", fastrand::u64(..)),
                name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: Instant::now().into_std(),
            },
            limits: operator_limits(config).into(),
            secure: self.keeper.operator.clone().map(secure),
            orders,
            numbers: Rc::clone(&self.numbers),
            links: self.links.clone(),
        }
    }
}
