//! Scenarios that hold on the real ring and on its simulated twin.
//!
//! Each is played on the kernel with every optional feature, with none, with tiny queues and pools
//! (so that everything overflows), on the gentle twin, and on the harsh twin with many seeds.

use std::time::Duration;

use bytes::Bytes;

use super::sim::Tail;
use super::{End, Errno, Farewell, Ring, Token};

mod kernels;
mod stage;

use kernels::{Client, Kernel, Real, Simulated};
use stage::{Batch, Event, Line, Stage};

const SEEDS: u64 = 64;

macro_rules! scenarios {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn real() {
                super::$name(Stage::new(Real::full()));
            }

            #[test]
            fn real_without_optional_features() {
                super::$name(Stage::new(Real::plain()));
            }

            #[test]
            fn real_with_tiny_queues() {
                super::$name(Stage::new(Real::tiny()));
            }

            #[test]
            fn real_with_tiny_queues_without_optional_features() {
                super::$name(Stage::new(Real::tiny_plain()));
            }

            #[test]
            fn simulated() {
                super::$name(Stage::new(Simulated::gentle()));
            }

            #[test]
            fn simulated_harshly() {
                for seed in 0..SEEDS {
                    eprintln!("seed {seed}");
                    super::$name(Stage::new(Simulated::harsh(seed)));
                }
            }
        }
    )*};
}

scenarios! {
    bytes_arrive_in_order
    a_whole_send_is_silent
    a_short_send_is_reported_in_its_turn
    a_full_socket_refuses
    more_sends_than_the_submission_queue_holds
    more_received_than_queues_and_pools_hold
    a_receive_is_cancelled
    a_cancelled_receive_loses_nothing
    a_cancel_after_fin_ends_the_receive_once
    fin_and_reset_are_told_apart
    a_send_to_a_reset_connection_fails
    a_close_with_nothing_in_flight
    a_close_with_everything_in_flight
    a_close_right_after_a_cancel
    a_reset_is_seen_by_the_peer
    a_shutdown_ends_only_one_direction
    a_slot_is_used_again
    wakes_arrive_and_coalesce
    accepting_is_cancelled_and_armed_again
    the_peer_is_known
    what_was_exchanged_is_known
}

fn text(len: usize) -> Vec<u8> {
    // A prime period: a shifted or repeated piece does not look like the original.
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn bytes_arrive_in_order<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    for chunk in text(5_000).chunks(700) {
        assert_eq!(stage.exchanged(&mut line, chunk), chunk);
    }
}

fn a_whole_send_is_silent<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    let mut got = Vec::new();
    for chunk in text(2_000).chunks(100) {
        let short = stage.send(vec![(line.socket, chunk)]);
        let sent = match short.as_slice() {
            [] => chunk.len(),
            [(0, sent, _)] => *sent,
            other => panic!("{other:?}"),
        };
        assert!(sent == chunk.len() || !stage.kernel.is_gentle());
        stage.send_rest(&mut line, &chunk[sent..], &mut got);
        line.client.read(&mut got);
    }
    got.extend(stage.read(&mut line, 2_000 - got.len()).0);
    assert_eq!(got, text(2_000));
}

fn a_short_send_is_reported_in_its_turn<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    let all = text(8 << 20);
    let short = stage.send(vec![(line.socket, &all)]);
    let [(0, sent, _)] = short.as_slice() else { panic!("{short:?}") };
    assert!(*sent > 0 || !stage.kernel.is_gentle());
    let mut got = Vec::new();
    // The rest, but for most of it: the twin's sockets are small.
    let end = (sent + 100_000).min(all.len());
    stage.send_rest(&mut line, &all[*sent..end], &mut got);
    let missing = end - got.len();
    got.extend(stage.read(&mut line, missing).0);
    assert_eq!(got.len(), end);
    assert!(got == all[..end]);
}

