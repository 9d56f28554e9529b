//! The commands for a gateway that runs: what they ask it, and what they print.

use std::time::Duration;

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use super::caller::{Answer, Callee};
use super::cli::{Drain, Health};
use super::exit::Failure;
use super::source::read_config;

/// How long an order may take to be answered.
const ORDER_WAIT: Duration = Duration::from_secs(10);

/// Time between two looks whether a gateway still answers.
const LOOK: Duration = Duration::from_millis(250);

/// How long a gateway that drains may take for one answer before it counts as gone.
const LOOK_WAIT: Duration = Duration::from_secs(5);

/// Says whether the gateway is well.
///
/// Errors: [`Failure::No`], when it is not.
pub(super) async fn health(health: Health) -> Result<(), Failure> {
    let config = read_config(&health.source)?;
    let path = if health.live { "/livez" } else { "/readyz" };
    let patience = Duration::from_secs(health.timeout.into());
    let answer = Callee::of(&config)?.ask(Method::GET, path, String::new(), patience).await?;
    let told = answer.body.trim();
    if answer.status != 200 {
        return Err(Failure::No(format!("not well: {told}")));
    }
    say(told);
    Ok(())
}

/// Has the gateway drain.
///
/// Errors: [`Failure::No`], when it does not.
pub(super) async fn drain(drain: Drain) -> Result<(), Failure> {
    if let Some(pid) = drain.target.pid {
        return signal(pid, Signal::TERM);
    }
    let config = read_config(&drain.target.source)?;
    let callee = Callee::of(&config)?;
    let answer = order(&callee, "drain", String::new()).await?;
    let (connections, seconds) = (&answer["connections"], &answer["seconds_max"]);
    say(&format!("draining: {connections} connections, at most {seconds} s"));
    if drain.wait {
        await_end(&callee).await;
        say("the gateway has ended");
    }
    Ok(())
}

/// Returns when the gateway answers no more.
async fn await_end(callee: &Callee<'_>) {
    while callee.ask(Method::GET, "/livez", String::new(), LOOK_WAIT).await.is_ok() {
        sleep(LOOK).await;
    }
}

/// Gives an order; returns its result.
async fn order(callee: &Callee<'_>, name: &str, body: String) -> Result<Value, Failure> {
    let path = format!("/control/{name}");
    let Answer { status, body } = callee.ask(Method::POST, &path, body, ORDER_WAIT).await?;
    let mut answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 {
        return Ok(answer["result"].take());
    }
    let told = answer["error"]["message"].as_str().unwrap_or(&body).trim();
    let remedy = if status == 403 { "; or name its process with --pid" } else { "" };
    Err(Failure::No(format!("the gateway refuses: {told}{remedy}")))
}

/// Sends a signal to a process that is a gateway.
fn signal(pid: i32, signal: Signal) -> Result<(), Failure> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim_end() != env!("CARGO_PKG_NAME") {
        let found =
            if name.is_empty() { "no process".to_owned() } else { name.trim_end().to_owned() };
        return Err(Failure::No(format!("{pid} is {found}, not a gateway: check --pid")));
    }
    let sent = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
    match sent {
        Some(Ok(())) => Ok(()),
        Some(Err(errno)) => Err(Failure::No(format!("{pid} cannot be signalled: {errno}"))),
        None => Err(Failure::No(format!("{pid} is no process: check --pid"))),
    }
}

fn say(text: &str) {
    #[expect(clippy::print_stdout, reason = "the answer to the command")]
    {
        println!("{text}");
    }
}
