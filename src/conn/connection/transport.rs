//! What comes from below: the words of a load balancer, FIN, failures, and what TLS has to say.

use std::time::Instant;

use crate::dialect::cause::Cause;

use super::{Connection, Leave, Phase};
use crate::conn::Context;

impl Connection {
    /// Until when the request head is awaited, unless it is there.
    pub fn set_head_deadline(&mut self, deadline: Instant) {
        if let Phase::Head(head) = &mut self.phase {
            head.deadline = deadline;
        }
    }

    /// Reads what a load balancer says before the client's own first byte; returns how much it was.
    pub fn read_proxy_header(&mut self, input: &[u8], cx: &mut Context<'_>) -> usize {
        let (Some(guest), Phase::Head(head)) = (cx.guest.as_deref_mut(), &mut self.phase) else {
            return input.len();
        };
        match guest.read_header(input) {
            Ok(used) => {
                if !guest.is_awaited()
                    && let Some(door) = cx.settings.doors.get(usize::from(self.listener))
                    && let Err(lack) = guest.settle(door, &cx.settings.addresses, cx.now)
                {
                    head.refuse(lack);
                }
                used
            }
            Err(unheard) => {
                cx.tally.unheard = Some(unheard);
                self.abandon(Cause::ProxyHeader);
                input.len()
            }
        }
    }

    /// The peer has sent FIN, or said otherwise that nothing more comes; the connection ends for
    /// `cause` if nothing has ended it before. Messages that came before are handled first.
    pub fn handle_fin(&mut self, cause: Cause) {
        self.fin.get_or_insert(cause);
        self.settle_fin();
    }

    /// The transport has failed, which is the `cause` unless there was another.
    pub fn handle_failure(&mut self, cause: Cause) {
        if !matches!(self.phase, Phase::Over(..)) {
            self.ending.begin(cause);
            self.phase = self.over(Leave::Reset);
        }
    }

    /// The connection ends for `cause` without a word.
    pub fn leave(&mut self, cause: Cause) {
        self.ending.begin(cause);
        self.phase = self.over(Leave::Fin);
    }

    /// The bytes of the peer cannot be trusted any more, nor can we say anything to it; what it still
    /// sends is thrown away.
    pub fn fail_transport(&mut self, cause: Cause, cx: &mut Context<'_>) {
        if !matches!(self.phase, Phase::Over(..)) {
            self.ending.begin(cause);
            self.carry = Vec::new();
            self.phase = self.last_words(None, cx);
        }
    }
}