fn a_full_socket_refuses<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    let all = text(1 << 20);
    let mut sent = 0;
    let refused = (0..1000).find(|_| {
        let short = stage.send(vec![(line.socket, &all[sent % 251..])]);
        let [(0, taken, errno)] = short.as_slice() else {
            sent += all.len() - sent % 251;
            return false;
        };
        sent += taken;
        *errno == Some(Errno(libc::EAGAIN))
    });
    assert!(refused.is_some());
    let (got, _) = stage.read(&mut line, sent);
    assert_eq!(got.len(), sent);
    // Nothing of the refused send went out.
    let mut expected = (0..).map(|at| u8::try_from(at % 251).unwrap());
    assert!(got.iter().all(|byte| Some(*byte) == expected.next()));
}

fn more_sends_than_the_submission_queue_holds<K: Kernel>(mut stage: Stage<K>) {
    let mut lines: Vec<_> = (0..40).map(|_| stage.line()).collect();
    let message = text(50);
    let sends = lines.iter().map(|line| (line.socket, message.as_slice())).collect();
    let short = stage.send(sends);
    for (index, line) in lines.iter_mut().enumerate() {
        let taken = short.iter().find(|(of, ..)| *of == index);
        assert!(taken.is_none() || !stage.kernel.is_gentle());
        let taken = taken.map_or(message.len(), |(_, sent, _)| *sent);
        let mut got = Vec::new();
        stage.send_rest(line, &message[taken..], &mut got);
        got.extend(stage.read(line, message.len() - got.len()).0);
        assert_eq!(got, message, "client {index}");
    }
}

fn more_received_than_queues_and_pools_hold<K: Kernel>(mut stage: Stage<K>) {
    let mut lines: Vec<_> = (0..40).map(|_| stage.line()).collect();
    for line in &lines {
        stage.receive(line);
    }
    let message = text(3_000);
    let mut lines: Vec<_> = lines.drain(..).map(|line| (line, 0, Vec::new())).collect();
    while lines.iter().any(|(_, _, got)| got.len() < message.len()) {
        for (line, written, _) in &mut lines {
            *written += line.client.write(&message[*written..]);
        }
        stage.turn(&Batch(Vec::new()));
        for event in std::mem::take(&mut stage.events) {
            let of = |token: Token| move |entry: &&mut (Line<_>, _, _)| entry.0.token == token;
            match event {
                Event::Received(token, bytes) => {
                    lines.iter_mut().find(of(token)).unwrap().2.extend(bytes);
                }
                Event::ReceiveEnded(token, End::Spent | End::NoBuffers) => {
                    stage.receive(&lines.iter_mut().find(of(token)).unwrap().0);
                }
                Event::AcceptEnded(_) | Event::Woken => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(lines.iter().all(|(_, _, got)| *got == message));
}

fn a_receive_is_cancelled<K: Kernel>(mut stage: Stage<K>) {
    let line = stage.line();
    stage.receive(&line);
    stage.kernel.ring().cancel_receive(line.socket, line.token);
    let end = stage.next_of(&line);
    let Event::ReceiveEnded(_, end) = end else { panic!("{end:?}") };
    assert!(end == End::Cancelled || end == End::Spent && !stage.kernel.is_gentle());
    stage.settle();
    assert!(!stage.events.iter().any(|event| matches!(event, Event::ReceiveEnded(..))));
}

fn a_cancelled_receive_loses_nothing<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    let message = text(600);
    let mut got = Vec::new();
    let mut written = 0;
    // The cancel meets the receive in whatever state it is.
    for round in 0..30 {
        let end = (written + 20).min(message.len());
        written += line.client.write(&message[written..end]);
        if round % 3 == 0 {
            stage.settle();
        }
        stage.kernel.ring().cancel_receive(line.socket, line.token);
        loop {
            match stage.next_of(&line) {
                Event::Received(_, bytes) => got.extend(bytes),
                Event::ReceiveEnded(..) => break,
                other => panic!("{other:?}"),
            }
        }
        stage.receive(&line);
    }
    // What the socket still holds comes first.
    let rest = stage.exchanged_after(&mut line, &message[written..], message.len() - got.len());
    got.extend(rest);
    assert_eq!(got, message);
}

fn a_cancel_after_fin_ends_the_receive_once<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    stage.settle();
    line.client.shutdown();
    stage.kernel.ring().cancel_receive(line.socket, line.token);
    let end = stage.next_of(&line);
    let Event::ReceiveEnded(_, end) = end else { panic!("{end:?}") };
    assert!(matches!(end, End::Fin | End::Cancelled | End::Spent), "{end:?}");
    stage.settle();
    assert!(!stage.events.iter().any(|event| matches!(event, Event::ReceiveEnded(..))));
    // Too late: the receive is over, and nothing comes of it.
    stage.kernel.ring().cancel_receive(line.socket, line.token);
    stage.settle();
    assert!(!stage.events.iter().any(|event| matches!(event, Event::ReceiveEnded(..))));
}

fn fin_and_reset_are_told_apart<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    assert_eq!(stage.exchanged(&mut line, b"last words"), b"last words");
    line.client.shutdown();
    assert_eq!(stage.end(&line), End::Fin);

    let line = stage.line();
    stage.receive(&line);
    stage.settle();
    let Line { socket, token, client } = line;
    client.reset();
    let other = stage.line();
    assert_eq!(stage.end(&Line { socket, token, ..other }), End::Failed(Errno(libc::ECONNRESET)));
}

