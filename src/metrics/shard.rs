//! The numbers of one shard: the one who writes them, and those who read them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{Counter, Gauge, SizeHistogram, TimeHistogram};
use super::cells::{Cells, Table};
use super::close_code::CloseCodeLabel;
use super::histogram::FixedHistogram;
use super::http_status::HttpStatusLabel;
use super::label::{Label, LabelSet, Vocabulary};
use super::ledger::Ledger;

/// The labels of `ringway_closed_total`, but for `initiator`.
pub(super) struct ClosedLabels<V: Vocabulary>(
    pub(super) CloseCodeLabel,
    pub(super) V::Cause,
    pub(super) V::Protocol,
);

type Stored<V> = (CloseCodeLabel, <V as Vocabulary>::Cause, <V as Vocabulary>::Protocol);

/// The memory that a [`Writer`] and its [`Reader`]s share.
pub(super) struct Numbers<V: Vocabulary> {
    pub(super) counters: Cells,
    pub(super) gauges: Cells,
    pub(super) connections: Table<(V::Protocol,)>,
    pub(super) memory: Table<(Ledger,)>,
    pub(super) opened: Table<(V::Protocol,)>,
    pub(super) closed: Table<ClosedLabels<V>>,
    pub(super) close_sent: Table<(CloseCodeLabel,)>,
    pub(super) close_received: Table<(CloseCodeLabel,)>,
    pub(super) handshakes_ended: Table<(V::Cause,)>,
    pub(super) handshake_refused: Table<(HttpStatusLabel, V::RefusalReason)>,
    pub(super) connections_refused: Table<(V::UnheardReason,)>,
    pub(super) messages_received: Table<(V::Protocol,)>,
    pub(super) messages_sent: Table<(V::Protocol,)>,
    pub(super) accept_paused: Table<(V::PauseReason,)>,
    pub(super) tls_handshakes: Table<(V::TlsVersion, V::TlsResumption)>,
    pub(super) tls_handshake_failed: Table<(V::TlsFailure,)>,
    pub(super) times: Vec<FixedHistogram>,
    pub(super) sizes: Vec<FixedHistogram>,
}

/// The right to change the numbers of one shard.
///
/// There is one for each shard: it cannot be cloned, nor used by two threads.
pub struct Writer<V: Vocabulary> {
    numbers: Arc<Numbers<V>>,
    not_sync: PhantomData<Cell<()>>,
}

/// A view of the numbers of one shard, for any thread.
pub struct Reader<V: Vocabulary> {
    pub(super) numbers: Arc<Numbers<V>>,
}

/// The numbers of a new shard, all 0.
pub fn shard<V: Vocabulary>() -> (Writer<V>, Reader<V>) {
    let numbers = Arc::new(Numbers {
        counters: Cells::new(Counter::ALL.len()),
        gauges: Cells::new(Gauge::ALL.len()),
        connections: Table::new(),
        memory: Table::new(),
        opened: Table::new(),
        closed: Table::new(),
        close_sent: Table::new(),
        close_received: Table::new(),
        handshakes_ended: Table::new(),
        handshake_refused: Table::new(),
        connections_refused: Table::new(),
        messages_received: Table::new(),
        messages_sent: Table::new(),
        accept_paused: Table::new(),
        tls_handshakes: Table::new(),
        tls_handshake_failed: Table::new(),
        times: TimeHistogram::ALL.iter().map(|h| FixedHistogram::new(h.bounds())).collect(),
        sizes: SizeHistogram::ALL.iter().map(|h| FixedHistogram::new(h.bounds())).collect(),
    });
    (Writer { numbers: Arc::clone(&numbers), not_sync: PhantomData }, Reader { numbers })
}

impl<V: Vocabulary> LabelSet for ClosedLabels<V> {
    const COUNT: usize = <Stored<V>>::COUNT;

    fn index(self) -> usize {
        (self.0, self.1, self.2).index()
    }

