//! Logs: lines from every thread, written by the control thread.
//!
//! A thread that logs puts a line into a bounded queue and goes on; the control thread writes them
//! to standard error with the file operations of tokio-uring. When lines come faster than they can be
//! written, they are counted instead, and the count is logged.

use std::fs::File as StdFile;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio_uring::fs::File;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Lines that may wait.
const LINES_MAX: usize = 4096;

/// The position of the file itself, which pipes and terminals need; see io_uring_enter(2).
const CURRENT_POSITION: u64 = u64::MAX;

/// The threads' end of the queue.
#[derive(Clone)]
struct Queue {
    lines: Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// The control thread's end of the queue.
pub(super) struct Lines {
    lines: Receiver<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// One line on its way into the queue.
struct Line {
    text: Vec<u8>,
    queue: Queue,
}

/// Makes all threads log into a queue from now on.
pub(super) fn begin(settings: Log) -> Lines {
    let (sender, receiver) = channel(LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue { lines: sender, dropped: Arc::clone(&dropped) };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(settings.level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(queue);
    // Refused only when there is a subscriber already, as in tests: then that one keeps the lines.
    let _ = match settings.format {
        LogFormat::Text => tracing::subscriber::set_global_default(subscriber.finish()),
        LogFormat::Json => {
            let subscriber = subscriber.json().flatten_event(true).finish();
            tracing::subscriber::set_global_default(subscriber)
        }
    };
    Lines { lines: receiver, dropped }
}

impl Lines {
    /// Writes lines as they come; after `end`, those that are there, and no more.
    ///
    /// Errors: of dup(2), when standard error is closed; lines are lost then.
    pub(super) async fn write_all(mut self, mut end: oneshot::Receiver<()>) -> io::Result<()> {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let file = File::from_std(StdFile::from(stderr));
        loop {
            let line = tokio::select! {
                line = self.lines.recv() => line,
                _ = &mut end, if !self.lines.is_closed() => {
                    self.lines.close();
                    continue;
                }
            };
            let Some(mut text) = line else { return Ok(()) };
            while let Ok(more) = self.lines.try_recv() {
                text.extend_from_slice(&more);
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                text.extend_from_slice(format!("{dropped} log lines were dropped\n").as_bytes());
            }
            while !text.is_empty() {
                let (written, rest) = file.write_at(text, CURRENT_POSITION).submit().await;
                text = rest;
                // Nobody can be told that telling has failed.
                text.drain(..written.unwrap_or(text.len()));
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::new(), queue: self.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.queue.lines.try_send(std::mem::take(&mut self.text)).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
