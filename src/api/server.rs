//! The listener of the operator port and its connections.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::state::State;
use super::{closes, routes};

/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// Bytes of one request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after the kernel refused to give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Length: 31\r\n\r\ntoo many operator connections.\n";

/// Answers operators who connect to `listener` until it is dropped, which ends all its connections.
///
/// Runs on the control thread, inside a `LocalSet`.
pub async fn serve(listener: TcpListener, state: Rc<State>) -> Infallible {
    let mut snapshots = JoinSet::new();
    snapshots.spawn_local(closes::keep(Rc::clone(&state)));
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while let Some(ended) = connections.try_join_next() {
            if let Err(fault) = ended {
                error!(%fault, "an operator connection ended by a fault of ours");
            }
        }
        match accepted {
            Ok((stream, _)) if connections.len() >= state.parts.limits.get().connections_max => {
                // With TLS there is no word before the handshake.
                if state.parts.secure.is_none() {
                    turn_away(&stream);
                }
            }
            Ok((stream, _)) => {
                connections.spawn_local(connection(stream, Rc::clone(&state)));
            }
            Err(problem) => {
                warn!(%problem, "cannot accept operator connections; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Says that there are too many connections, if the socket takes it at once.
fn turn_away(stream: &TcpStream) {
    match stream.try_write(FULL) {
        Ok(_) => debug!("turned an operator connection away: too many"),
        Err(problem) => debug!(%problem, "dropped an operator connection: too many"),
    }
}

/// Bytes of an operator connection, as plain as HTTP wants them.
pub trait Plain: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Plain for T {}

/// Does the TLS handshake of one connection; what comes of it speaks plain.
pub type Secure = Box<dyn Fn(TcpStream) -> LocalHandshake>;

/// A TLS handshake that is under way.
pub type LocalHandshake = Pin<Box<dyn Future<Output = io::Result<Box<dyn Plain>>>>>;

async fn connection(stream: TcpStream, state: Rc<State>) {
    let limits = state.parts.limits.get();
    if let Err(problem) = set_options(&stream, limits.write_wait) {
        debug!(%problem, "an operator connection was gone before it began");
        return;
    }
    let Some(secure) = &state.parts.secure else { return serve_http(stream, &state).await };
    match timeout(limits.head_wait, secure(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, &state).await,
        Ok(Err(problem)) => debug!(%problem, "a TLS handshake of an operator failed"),
        Err(_) => debug!("a TLS handshake of an operator took too long"),
    }
}

async fn serve_http(stream: impl Plain, state: &Rc<State>) {
    let limits = state.parts.limits.get();
    let service = service_fn(|request| {
        let state = Rc::clone(state);
        async move { Ok::<_, Infallible>(routes::answer(&state, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_wait)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(problem) = served {
        debug!(%problem, "an operator connection ended early");
    }
}

fn set_options(stream: &TcpStream, write_wait: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Also ends connections whose client does not read its answer.
    SockRef::from(stream).set_tcp_user_timeout(Some(write_wait))
}
