//! An innocent connection, to be served well whatever others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;
use super::clock::{ms, now, pause};

/// Time between two messages.
const INTERVAL: Duration = ms(20);

/// Within which 99 of 100 messages are to be answered.
const LATENCY_MAX: Duration = ms(250);

/// Sends messages to the echo and checks that they come back, until it is asked.
#[derive(Debug)]
pub(crate) struct Canary {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(Client, Vec<Duration>)>,
}

impl Canary {
    pub(crate) fn start(mut client: Client) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut latencies = Vec::new();
                while latencies.is_empty() || !is_over.load(Ordering::Relaxed) {
                    let text = format!("message {}", latencies.len());
                    let sent = now();
                    client.send_text(&text);
                    assert_eq!(client.read_text(), text);
                    latencies.push(now() - sent);
                    pause(INTERVAL);
                }
                (client, latencies)
            }
        });
        Self { is_over, thread }
    }

    /// Was it served all the while? Then it says goodbye.
    pub(crate) fn finish(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut client, mut latencies) = self.thread.join().expect("the canary lives");
        latencies.sort_unstable();
        let p99 = latencies[(latencies.len() - 1) * 99 / 100];
        assert!(p99 < LATENCY_MAX, "{p99:?} of {} messages", latencies.len());
        client.send_close(1000);
        client.expect_close(1000);
    }
}
