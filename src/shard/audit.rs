//! A shard's books, added up from the slots and compared with what is kept beside them.

use crate::mail::close::Book;
use crate::metrics::catalogue::Gauge;
use crate::ring::Ring;
use crate::topic::subscribers::MembershipState;

use super::slots::Slot;
use super::{Shard, to_u64};

/// What a shard holds between two turns, and which of its books disagree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Connections, those that are closing included.
    pub connections: usize,
    /// Connections that are not upgraded yet.
    pub handshaking: usize,
    /// TLS handshakes that are under way.
    pub tls_handshaking: usize,
    /// Connections for which there was no room.
    pub turned_away: usize,
    /// Accepted connections that nobody has looked at yet.
    pub newcomers: usize,
    /// Bytes queued for clients.
    pub outbox_bytes: usize,
    /// Bytes that connections own alone.
    pub private_bytes: usize,
    /// Bytes of the frames made here that are alive.
    pub frames_bytes: usize,
    /// Connections whose socket is full.
    pub backlogs: usize,
    /// Subscriptions that stand.
    pub joined: usize,
    /// Subscriptions that wait for the home of their topic.
    pub pending: usize,
    /// Topics that somebody here listens to or waits for.
    pub topics: usize,
    /// Topics at home here.
    pub homes: usize,
    /// Sends that go out with the next turn.
    pub sends: usize,
    /// Requests that wait for room in a lane.
    pub outgoing: usize,
    /// Connections that are ending, and have lost topics or output by that.
    pub estates: usize,
    /// Ends that were seen, written down and held, by kind.
    pub books: [Book; 3],
    /// Clients that keep a context of compression.
    pub deflate_contexts: usize,
    /// What is wrong; empty unless there is a bug.
    pub faults: Vec<String>,
}

impl<R: Ring> Shard<R> {
    /// Goes through everything; to be called between turns.
    ///
    /// Source: the invariants in ARCHITECTURE.md.
    pub fn audit(&self) -> Audit {
        let mut audit = Audit {
            topics: self.topics.len(),
            homes: self.homes.len(),
            sends: self.flush.len(),
            frames_bytes: self.frames.bytes(),
            newcomers: self.newcomers.len(),
            outgoing: self.outgoing.iter().map(std::collections::VecDeque::len).sum(),
            estates: self.closes.estates(),
            books: self.closes.books(),
            ..Audit::default()
        };
        for (index, slot) in self.slots.iter() {
            self.audit_slot(index, slot, &mut audit);
        }
        self.audit_lists(&mut audit);
        for (name, counted, found) in [
            ("connections", self.slots.len(), audit.connections),
            ("handshaking", self.handshaking, audit.handshaking),
            ("TLS handshakes", self.tls_handshaking, audit.tls_handshaking),
            ("turned away", self.turned_away, audit.turned_away),
            ("subscribers", self.topics.subscribers(), audit.joined),
            ("expected subscribers", self.topics.expected(), audit.pending),
            ("private bytes", self.weights.sum(), audit.private_bytes),
            ("leases", self.ring.leases_out(), 0),
            ("contexts", self.desk.codec.contexts(), audit.deflate_contexts),
        ] {
            if counted != found {
                audit.faults.push(format!("{name}: {counted} counted, {found} found"));
            }
        }
        for (gauge, found) in
            [(Gauge::OutboxBytes, audit.outbox_bytes), (Gauge::Backlogs, audit.backlogs)]
        {
            let counted = self.numbers.gauge(gauge);
            if counted != to_u64(found) {
                audit.faults.push(format!("{gauge:?}: {counted} counted, {found} found"));
            }
        }
        if audit.estates > audit.connections {
            audit.faults.push(format!("{} estates of nobody", audit.estates));
        }
        audit
    }

    fn audit_slot(&self, index: u32, slot: &Slot, audit: &mut Audit) {
        audit.connections += 1;
        audit.handshaking += usize::from(slot.conn.protocol().is_none());
        audit.tls_handshaking +=
            usize::from(slot.extras.tls().is_some_and(|tls| tls.is_handshaking()));
        audit.turned_away += usize::from(slot.flags.turned_away);
        audit.private_bytes += super::memory::heap_bytes(slot);
        audit.outbox_bytes += slot.queued_bytes();
        audit.backlogs += usize::from(slot.outbox.is_backlogged());
        audit.deflate_contexts += usize::from(slot.conn.keeps_context());
        for membership in slot.memberships.as_slice() {
            match membership.state {
                MembershipState::Pending(_) => audit.pending += 1,
                MembershipState::Joined(at) => {
                    audit.joined += 1;
                    let list = self.topics.members(membership.topic, usize::from(membership.form));
                    if list.get(at as usize) != Some(&index) {
                        audit.faults.push(format!("slot {index} is not where it thinks it joined"));
                    }
                }
            }
        }
        let waits = !slot.is_clear() && !slot.outbox.is_backlogged();
        if waits && !slot.flags.dirty {
            audit.faults.push(format!("slot {index} has output that nobody will send"));
        }
        if slot.flags.closing && !(slot.outbox.is_clear() && slot.memberships.as_slice().is_empty())
        {
            audit.faults.push(format!("slot {index} is closing with output or subscriptions"));
        }
    }

    /// Each list names the slots that carry its flag, once each.
    fn audit_lists(&self, audit: &mut Audit) {
        let lists = [
            ("dirty", &self.dirty, (|slot| slot.flags.dirty) as fn(&Slot) -> bool),
            ("ready", &self.ready, |slot| slot.flags.ready),
            ("leaving", &self.leaving, |slot| slot.flags.leaving),
        ];
        for (name, list, is_flagged) in lists {
            for (index, slot) in self.slots.iter() {
                let times = list.iter().filter(|&&of| of == index).count();
                if is_flagged(slot) && times != 1 {
                    let fault = format!("slot {index} is flagged {name} and listed {times} times");
                    audit.faults.push(fault);
                }
            }
        }
    }
}
