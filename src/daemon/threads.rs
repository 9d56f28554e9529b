//! The shards' threads.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::mail::post::Post;
use crate::metrics::Writer;
use crate::ring::listen::{self, Listener, Options, Takers};
use crate::ring::uring::{self, Parts, Uring};
use crate::ring::wakes::Wakes;
use crate::shard::board::Board;
use crate::shard::labels::Labels;
use crate::shard::{Running, Shard};

use super::exit::Failure;
use super::limits;

/// How often an address is tried, and the pause between. The kernel takes down the rings of a process that
/// was killed after its end, and they hold its sockets: with 18,000 connections for a quarter of a second.
const ADDRESS_TRIES: usize = 40;
const ADDRESS_PAUSE: Duration = Duration::from_millis(50);

/// Stack of a shard's thread.
const STACK_BYTES: usize = 1024 * 1024;

/// Everything that one shard's thread takes with it.
pub(super) struct Job {
    pub(super) node: usize,
    pub(super) cpu: Option<usize>,
    pub(super) listeners: Vec<Listener>,
    pub(super) ring: uring::Settings,
    pub(super) wakes: Arc<Wakes>,
    pub(super) post: Post,
    pub(super) numbers: Writer<Labels>,
    pub(super) board: Arc<Board>,
}

/// What a shard's thread reports.
#[derive(Debug)]
pub(super) enum Report {
    /// It accepts connections.
    Serving,
    /// This shard has no connections left and has ended as it was told to.
    Done(usize),
    /// It could not start, or had to end.
    Failed(Failure),
}

/// Starts the thread; it reports to `reports`.
///
/// Errors: [`Failure::Internal`] when the system gives no thread.
pub(super) fn spawn(job: Job, reports: UnboundedSender<Report>) -> Result<(), Failure> {
    let thread =
        std::thread::Builder::new().name(format!("shard-{}", job.node)).stack_size(STACK_BYTES);
    let run = move || {
        let node = job.node;
        let report = catch_unwind(AssertUnwindSafe(|| serve(job, &reports))).unwrap_or_else(|_| {
            // A shard that died while it held the listener would swallow one client in N.
            Report::Failed(Failure::Internal(format!("shard {node} panicked; see the log")))
        });
        // The receiver is gone only when the process is ending anyway.
        let _ = reports.send(report);
    };
    let spawned = thread.spawn(run);
    spawned.map(drop).map_err(|error| Failure::Internal(format!("no thread for a shard: {error}")))
}

fn serve(job: Job, reports: &UnboundedSender<Report>) -> Report {
    let Job { node, cpu, listeners, ring, wakes, post, numbers, board } = job;
    if let Some(cpu) = cpu
        && !limits::pin(cpu)
    {
        tracing::warn!(shard = node, cpu, "the shard's thread could not be bound to its CPU");
    }
    let count = listeners.len();
    let ring = match Uring::new(&ring, Parts { listeners, node, wakes }) {
        Ok(ring) => ring,
        Err(error) => return Report::Failed(Failure::Unfit(error.to_string())),
    };
    let random = fastrand::Rng::new();
    let mut shard = Shard::new(ring, count, post, numbers, board, random);
    let _ = reports.send(Report::Serving);
    loop {
        match shard.turn() {
            Ok(Running::Yes) => {}
            Ok(Running::Done) => return Report::Done(node),
            Err(fatal) => {
                let text = format!("the ring of shard {node} has failed: errno {}", fatal.0.0);
                return Report::Failed(Failure::Internal(text));
            }
        }
    }
}

/// Listening sockets of one address, one for each shard.
///
/// Errors: [`Failure::Unfit`], naming the address and what to do.
pub(super) fn listen_all(
    address: SocketAddr,
    shards: usize,
    options: Options,
) -> Result<Vec<Listener>, Failure> {
    let listen = || {
        listen::require_unused(address)?;
        let mut bound = address;
        let mut listeners = Vec::with_capacity(shards);
        for _ in 0..shards {
            let listener = listen::listen(bound, options)?;
            // Port 0 becomes the same free port for all.
            bound = listener.local_addr()?;
            listeners.push(listener.into());
        }
        Ok((bound, listeners))
    };
    let (bound, listeners) = patiently(listen).map_err(|error| cannot_listen(address, &error))?;
    tracing::info!(address = %bound, "clients may connect");
    Ok(listeners)
}

/// Tries again for a while when the address is in use.
///
/// Errors: those of `listen`.
pub(super) fn patiently<T>(mut listen: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ADDRESS_TRIES {
        match listen() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                #[expect(clippy::disallowed_methods, reason = "nothing is served yet")]
                std::thread::sleep(ADDRESS_PAUSE);
            }
            done => return done,
        }
    }
    listen()
}

/// One listening socket of the service manager, in the hands of every shard.
///
/// Errors: [`Failure::Unfit`], naming the address and what to do.
pub(super) fn share(
    socket: OwnedFd,
    address: SocketAddr,
    shards: usize,
    options: Options,
) -> Result<Vec<Listener>, Failure> {
    let unfit = |error| {
        Failure::Unfit(format!(
            "the service manager's socket for {address} cannot be used: {error}"
        ))
    };
    let socket = listen::adopt(socket, options).map_err(unfit)?;
    let takers = if shards > 1 { Takers::Several } else { Takers::One };
    let copies = (0..shards).map(|_| Ok(Listener { socket: socket.try_clone()?.into(), takers }));
    let listeners = copies.collect::<std::io::Result<_>>().map_err(unfit)?;
    tracing::info!(%address, "clients may connect by the service manager's socket");
    Ok(listeners)
}

/// The refusal when an address cannot be listened on.
pub(super) fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let remedy = match error.kind() {
        AddrInUse => "another process listens there; stop it or choose another port",
        AddrNotAvailable => "no interface of this machine has the address",
        PermissionDenied => "ports below 1024 need a privilege; choose a higher one",
        _ => "check the address in the configuration",
    };
    Failure::Unfit(format!("cannot listen on {address}: {error}; {remedy}"))
}
