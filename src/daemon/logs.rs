//! Logs: lines from every thread, written by the control thread.
//!
//! A thread that logs puts a line into a bounded queue and goes on; the control thread writes them
//! to standard error with the file operations of tokio-uring. When lines come faster than they can be
//! written, they are counted instead, and the count is logged.
//!
//! Where standard error is the journal (systemd.exec(5), `$JOURNAL_STREAM`), each line begins with its
//! priority (sd-daemon(3)) and has no time, which the journal knows.

use std::fmt;
use std::fs::File as StdFile;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio_uring::fs::File;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

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
    format: LogFormat,
    reader: Reader,
}

/// What is logged; can be changed.
pub(super) struct Verbosity(reload::Handle<Targets, Registry>);

/// One line on its way into the queue.
struct Line {
    text: Vec<u8>,
    queue: Queue,
}

/// Who reads what we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// A person at a terminal.
    Terminal,
    /// systemd's journal.
    Journal,
    /// A file or another program.
    Other,
}

/// Makes all threads log into a queue from now on.
pub(super) fn begin(settings: &Log) -> (Lines, Verbosity) {
    let (sender, receiver) = channel(LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue { lines: sender, dropped: Arc::clone(&dropped) };
    let reader = Reader::of_stderr();
    let (filter, handle) = reload::Layer::new(targets(settings));
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(reader == Reader::Terminal).with_writer(queue);
    let registry = tracing_subscriber::registry().with(filter);
    let format = tracing_subscriber::fmt::format().with_target(false);
    // Refused only when there is a subscriber already, as in tests: then that one keeps the lines.
    let _ = match settings.format {
        LogFormat::Text => {
            let layer = layer.event_format(Prefixed { format, reader });
            tracing::subscriber::set_global_default(registry.with(layer))
        }
        LogFormat::Json => {
            let format = format.json().flatten_event(true);
            let layer = layer
                .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
                .event_format(Prefixed { format, reader });
            tracing::subscriber::set_global_default(registry.with(layer))
        }
    };
    let lines = Lines { lines: receiver, dropped, format: settings.format, reader };
    (lines, Verbosity(handle))
}

/// The level for all, and those of single rooms.
fn targets(settings: &Log) -> Targets {
    let rooms = settings.levels.iter();
    let rooms = rooms.map(|(room, level)| (format!("{}::{room}", env!("CARGO_PKG_NAME")), *level));
    Targets::new().with_default(settings.level).with_targets(rooms)
}

impl Verbosity {
    /// From now on this is logged.
    pub(super) fn set(&self, settings: &Log) {
        // Refused only when there is another subscriber, as in tests.
        let _ = self.0.reload(targets(settings));
    }
}

impl Reader {
    fn of_stderr() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let stderr = rustix::fs::fstat(io::stderr()).map(|stat| (stat.st_dev, stat.st_ino));
        match (stream, stderr) {
            _ if io::stderr().is_terminal() => Self::Terminal,
            (Some(stream), Ok((device, inode))) if stream == format!("{device}:{inode}") => {
                Self::Journal
            }
            _ => Self::Other,
        }
    }
}

/// The priority of a level, as syslog(3) counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// A format of lines that begins with what the reader wants first.
struct Prefixed<F> {
    format: F,
    reader: Reader,
}

impl<S, N, F> FormatEvent<S, N> for Prefixed<Format<F>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<F>: FormatEvent<S, N> + Clone,
    Format<F, ()>: FormatEvent<S, N>,
    F: Clone,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.reader != Reader::Journal {
            return self.format.format_event(context, writer, event);
        }
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.format.clone().without_time().format_event(context, writer, event)
    }
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
                text.extend_from_slice(self.tell_dropped(dropped).as_bytes());
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

impl Lines {
    /// The line that stands for those that were dropped.
    fn tell_dropped(&self, dropped: u64) -> String {
        let prefix = match self.reader {
            Reader::Journal => format!("<{}>", priority(Level::WARN)),
            Reader::Terminal | Reader::Other => String::new(),
        };
        match self.format {
            LogFormat::Text => format!("{prefix}WARN {dropped} log lines were dropped\n"),
            LogFormat::Json => format!(
                "{prefix}{{\"level\":\"WARN\",\"message\":\"log lines were dropped\",\"dropped\":{dropped}}}\n"
            ),
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
