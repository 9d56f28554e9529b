//! What one process of Ringway asks another one on this machine, over the operators' port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::tls::ClientAuth;
use crate::config::{ApiAccess, Config};
use crate::conn::tls::acquaintance;

use super::credentials::locate;
use super::exit::Failure;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// A gateway on this machine, by its configuration.
pub(super) struct Callee<'a> {
    config: &'a Config,
    address: SocketAddr,
}

impl<'a> Callee<'a> {
    /// The gateway that has this configuration.
    ///
    /// Errors: [`Failure::Unfit`], when it cannot be called.
    pub(super) fn of(config: &'a Config) -> Result<Self, Failure> {
        let unfit = |text: &str| Err(Failure::Unfit(text.to_owned()));
        let Some(configured) = config.operator.address else {
            return unfit("operator.address is empty: there is no port to ask at; set one");
        };
        if matches!(config.operator.tls, Some(ClientAuth::Required(_))) {
            return unfit(
                "operator.client_auth is required, and this command has no certificate: use optional",
            );
        }
        let ip = match configured.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Ok(Self { config, address: SocketAddr::new(ip, configured.port()) })
    }

    /// Asks and waits for the answer, for as long as `patience`.
    ///
    /// The key goes with a POST only, and only to the holder of the configured certificate. What anybody may GET is asked
    /// of whoever answers: the file may be newer than what is served.
    ///
    /// Errors: [`Failure::No`] without an answer; [`Failure::Unfit`] when its certificate cannot be read.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let address = self.address;
        let asked = timeout(patience, self.exchange(method, path, body));
        asked.await.unwrap_or_else(|_| {
            Err(Failure::No(format!(
                "the gateway at {address} does not answer within {patience:?}"
            )))
        })
    }

    async fn exchange(&self, method: Method, path: &str, body: String) -> Result<Answer, Failure> {
        let address = self.address;
        let silent = |error: &dyn std::fmt::Display| {
            Failure::No(format!("the gateway at {address} does not answer: {error}; does it run?"))
        };
        let orders = method == Method::POST;
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", address.to_string()).header("connection", "close");
        if let ApiAccess::Key(key) = &self.config.operator.api
            && orders
        {
            request = request.header("x-api-key", key.secret());
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request =
            request.map_err(|error| Failure::Unfit(format!("operator.api_key: {error}")))?;
        let stream = TcpStream::connect(address).await.map_err(|error| silent(&error))?;
        if self.config.operator.tls.is_none() {
            return exchange(stream, request).await.map_err(|error| silent(&error));
        }
        let connector = if orders { self.acquainted()? } else { Self::unacquainted()? };
        let stream = connector.connect(address.ip().into(), stream).await;
        let stream = stream.map_err(|error| silent(&error))?;
        exchange(stream, request).await.map_err(|error| silent(&error))
    }

    /// The gateway shows its first certificate to those who ask for no name.
    fn acquainted(&self) -> Result<TlsConnector, Failure> {
        let Some(files) = self.config.tls.certificates.first() else {
            return Err(Failure::Unfit("operator.tls needs a certificate".to_owned()));
        };
        let unfit = |problem: &dyn std::fmt::Display| {
            Failure::Unfit(format!("certificate.0.chain = {:?}: {problem}", files.chain))
        };
        let chain = locate(&files.chain).and_then(std::fs::read);
        let chain = chain.map_err(|error| unfit(&error))?;
        acquaintance::only(&chain).map(TlsConnector::from).map_err(|problem| unfit(&problem))
    }

    fn unacquainted() -> Result<TlsConnector, Failure> {
        acquaintance::anyone().map(TlsConnector::from).map_err(Failure::Unfit)
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<Answer, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = read(response.into_body()).await?;
        Ok(Answer { status, body })
    };
    tokio::pin!(answer, connection);
    let mut is_open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            // What was read before the end is still there.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn read(
    mut body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin,
) -> Result<String, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = ANSWER_BYTES_MAX.saturating_sub(bytes.len());
            bytes.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
