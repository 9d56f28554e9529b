//! What still comes when everything is said.

use std::time::Instant;

use crate::ws::receiver::{Event, Receiver};

use super::Context;
use super::closing::{Ending, Epitaph};
use super::open::reason;

/// Bytes read and thrown away after our last word; then the connection is reset.
const DISCARD_BYTES_MAX: usize = 1024 * 1024;

/// Waits for the peer's Close (if `receiver`) and FIN.
#[derive(Debug)]
pub(super) struct LastWords {
    pub(super) receiver: Option<Receiver>,
    pub(super) deadline: Instant,
    discarded: usize,
    pub(super) epitaph: Epitaph,
}

impl LastWords {
    pub(super) fn new(receiver: Option<Receiver>, epitaph: Epitaph, cx: &Context<'_>) -> Self {
        let deadline = cx.now + cx.settings.close_timeout;
        Self { receiver, deadline, discarded: 0, epitaph }
    }

    /// Looks for the peer's Close, and throws everything else away; `false`: it is too much.
    pub(super) fn read(
        &mut self,
        input: &mut [u8],
        ending: &mut Ending,
        cx: &mut Context<'_>,
    ) -> bool {
        self.discarded += input.len();
        let mut used = 0;
        while let Some(receiver) = &mut self.receiver {
            let Ok(received) = receiver.receive(&mut input[used..], &cx.settings.messages) else {
                self.receiver = None;
                break;
            };
            used += received.consumed;
            match received.event {
                None => break,
                Some(Event::Close(close)) => {
                    ending.receive(close.map(|(code, _)| code), cx);
                    self.epitaph.heard = reason(close);
                    self.receiver = None;
                }
                Some(_) => {}
            }
        }
        self.discarded <= DISCARD_BYTES_MAX
    }
}