    fn texts(index: usize) -> Vec<&'static str> {
        let mut texts = <Stored<V>>::texts(index);
        texts.insert(1, V::initiator(index / V::Protocol::COUNT % V::Cause::COUNT));
        texts
    }
}

impl<V: Vocabulary> Writer<V> {
    /// Adds `n` to a counter.
    pub fn count(&self, counter: Counter, n: u64) {
        self.numbers.counters.add(counter as usize, n);
    }

    /// Sets a counter that is counted elsewhere on this thread; it never falls.
    pub fn absolute(&self, counter: Counter, value: u64) {
        self.numbers.counters.set(counter as usize, value);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.numbers.gauges.set(gauge as usize, value);
    }

    /// Adds `n` to a gauge.
    pub fn raise(&self, gauge: Gauge, n: u64) {
        self.numbers.gauges.add(gauge as usize, n);
    }

    /// Subtracts `n`, which was added before, from a gauge.
    pub fn lower(&self, gauge: Gauge, n: u64) {
        self.numbers.gauges.subtract(gauge as usize, n);
    }

    /// The value of a gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.numbers.gauges.value(gauge as usize)
    }

    /// Enters a time into a histogram.
    pub fn observe_time(&self, histogram: TimeHistogram, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.numbers.times[histogram as usize].observe(nanoseconds);
    }

    /// Enters a size into a histogram.
    pub fn observe_size(&self, histogram: SizeHistogram, size: u64) {
        self.numbers.sizes[histogram as usize].observe(size);
    }

    /// A connection was upgraded: one more is open.
    pub fn opened(&self, protocol: V::Protocol) {
        self.numbers.opened.add((protocol,), 1);
        self.numbers.connections.add((protocol,), 1);
    }

    /// An upgraded connection has ended: one less is open. Called once for each
    /// [`Writer::opened`], with the same protocol.
    pub fn closed(&self, code: CloseCodeLabel, cause: V::Cause, protocol: V::Protocol) {
        self.numbers.closed.add(ClosedLabels(code, cause, protocol), 1);
        self.numbers.connections.subtract((protocol,), 1);
    }

    /// A Close frame was sent.
    pub fn close_sent(&self, code: CloseCodeLabel) {
        self.numbers.close_sent.add((code,), 1);
    }

    /// A Close frame was received; without a code it has the label of 1005.
    pub fn close_received(&self, code: CloseCodeLabel) {
        self.numbers.close_received.add((code,), 1);
    }

    /// A connection has ended that was not upgraded.
    pub fn handshake_ended(&self, cause: V::Cause) {
        self.numbers.handshakes_ended.add((cause,), 1);
    }

    /// A request was answered with an error instead of an upgrade.
    pub fn handshake_refused(&self, status: HttpStatusLabel, reason: V::RefusalReason) {
        self.numbers.handshake_refused.add((status, reason), 1);
    }

    /// Sets how much memory is used for something.
    pub fn memory(&self, ledger: Ledger, bytes: u64) {
        self.numbers.memory.set((ledger,), bytes);
    }

    /// A connection is closed before anything of its request was heard.
    pub fn connection_refused(&self, reason: V::UnheardReason) {
        self.numbers.connections_refused.add((reason,), 1);
    }

    /// `n` messages were received whole.
    pub fn messages_received(&self, protocol: V::Protocol, n: u64) {
        self.numbers.messages_received.add((protocol,), n);
    }

    /// `n` messages were queued for clients.
    pub fn messages_sent(&self, protocol: V::Protocol, n: u64) {
        self.numbers.messages_sent.add((protocol,), n);
    }

    /// The shard stops accepting for a while.
    pub fn accept_paused(&self, reason: V::PauseReason) {
        self.numbers.accept_paused.add((reason,), 1);
    }

    /// A TLS handshake was completed.
    pub fn tls_handshake(&self, version: V::TlsVersion, resumption: V::TlsResumption) {
        self.numbers.tls_handshakes.add((version, resumption), 1);
    }

    /// A TLS handshake was begun and not completed.
    pub fn tls_handshake_failed(&self, reason: V::TlsFailure) {
        self.numbers.tls_handshake_failed.add((reason,), 1);
    }
}

