//! Answers to commands: one line of JSON each. Zero values are left out.

use std::sync::Arc;

use super::error::ErrorCode;
use super::push::{self, Data};
use crate::dialect::client_id::ClientId;
use crate::dialect::json::{Object, Sink};
use crate::dialect::scratch::Scratch;
use crate::topic::publication::{Position, Publication};

/// What clients see as the version of the server.
const VERSION: &str = concat!("ringway ", env!("CARGO_PKG_VERSION"));

/// What a client is told about recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    /// It did not ask.
    NotAsked,
    /// Here is everything it missed.
    Recovered(&'a [Arc<Publication>]),
    /// It missed something that is gone.
    Lost,
}

/// Starts the next line of the frame in `out`.
fn line(out: &mut Vec<u8>, id: u32) -> Object<'_, Vec<u8>> {
    if !out.is_empty() {
        out.put(b"\n");
    }
    let mut reply = Object::open(out);
    reply.nonzero("id", id.into());
    reply
}

/// Not done.
pub(super) fn error(out: &mut Vec<u8>, id: u32, code: ErrorCode) {
    let mut reply = line(out, id);
    let mut error = Object::open(reply.member("error"));
    error.nonzero("code", code.code().into());
    error.nonempty("message", code.message());
    if code.is_temporary() {
        error.mark("temporary");
    }
    error.close();
    reply.close();
}

/// Done, and there is nothing to say about it.
pub(super) fn done(out: &mut Vec<u8>, id: u32, method: &str) {
    let mut reply = line(out, id);
    reply.member(method).put(b"{}");
    reply.close();
}

/// Let in. `ping_seconds`: how often `{}` comes and wants an answer; 0 for never.
pub(super) fn connected(out: &mut Vec<u8>, id: u32, client: ClientId, ping_seconds: u64) {
    let mut reply = line(out, id);
    let mut result = Object::open(reply.member("connect"));
    result.nonempty("client", &client.text());
    result.nonempty("version", VERSION);
    if ping_seconds > 0 {
        result.nonzero("ping", ping_seconds);
        result.mark("pong");
    }
    result.close();
    reply.close();
}

/// Subscribed. `position` is where the client stands before the publications of `outcome`, `None`
/// where it cannot recover.
pub(super) fn subscribed(
    out: &mut Vec<u8>,
    id: u32,
    position: Option<&Position>,
    outcome: Outcome<'_>,
    scratch: &mut Scratch,
) {
    let mut reply = line(out, id);
    let mut result = Object::open(reply.member("subscribe"));
    if let Some(position) = position {
        result.mark("recoverable");
        result.mark("positioned");
        result.nonempty("epoch", position.epoch.as_str());
        result.nonzero("offset", position.offset);
    }
    match outcome {
        Outcome::NotAsked => {}
        Outcome::Recovered(missed) => {
            result.mark("recovered");
            result.mark("was_recovering");
            publications(&mut result, missed, scratch);
        }
        Outcome::Lost => result.mark("was_recovering"),
    }
    result.close();
    reply.close();
}

/// A part of the history.
pub(super) fn history(
    out: &mut Vec<u8>,
    id: u32,
    position: Option<&Position>,
    found: &[Arc<Publication>],
    scratch: &mut Scratch,
) {
    let mut reply = line(out, id);
    let mut result = Object::open(reply.member("history"));
    publications(&mut result, found, scratch);
    if let Some(position) = position {
        result.nonempty("epoch", position.epoch.as_str());
        result.nonzero("offset", position.offset);
    }
    result.close();
    reply.close();
}

fn publications(
    result: &mut Object<'_, impl Sink>,
    publications: &[Arc<Publication>],
    scratch: &mut Scratch,
) {
    let Some((first, rest)) = publications.split_first() else { return };
    let out = result.member("publications");
    out.put(b"[");
    push::write_publication(out, first, Data::of(&first.payload, scratch));
    for publication in rest {
        out.put(b",");
        push::write_publication(out, publication, Data::of(&publication.payload, scratch));
    }
    out.put(b"]");
}
