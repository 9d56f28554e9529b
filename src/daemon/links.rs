//! The threads of the links to engines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::LocalSet;

use crate::broker::lanes::Lanes;
use crate::broker::redis::{Link, Settings};
use crate::config::Config;
use crate::mail::post::Post;
use crate::metrics::{self, LinkReader, LinkWriter};
use crate::ring::wakes::Wakes;
use crate::topic::namespace::{Broker, Namespaces};

use super::exit::Failure;
use super::threads::Report;

/// Stack of a link's thread.
const STACK_BYTES: usize = 1024 * 1024;

/// The engines that namespaces name, in the order of their links.
pub(super) fn wanted(config: &Config) -> Vec<Broker> {
    let names = |broker| config.namespaces.iter().any(|namespace| namespace.broker == broker);
    [Broker::Redis].into_iter().filter(|broker| names(*broker)).collect()
}

/// What a link's thread takes with it.
struct Job {
    settings: Settings,
    namespaces: Arc<Namespaces>,
    shards: usize,
    post: Post,
    wakes: Arc<Wakes>,
    numbers: LinkWriter,
}

/// Starts a thread for each of `posts`, which are those of the engines that are [`wanted`].
///
/// Errors: [`Failure`], when a file cannot be read or the system gives no thread.
pub(super) fn start(
    config: &Config,
    posts: Vec<Post>,
    wakes: &Arc<Wakes>,
    shards: usize,
    reports: &UnboundedSender<Report>,
) -> Result<Vec<LinkReader>, Failure> {
    let namespaces = Arc::new(Namespaces::new(config.namespaces.iter().cloned()));
    let mut readers = Vec::new();
    for post in posts {
        let (numbers, reader) = metrics::link("redis");
        readers.push(reader);
        let job = Job {
            settings: settings(config)?,
            namespaces: Arc::clone(&namespaces),
            shards,
            post,
            wakes: Arc::clone(wakes),
            numbers,
        };
        spawn(job, reports.clone())?;
    }
    Ok(readers)
}

fn settings(config: &Config) -> Result<Settings, Failure> {
    let redis = &config.redis;
    let read = |file: &std::path::PathBuf| {
        if file.as_os_str().is_empty() {
            return Ok(Vec::new());
        }
        std::fs::read(file).map_err(|error| {
            let file = file.display();
            Failure::Unfit(format!("redis.tls_ca: cannot read {file}: {error}; check the path"))
        })
    };
    Ok(Settings {
        host: redis.host.clone(),
        port: redis.port,
        username: redis.username.clone(),
        password: redis.password.secret().to_owned(),
        database: redis.database.into(),
        tls: redis.tls.as_ref().map(read).transpose()?,
        prefix: redis.prefix.clone(),
        timeout: redis.timeout,
        pending_max: redis.pending_max,
    })
}

fn spawn(job: Job, reports: UnboundedSender<Report>) -> Result<(), Failure> {
    let thread = std::thread::Builder::new().name("link-0".to_owned()).stack_size(STACK_BYTES);
    let run = move || {
        let failure = match catch_unwind(AssertUnwindSafe(|| serve(job))) {
            Ok(error) => format!("the link to a broker could not begin: {error}"),
            Err(_) => "the link to a broker panicked; see the log".to_owned(),
        };
        // The receiver is gone only when the process is ending anyway.
        let _ = reports.send(Report::Failed(Failure::Internal(failure)));
    };
    let spawned = thread.spawn(run);
    spawned.map(drop).map_err(|error| Failure::Internal(format!("no thread for a link: {error}")))
}

/// Serves for as long as the process lives; returns why it cannot.
fn serve(job: Job) -> std::io::Error {
    let Job { settings, namespaces, shards, post, wakes, numbers } = job;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return error,
    };
    LocalSet::new().block_on(&runtime, async move {
        let bell = match wakes.eventfd(post.node()).try_clone_to_owned() {
            Ok(bell) => bell,
            Err(error) => return error,
        };
        let wake = Box::new(move |node| wakes.notify(node));
        match Lanes::new(post, shards, wake, bell) {
            Ok(lanes) => Link::new(settings, namespaces, lanes, numbers).run().await,
            Err(error) => error,
        }
    })
}