fn a_send_to_a_reset_connection_fails<K: Kernel>(mut stage: Stage<K>) {
    let Line { socket, client, .. } = stage.line();
    let address = client.address();
    client.reset();
    let errno = (0..1000).find_map(|_| {
        let short = stage.send(vec![(socket, b"to nobody")]);
        short.first().and_then(|(.., errno)| errno.filter(|errno| errno.0 != libc::EAGAIN))
    });
    // connection reset, then broken pipe: whichever operation comes first gets the former
    assert!(matches!(errno, Some(Errno(libc::ECONNRESET | libc::EPIPE))), "{errno:?}");
    assert_eq!(stage.kernel.ring().peer(socket), Some(address), "who it was");
    assert!(stage.kernel.ring().tcp_info(socket).is_some(), "and how it was");
}

fn a_close_with_nothing_in_flight<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.close(&line, Farewell::Fin);
    assert_eq!(stage.until_closed(&line), []);
    assert_eq!(stage.tail(&mut line), Tail::Fin);
}

fn a_close_with_everything_in_flight<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    let all = text(8 << 20);
    stage.send(vec![(line.socket, &all)]);
    stage.kernel.ring().send_owned(line.socket, line.token, Bytes::from(all));
    stage.settle();
    stage.close(&line, Farewell::Fin);
    let events = stage.until_closed(&line);
    let ends = events.iter().filter(|event| matches!(event, Event::ReceiveEnded(..))).count();
    let dones = events.iter().filter(|event| matches!(event, Event::SendDone(..))).count();
    assert_eq!((ends, dones, events.len()), (1, 1, 2), "{events:?}");
    let (got, tail) = stage.read(&mut line, usize::MAX);
    assert_eq!(tail, Tail::Fin);
    assert!(got.iter().zip(0..).all(|(byte, at)| usize::from(*byte) == at % 251 || at > 4_000));
}

fn a_close_right_after_a_cancel<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    stage.settle();
    line.client.write(b"too late");
    stage.kernel.ring().cancel_receive(line.socket, line.token);
    stage.close(&line, Farewell::Fin);
    let events = stage.until_closed(&line);
    let ends = events.iter().filter(|event| matches!(event, Event::ReceiveEnded(..))).count();
    assert!(ends <= 1 && events.len() <= 1 + ends, "{events:?}");
    // FIN when the bytes were taken from the socket before, else Linux resets.
    assert_ne!(stage.tail(&mut line), Tail::Open);
}

