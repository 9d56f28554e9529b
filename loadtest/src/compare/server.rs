//! A server that was started for one run: its process group, its output, and its end.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock::Clock;

use super::affinity::Cpus;
use super::spec::{Ready, ServerSpec};

/// Between two looks.
const NAP: Duration = Duration::from_millis(20);
/// A server that is not ready by then will not be.
const START_NANOS_MAX: u64 = 30_000_000_000;
/// A server that has not ended by then is killed.
const STOP_NANOS_MAX: u64 = 10_000_000_000;
/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How much of its output a server that did not start is quoted with, in bytes.
const LAST_WORDS: usize = 2000;

/// A running server. Dropping it kills it and all that it started.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Running {
    /// Starts a server on `cpus` and waits until it is ready.
    ///
    /// Errors: something else is at its address; it ends or is not ready in time, with its last words.
    pub(super) fn start(spec: &ServerSpec, cpus: &Cpus) -> io::Result<Self> {
        let addr = spec.target.addr;
        if connects(addr) {
            let why = format!("{}: something else is listening at {addr} already", spec.name);
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        let own = std::process::id();
        let log = std::env::temp_dir().join(format!("ringway-compare-{own}-{}.log", spec.name));
        let output = File::create(&log)?;
        let mut command = Command::new("sh");
        command.args(["-c", &spec.command]).process_group(0).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let before = Cpus::allowed()?;
        cpus.take()?;
        let child = command.spawn();
        before.take()?;
        let child = child?;
        let group = Pid::from_child(&child);
        let mut running = Self { child, group, log };
        running.wait_until_ready(spec)?;
        Ok(running)
    }

    /// The process that the command became, or the shell that waits for it.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server, in peace if it will, and waits until it has gone.
    pub(super) fn stop(mut self) -> io::Result<()> {
        // It may have ended by itself.
        _ = kill_process_group(self.group, Signal::TERM);
        let clock = Clock::start();
        while self.child.try_wait()?.is_none() && clock.nanos() < STOP_NANOS_MAX {
            thread::park_timeout(NAP);
        }
        fs::remove_file(&self.log)
    }

    fn wait_until_ready(&mut self, spec: &ServerSpec) -> io::Result<()> {
        let clock = Clock::start();
        while !self.is_ready(spec) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || clock.nanos() > START_NANOS_MAX {
                let what = ended.map_or_else(|| "is not ready".to_owned(), |how| how.to_string());
                let words = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
                let from = words.ceil_char_boundary(words.len().saturating_sub(LAST_WORDS));
                let why = format!("{} ({}): {what}\n{}", spec.name, spec.command, &words[from..]);
                return Err(io::Error::other(why));
            }
            thread::park_timeout(NAP);
        }
        Ok(())
    }

    fn is_ready(&self, spec: &ServerSpec) -> bool {
        match &spec.ready {
            Ready::Connect => connects(spec.target.addr),
            Ready::Http { addr, path } => answers(*addr, path).unwrap_or(false),
            Ready::Log(word) => {
                fs::read(&self.log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(word))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What is left of it; nothing after a stop in peace.
        _ = kill_process_group(self.group, Signal::KILL);
        _ = self.child.wait();
    }
}

fn connects(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, ANSWER_MAX).is_ok()
}

/// Whether the answer to a GET is 200.
fn answers(addr: SocketAddr, path: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status.starts_with(b"HTTP/1.") && status.ends_with(b" 200"))
}
