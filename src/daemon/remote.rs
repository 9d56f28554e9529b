//! The commands for a gateway that runs: what they ask it, and what they print.

use std::time::Duration;

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use crate::api::orders::Changes;

use super::caller::{Answer, Callee};
use super::cli::{Diff, Drain, Health, Source, Target};
use super::exit::Failure;
use super::reload::grouped;
use super::source::{read_config, read_document, read_text_now};

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

/// Has the gateway read its configuration again.
///
/// Errors: [`Failure::No`], when it refuses.
pub(super) async fn reload(target: Target) -> Result<(), Failure> {
    if let Some(pid) = target.pid {
        return signal(pid, Signal::HUP);
    }
    let config = read_config(&target.source)?;
    let changes = order(&Callee::of(&config)?, "reload", String::new()).await?;
    show(&read_changes(changes)?);
    Ok(())
}

/// Shows what a configuration would change.
///
/// Errors: [`Failure::Unfit`], when it is no good; [`Failure::No`] without an answer of the gateway.
pub(super) async fn diff(diff: Diff) -> Result<(), Failure> {
    let Diff { source, against } = diff;
    let new = read_document(&source)?;
    if let Some(path) = against {
        let old = read_document(&Source { config: Some(path), ..source })?;
        show(&grouped(&old.changes_to(&new)));
        return Ok(());
    }
    let text = read_text_now(&source)?.0;
    let changes = order(&Callee::of(new.config())?, "diff", text).await?;
    show(&read_changes(changes)?);
    Ok(())
}

fn read_changes(answer: Value) -> Result<Changes, Failure> {
    let changes = serde_json::from_value(answer);
    changes.map_err(|error| {
        Failure::No(format!("the gateway's answer is no list of changes: {error}"))
    })
}

fn show(changes: &Changes) {
    let Changes { live, new_connections, restart } = changes;
    let groups =
        [("at once", live), ("for new connections", new_connections), ("after a restart", restart)];
    if groups.iter().all(|(_, changes)| changes.is_empty()) {
        say("nothing changes");
    }
    for (when, changes) in groups.iter().filter(|(_, changes)| !changes.is_empty()) {
        say(&format!("{when}:"));
        changes.iter().for_each(|change| say(&format!("  {change}")));
    }
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
