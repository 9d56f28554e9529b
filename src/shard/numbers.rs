//! What a shard counts.

use crate::conn::Tally;
use crate::dialect::cause::Protocol;
use crate::metrics::catalogue::{Counter, Gauge, SizeHistogram};
use crate::metrics::close_code::CloseCodeLabel;
use crate::metrics::http_status::HttpStatusLabel;
use crate::ring::Ring;
use crate::ring::stats::Stats;

use super::labels::RefusalReason;
use super::{Shard, to_u64};

impl<R: Ring> Shard<R> {
    /// Counts what happened in one call into a connection.
    pub(super) fn count(&mut self, tally: &Tally, protocol: Option<Protocol>) {
        self.handshaking -= usize::from(tally.opened.is_some());
        let numbers = &self.numbers;
        if let Some(protocol) = protocol
            && tally.messages > 0
        {
            numbers.messages_received(protocol, tally.messages);
            numbers
                .observe_size(SizeHistogram::MessageReceivedBytes, to_u64(tally.message_bytes_max));
        }
        if let Some(protocol) = protocol
            && tally.written > 0
        {
            numbers.messages_sent(protocol, tally.written);
        }
        if let Some(protocol) = tally.opened {
            numbers.opened(protocol);
        }
        if let Some((status, reason)) = tally.refused {
            let status = HttpStatusLabel::of(status.code());
            numbers.handshake_refused(status, RefusalReason::of(reason));
        }
        if let Some(unheard) = tally.unheard {
            numbers.connection_refused(unheard);
        }
        if let Some(code) = tally.close_sent {
            numbers.close_sent(CloseCodeLabel::of(code));
        }
        if let Some(code) = tally.close_received {
            numbers.close_received(CloseCodeLabel::of(code));
        }
        if tally.pings > 0 {
            numbers.count(Counter::PingsSent, tally.pings);
        }
        if tally.pongs > 0 {
            numbers.count(Counter::PongsReceived, tally.pongs);
        }
    }

    /// Hands the numbers of compression on.
    pub(super) fn publish_deflate_stats(&self) {
        let codec = &self.desk.codec;
        if !codec.is_enabled() {
            return;
        }
        let numbers = &self.numbers;
        let done = codec.numbers();
        for (counter, value) in [
            (Counter::DeflateMessagesReceived, done.inflated),
            (Counter::DeflateBytesReceived, done.inflated_from),
            (Counter::DeflateBytesInflated, done.inflated_to),
            (Counter::DeflateMessagesSent, done.sent),
            (Counter::DeflateMessagesCompressed, done.compressed),
            (Counter::DeflateBytesPlain, done.compressed_from),
            (Counter::DeflateBytesCompressed, done.compressed_to),
            (Counter::DeflateSkippedShort, done.skipped_short),
            (Counter::DeflateSkippedGain, done.skipped_gain),
        ] {
            numbers.absolute(counter, value);
        }
        numbers.set(Gauge::DeflateContexts, to_u64(codec.contexts()));
        numbers.set(Gauge::DeflateMemoryBytes, to_u64(codec.heap_bytes()));
    }

    /// Hands the ring's numbers on.
    pub(super) fn publish_ring_stats(&mut self) {
        let Stats {
            enters,
            submissions,
            completions,
            overflows,
            starved,
            short_sends,
            stale,
            accepted,
            wakes_sent,
            wakes_received,
            buffers_free,
        } = *self.ring.stats();
        let numbers = &self.numbers;
        for (counter, value) in [
            (Counter::UringEnters, enters),
            (Counter::UringSubmissions, submissions),
            (Counter::UringCompletions, completions),
            (Counter::UringCompletionOverflows, overflows),
            (Counter::BuffersExhausted, starved),
            (Counter::SendsShort, short_sends),
            (Counter::StaleCompletions, stale),
            (Counter::Accepted, accepted),
            (Counter::WakesSent, wakes_sent),
            (Counter::WakesReceived, wakes_received),
        ] {
            numbers.absolute(counter, value);
        }
        numbers.count(Counter::Turns, 1);
        numbers.set(Gauge::BuffersFree, u64::from(buffers_free));
    }
}