impl<V: Vocabulary> Reader<V> {
    /// The value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.numbers.counters.value(counter as usize)
    }

    /// The value of a gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.numbers.gauges.value(gauge as usize)
    }

    /// Connections of all protocols that were upgraded.
    pub fn opened(&self) -> u64 {
        (0..V::Protocol::COUNT).map(|i| self.numbers.opened.value(i)).sum()
    }

    /// Upgraded connections that have ended, by the label texts of code, initiator, cause and
    /// protocol; without those of which there were none.
    pub fn closed(&self) -> impl Iterator<Item = (Vec<&'static str>, u64)> {
        let all = 0..<ClosedLabels<V> as LabelSet>::COUNT;
        all.filter_map(|i| match self.numbers.closed.value(i) {
            0 => None,
            count => Some((<ClosedLabels<V> as LabelSet>::texts(i), count)),
        })
    }

    /// Connections that ended before they were upgraded, by the label text of the cause; without
    /// those of which there were none.
    pub fn handshakes_ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = (0..V::Cause::COUNT).map(|i| (V::Cause::text(i), i));
        let all = all.map(|(text, i)| (text, self.numbers.handshakes_ended.value(i)));
        all.filter(|(_, count)| *count > 0)
    }

    /// How much memory is used for something.
    pub fn memory(&self, ledger: Ledger) -> u64 {
        self.numbers.memory.value(ledger.index())
    }

    /// Upgraded connections of all protocols that have not ended.
    pub fn connections(&self) -> u64 {
        (0..V::Protocol::COUNT).map(|i| self.numbers.connections.value(i)).sum()
    }
}

impl<V: Vocabulary> Clone for Reader<V> {
    fn clone(&self) -> Self {
        Self { numbers: Arc::clone(&self.numbers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::label::tests::Small;

    struct Words;

    impl Vocabulary for Words {
        type Protocol = Small<3>;
        type Cause = Small<4>;
        type RefusalReason = Small<2>;
        type PauseReason = Small<2>;
        type TlsVersion = Small<2>;
        type TlsResumption = Small<2>;
        type TlsFailure = Small<2>;
        type UnheardReason = Small<2>;

        fn initiator(_cause: usize) -> &'static str {
            "i"
        }
    }

    #[test]
    fn a_reader_sees_what_the_writer_wrote_on_another_thread() {
        let (writer, reader) = shard::<Words>();
        std::thread::spawn(move || {
            writer.count(Counter::Deliveries, 41);
            writer.count(Counter::Deliveries, 1);
            writer.raise(Gauge::Topics, 5);
            writer.lower(Gauge::Topics, 2);
            writer.set(Gauge::BuffersFree, 64);
        })
        .join()
        .unwrap();
        assert_eq!(reader.counter(Counter::Deliveries), 42);
        assert_eq!(reader.gauge(Gauge::Topics), 3);
        assert_eq!(reader.gauge(Gauge::BuffersFree), 64);
        assert_eq!(reader.counter(Counter::Turns), 0);
    }

    #[test]
    fn open_connections_are_those_opened_less_those_closed() {
        let (writer, reader) = shard::<Words>();
        for protocol in [0, 0, 1, 2] {
            writer.opened(Small(protocol));
        }
        writer.closed(CloseCodeLabel::of(1000), Small(3), Small(0));
        writer.closed(CloseCodeLabel::of(1006), Small(1), Small(2));
        assert_eq!(reader.connections(), 2);
        let closed: Vec<_> = reader.closed().collect();
        assert_eq!(closed[0], (vec!["1000", "i", "v3", "v0"], 1));
        assert_eq!(closed[1], (vec!["1006", "i", "v1", "v2"], 1));
        writer.handshake_ended(Small(2));
        assert_eq!(reader.handshakes_ended().collect::<Vec<_>>(), [("v2", 1)]);
    }
}