fn a_reset_is_seen_by_the_peer<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    stage.settle();
    stage.close(&line, Farewell::Reset);
    stage.until_closed(&line);
    assert_eq!(stage.tail(&mut line), Tail::Reset);
}

fn a_shutdown_ends_only_one_direction<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    stage.kernel.ring().shutdown(line.socket);
    assert_eq!(stage.tail(&mut line), Tail::Fin);
    assert_eq!(stage.exchanged(&mut line, b"still here"), b"still here");
}

fn a_slot_is_used_again<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    let slot = line.token.slot;
    for round in 0..20 {
        stage.receive(&line);
        if round % 2 == 0 {
            stage.settle();
        }
        line.client.write(b"of an earlier life");
        stage.close(&line, if round % 4 == 0 { Farewell::Reset } else { Farewell::Fin });
        stage.until_closed(&line);
        let generation = line.token.generation.wrapping_add(1);
        line = stage.line_again(slot);
        line.token.generation = generation;
    }
    stage.receive(&line);
    assert_eq!(stage.exchanged(&mut line, b"mine"), b"mine");
}

fn wakes_arrive_and_coalesce<K: Kernel>(mut stage: Stage<K>) {
    stage.settle();
    stage.events.clear();
    for _ in 0..10 {
        stage.kernel.wake();
    }
    stage.expect("wake", |event| *event == Event::Woken);
    stage.settle();
    let more = stage.events.iter().filter(|event| **event == Event::Woken).count();
    assert!(more < 10, "{more} wakes");
    assert!(more == 0 || !stage.kernel.is_gentle());
    // From ring to ring; here to itself.
    stage.kernel.ring().wake(0);
    stage.expect("wake", |event| *event == Event::Woken);
    stage.kernel.wake();
    stage.expect("wake", |event| *event == Event::Woken);
}

fn accepting_is_cancelled_and_armed_again<K: Kernel>(mut stage: Stage<K>) {
    stage.arm_accept();
    stage.cancel_accept();
    let ended = |event: &Event| matches!(event, Event::AcceptEnded(_));
    assert_eq!(stage.expect("end of accepting", ended), Event::AcceptEnded(None));
    let mut client = stage.kernel.connect();
    stage.settle();
    assert!(
        !stage
            .events
            .iter()
            .any(|event| matches!(event, Event::Accepted(_) | Event::AcceptEnded(_)))
    );
    let socket = stage.accepted();
    stage.send(vec![(socket, b"hello")]);
    assert_eq!(client.read(&mut Vec::new()), Tail::Open);
}

fn the_peer_is_known<K: Kernel>(mut stage: Stage<K>) {
    let line = stage.line();
    assert_eq!(stage.kernel.ring().peer(line.socket), Some(line.client.address()));
}

fn what_was_exchanged_is_known<K: Kernel>(mut stage: Stage<K>) {
    let mut line = stage.line();
    stage.receive(&line);
    assert_eq!(stage.exchanged(&mut line, &text(700)), text(700));
    let mut got = Vec::new();
    stage.send_rest(&mut line, &text(300), &mut got);
    let missing = 300 - got.len();
    stage.read(&mut line, missing);
    // The peer's kernel may take its time to acknowledge.
    let mut info = stage.kernel.ring().tcp_info(line.socket).unwrap();
    for _ in 0..100 {
        if info.acked_bytes < 300 {
            stage.settle();
            info = stage.kernel.ring().tcp_info(line.socket).unwrap();
        }
    }
    assert_eq!((info.received_bytes, info.acked_bytes), (700, 300));
    assert_eq!((info.not_sent_bytes, info.retransmitted_segments, info.lost_segments), (0, 0, 0));
    assert!(info.rtt < Duration::from_secs(1) && info.window_closed < Duration::from_secs(1));
}
