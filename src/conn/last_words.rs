//! The time after our last word: the client's own Close and FIN are still waited for.

use std::time::Instant;

use crate::ws::receiver::{Event, Receiver};

use super::Context;
use super::closing::{Ending, Epitaph};
use super::open::reason;

/// Bytes read and thrown away after our last word; then the connection is reset.
const DISCARD_BYTES_MAX: usize = 1024 * 1024;

/// Waits for the client's Close, if there is a receiver, and its FIN.
#[derive(Debug)]
pub(super) struct LastWords {
    receiver: Option<Receiver>,
    /// Bytes thrown away in later turns: what was read in the same one was sent before the client
    /// could hear, and must not keep it from hearing.
    discarded: usize,
    /// When it has waited long enough.
    pub(super) deadline: Instant,
    /// What is to be remembered of the connection.
    pub(super) epitaph: Epitaph,
}

/// Whether more of what the client sends is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It is.
    On,
    /// It has sent more than anybody needs to say goodbye.
    Enough,
}

impl LastWords {
    pub(super) fn new(receiver: Option<Receiver>, epitaph: Epitaph, cx: &Context<'_>) -> Self {
        Self { receiver, discarded: 0, deadline: cx.now + cx.settings.close_timeout, epitaph }
    }

    /// Bytes of an unfinished message.
    pub(super) fn heap_bytes(&self) -> usize {
        self.receiver.as_ref().map_or(0, Receiver::heap_bytes)
    }

    /// Looks for the client's Close, and throws everything else away.
    pub(super) fn read(
        &mut self,
        input: &mut [u8],
        ending: &mut Ending,
        cx: &mut Context<'_>,
    ) -> Hearing {
        let is_later_turn = cx.now + cx.settings.close_timeout > self.deadline;
        if is_later_turn {
            self.discarded += input.len();
        }
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
        if self.discarded > DISCARD_BYTES_MAX { Hearing::Enough } else { Hearing::On }
    }
}
