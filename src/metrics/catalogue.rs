//! Every metric that this daemon has: the only list of their names.

/// How the numbers of a metric are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// The state at the time of the scrape.
    Gauge,
    /// How many observations fell between which bounds.
    Histogram,
}

/// What one of a metric's numbers measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things or events.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As Prometheus stores it.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// What it measures.
    pub unit: Unit,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence for operators.
    pub help: &'static str,
}

/// Turns the list below into one enum for each group and into [`ALL`].
macro_rules! catalogue {
    ($(
        $(#[$group_doc:meta])*
        $group:ident: $kind:ident {
            $($metric:ident $name:literal $unit:ident [$($label:literal)*] $help:literal)*
        }
    )*) => {
        $(
            $(#[$group_doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum $group {
                $(#[doc = $help] $metric,)*
            }

            impl $group {
                /// All of the group, in order.
                pub const ALL: &'static [Self] = &[$(Self::$metric),*];

                /// Name, kind, unit, labels and help.
                pub const fn entry(self) -> Entry {
                    match self {
                        $(Self::$metric => Entry {
                            name: concat!("ringway_", $name),
                            kind: Kind::$kind,
                            unit: Unit::$unit,
                            labels: &[$($label),*],
                            help: $help,
                        },)*
                    }
                }
            }
        )*

        /// Every metric.
        pub const ALL: &[Entry] = &[$($($group::$metric.entry(),)*)*];
    };
}

catalogue! {
    /// Counters without labels; one of each shard, shown as their sum.
    Counter: Counter {
        Accepted "accepted_total" Count []
            "Connections taken from the listeners."
        BytesReceived "bytes_received_total" Bytes []
            "Bytes that clients sent, with HTTP heads and frame headers."
        BytesSent "bytes_sent_total" Bytes []
            "Bytes handed to the sockets of clients, with HTTP heads and frame headers."
        Publications "publications_total" Count []
            "Publications that got their place in a topic."
BrokerGapsHealed "broker_gaps_healed_total" Count []
            "Gaps in what an engine sent that were closed by reading what was missing from it."
        BrokerGapsLost "broker_gaps_lost_total" Count []
            "Gaps in what an engine sent that could not be closed; subscribers were told to begin anew."
        Deliveries "deliveries_total" Count []
            "Publications queued for a subscriber."
        Conflated "conflated_total" Count []
            "Values of latest topics that a slow subscriber was not sent, since a newer one took their place in its queue."
        OutboxOverflows "outbox_overflows_total" Count []
            "Connections that reached a limit of their outbox or stalled, and were closed as slow."
        PingsSent "pings_sent_total" Count []
            "Pings sent to clients, in frames or in the client protocol."
        PongsReceived "pongs_received_total" Count []
            "Answers to our pings."
        Turns "turns_total" Count []
            "Turns of the shards' loops."
        BuffersExhausted "buffers_exhausted_total" Count []
            "Receives that found no free buffer and had to wait."
        UringEnters "uring_enters_total" Count []
            "Calls of io_uring_enter."
        UringSubmissions "uring_submissions_total" Count []
            "Operations given to io_uring."
        UringCompletions "uring_completions_total" Count []
            "Completions taken from io_uring."
        UringCompletionOverflows "uring_cq_overflows_total" Count []
            "Turns that found completions held back because the completion queue was full."
        SendsShort "sends_short_total" Count []
            "Sends that the socket took only in part or not at all."
        StaleCompletions "stale_completions_total" Count []
            "Completions that named an earlier user of a slot, and were ignored."
        WakesSent "wakes_sent_total" Count []
            "Wake-ups sent to sleeping threads."
        WakesReceived "wakes_received_total" Count []
            "Wake-ups received from other threads."
        LanesFull "lanes_full_total" Count []
            "Messages to another thread that had to wait because its lane was full."
        DeflateMessagesReceived "deflate_messages_received_total" Count []
            "Compressed messages received whole and inflated."
        DeflateBytesReceived "deflate_bytes_received_total" Bytes []
            "Payload bytes of compressed messages as clients sent them."
        DeflateBytesInflated "deflate_bytes_inflated_total" Bytes []
            "Payload bytes of these messages after inflation."
        DeflateMessagesSent "deflate_messages_sent_total" Count []
            "Compressed messages queued for clients; a shared one counts for each of them."
        DeflateMessagesCompressed "deflate_messages_compressed_total" Count []
            "Messages that were compressed, each once, however many clients share it."
        DeflateBytesPlain "deflate_bytes_plain_total" Bytes []
            "Payload bytes of these messages before."
        DeflateBytesCompressed "deflate_bytes_compressed_total" Bytes []
            "Payload bytes of these messages afterwards."
        DeflateSkippedShort "deflate_skipped_short_total" Count []
            "Messages that were left plain because they are shorter than deflate.bytes_min."
        DeflateSkippedGain "deflate_skipped_gain_total" Count []
            "Messages that were left plain because compression saved less than a twentieth, or because the window of their client is too small for them."
        DrainStragglers "drain_stragglers_total" Count []
            "Connections that had not ended when a drain was over, and were reset."
        Panics "panics_total" Count []
            "Faults of ours that were caught; each closed its connection with code 1011."
    }

    /// Gauges without labels; one of each shard, shown as their sum.
    Gauge: Gauge {
        ConnectionsHandshaking "connections_handshaking" Count []
            "Accepted connections that have not been upgraded yet."
        TlsHandshaking "tls_handshaking" Count []
            "Connections whose TLS handshake is not complete."
        Subscriptions "subscriptions" Count []
            "Subscriptions of clients to topics."
        Topics "topics" Count []
            "Topics that are alive."
        HistoryBytes "history_bytes" Bytes []
            "Bytes of publications kept in histories."
        HistoryPublications "history_publications" Count []
            "Publications kept in histories."
        OutboxBytes "outbox_bytes" Bytes []
            "Bytes queued for clients; a frame that several wait for counts for each of them."
        Backlogs "backlogs" Count []
            "Connections whose socket is full and that have output waiting."
        DeflateContexts "deflate_contexts" Count []
            "Clients that may refer to what they said in earlier messages."
        DeflateMemoryBytes "deflate_memory_bytes" Bytes []
            "Memory of compression: what the clients of a shard share, and the contexts of those who keep one."
        BuffersFree "buffers_free" Count []
            "Receive buffers that are free."
    }

    /// Counters of the shards that have labels.
    CounterFamily: Counter {
        Opened "opened_total" Count ["protocol"]
            "Connections that were upgraded."
        Closed "closed_total" Count ["code" "initiator" "cause" "protocol"]
            "Upgraded connections that ended, each counted once: with the code of the first Close received, else 1005 or 1006, else the one that we sent first."
        CloseSent "close_sent_total" Count ["code"]
            "Close frames sent."
        CloseReceived "close_received_total" Count ["code"]
            "Close frames received."
        HandshakesEnded "handshakes_ended_total" Count ["cause"]
            "Accepted connections that ended before they were upgraded, each counted once."
        HandshakeRefused "handshake_refused_total" Count ["status" "reason"]
            "Requests that were answered with an HTTP error instead of an upgrade."
        ConnectionsRefused "connections_refused_total" Count ["reason"]
            "Connections that were closed before anything of their request was heard."
        MessagesReceived "messages_received_total" Count ["protocol"]
            "WebSocket messages received whole."
        MessagesSent "messages_sent_total" Count ["protocol"]
            "WebSocket messages queued for clients: deliveries, replies and echoes."
        AcceptPaused "accept_paused_total" Count ["reason"]
            "Times that a shard stopped accepting connections for a while."
        TlsHandshakes "tls_handshakes_total" Count ["version" "resumed"]
            "TLS handshakes that were completed."
        TlsHandshakeFailed "tls_handshake_failed_total" Count ["reason"]
            "TLS handshakes that were begun or refused, and not completed."
    }

    /// Gauges of the shards that have labels.
    GaugeFamily: Gauge {
        Connections "connections" Count ["protocol"]
            "Upgraded connections that have not ended."
        MemoryBytes "memory_bytes" Bytes ["ledger"]
            "Memory by its use: what connections own alone (private), frames that are alive, each counted once however many wait for it (frames), kept publications (history), buffers and tables (pools)."
    }

    /// Gauges of the process as a whole.
    ProcessGauge: Gauge {
        MemoryBudget "memory_budget_bytes" Bytes []
            "Memory that the process may use."
        MemoryUsed "memory_used_bytes" Bytes []
            "Memory that the process uses, which the level follows: the sum of memory_bytes, its resident memory or that of its control group, whichever is most."
        MemoryLevel "memory_level" Count []
            "How short memory is: 0 not at all, 1 above 70 % of the budget, 2 above 80 % (no new connections), 3 above 90 % (clients that hold much are closed), 4 above 95 % (accepting has stopped)."
    }

    /// Histograms of times; one of each shard, shown separately.
    TimeHistogram: Histogram {
        Turn "turn_seconds" Seconds ["shard"]
            "Work of one turn of a shard's loop, without the time it slept."
        LoopLag "loop_lag_seconds" Seconds ["shard"]
            "How late a shard came to deadlines that were due."
        TlsHandshake "tls_handshake_seconds" Seconds ["shard"]
            "Time from the accepted connection to the completed TLS handshake."
    }

    /// Histograms of sizes; one of each shard, shown as their sum.
    SizeHistogram: Histogram {
        TurnCompletions "turn_completions" Count []
            "Completions that one turn of a shard's loop found."
        MessageReceivedBytes "message_received_bytes" Bytes []
            "Payload bytes of the largest WebSocket message that each read completed."
    }

    /// Counters of the control thread that have labels.
    ControlFamily: Counter {
        ApiRequests "api_requests_total" Count ["method" "status"]
            "Requests to the server API."
        TlsReloads "tls_reloads_total" Count ["result"]
            "Times that the files of certificates were read again because they had changed or on SIGHUP; after a failure the old ones stay."
        ConfigReloads "config_reloads_total" Count ["result"]
            "Times that the configuration was read again, on SIGHUP or by order; after a failure the old one stays as a whole."
    }

    /// Gauges of the control thread.
    ReloadGauge: Gauge {
        LastSuccess "config_last_reload_success_timestamp_seconds" Seconds []
            "When the configuration that counts was read, in seconds since 1970."
        RestartPending "config_restart_pending" Count []
            "Settings of the newest good configuration that count only after a restart."
    }

    /// Gauges of the control thread whose labels are not a closed set.
    ControlGauge: Gauge {
        CertificateExpiry "tls_certificate_expiry_timestamp_seconds" Seconds ["name"]
            "When the certificate for this name ends, in seconds since 1970."
    }

    /// Counters of the links to engines.
    LinkCounter: Counter {
        Connects "broker_connects_total" Count ["broker"]
            "Times that a gateway connected to its broker."
        Publishes "broker_publishes_total" Count ["broker"]
            "Publications that the broker has acknowledged."
        PublishesRefused "broker_publishes_refused_total" Count ["broker"]
            "Publications that were refused since the broker could not be reached, was too slow or said no."
        PublishesUnknown "broker_publishes_unknown_total" Count ["broker"]
            "Publications of which the broker has not said in time whether they were taken."
        Overflows "broker_overflows_total" Count ["broker"]
            "Topics whose messages came faster than they were taken; what was missed is read."
        Unreadable "broker_unreadable_total" Count ["broker"]
            "Messages of the broker that no gateway has written."
    }

    /// Gauges of the links to engines.
    LinkGauge: Gauge {
        Up "broker_up" Count ["broker"]
            "1 while the broker answers, else 0."
        SilentShards "broker_silent_shards" Count ["broker"]
            "Shards through which no test message of the broker has come for 2 s."
        Pending "broker_pending" Count ["broker"]
            "Publications and questions that wait for the broker."
        Topics "broker_topics" Count ["broker"]
            "Topics that this gateway hears from the broker."
        Lag "broker_lag_seconds" Seconds ["broker"]
            "How long the last test message took through the broker and back."
    }

    /// What is true of the process for as long as it lives.
    Fact: Gauge {
        BuildInfo "build_info" Count ["version"]
            "Always 1; the label tells the version."
        StartTime "start_time_seconds" Seconds []
            "When the process started, in seconds since 1970."
    }
}

impl TimeHistogram {
    /// Upper bounds of the buckets, in nanoseconds.
    pub const fn bounds(self) -> &'static [u64] {
        const MICROSECOND: u64 = 1_000;
        const MILLISECOND: u64 = 1_000_000;
        match self {
            Self::Turn | Self::LoopLag | Self::TlsHandshake => &[
                10 * MICROSECOND,
                25 * MICROSECOND,
                50 * MICROSECOND,
                100 * MICROSECOND,
                250 * MICROSECOND,
                500 * MICROSECOND,
                MILLISECOND,
                2_500 * MICROSECOND,
                5 * MILLISECOND,
                10 * MILLISECOND,
                25 * MILLISECOND,
                50 * MILLISECOND,
                100 * MILLISECOND,
                250 * MILLISECOND,
                1_000 * MILLISECOND,
            ],
        }
    }
}

impl SizeHistogram {
    /// Upper bounds of the buckets, in the unit of the metric.
    pub const fn bounds(self) -> &'static [u64] {
        match self {
            Self::TurnCompletions => &[0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096],
            Self::MessageReceivedBytes => {
                &[16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_end_as_prometheus_expects() {
        for (i, entry) in ALL.iter().enumerate() {
            assert!(!ALL[..i].iter().any(|e| e.name == entry.name), "{} twice", entry.name);
            assert_eq!(entry.kind == Kind::Counter, entry.name.ends_with("_total"), "{entry:?}");
            let base = entry.name.trim_end_matches("_total");
            assert_eq!(entry.unit == Unit::Seconds, base.ends_with("_seconds"), "{entry:?}");
            if entry.unit == Unit::Bytes {
                assert!(base.contains("bytes"), "{entry:?}");
            }
        }
    }

    #[test]
    fn names_and_labels_are_snake_case_and_helps_are_sentences() {
        for entry in ALL {
            for word in std::iter::once(&entry.name).chain(entry.labels) {
                assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
            }
            assert!(entry.help.ends_with('.'), "{entry:?}");
            assert!(!entry.help.contains(['\n', '\\', '"']), "{entry:?}");
        }
    }
}
