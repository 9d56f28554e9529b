//! A real Redis server, on a port of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::clock::{ms, now, pause};
use super::{PATIENCE, free_address};

/// Whether it keeps a log of what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// On the disk before it answers.
    Always,
    /// None.
    Never,
}

/// A server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    address: SocketAddr,
    log: Log,
    folder: TempDir,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub(crate) fn start(log: Log) -> Self {
        let (address, folder) = (free_address(), TempDir::new().expect("there is room"));
        let child = spawn(address, log, &folder);
        let mut server = Self { child, address, log, folder };
        server.await_answer();
        server
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is our child");
    }

    /// Starts it again, with what it finds on its disk.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.address, self.log, &self.folder);
        self.await_answer();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn await_answer(&mut self) {
        let deadline = now() + PATIENCE;
        while self.ping().is_none() {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none() && now() < deadline, "redis-server does not answer: {ended:?}");
            pause(ms(10));
        }
    }

    /// Sends it a command; returns the first line of the answer.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        self.try_command(words).expect("it answers")
    }

    fn ping(&self) -> Option<()> {
        (self.try_command(&["PING"])? == "+PONG").then_some(())
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.write_all((words.join(" ") + "\r\n").as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(address: SocketAddr, log: Log, folder: &TempDir) -> Child {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let is_logging = if log == Log::Always { "yes" } else { "no" };
    let server = Command::new("redis-server")
        .args(["--bind", &ip, "--port", &port, "--save", "", "--appendonly", is_logging])
        .args(["--appendfsync", "always", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    server.expect("redis-server is installed; .ci/setup does that")
}
