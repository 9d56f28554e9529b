//! What only the twin can show: it repeats itself, and it catches a shard that breaks the rules.

use std::time::Duration;

use super::*;
use crate::ring::End;

const TOKEN: Token = Token { slot: 0, generation: 0 };

struct Batch<'a>(Vec<(Socket, &'a [u8])>);

impl Sends for Batch<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> (Socket, &[u8]) {
        self.0[index]
    }
}

fn turn(ring: &mut SimRing, sends: Vec<(Socket, &[u8])>) -> Vec<Completion> {
    let mut completions = Vec::new();
    ring.turn(&Batch(sends), Wait::Forever, &mut completions).unwrap();
    completions
}

fn connected(faults: Faults) -> (World, SimRing, ClientSocket, Socket) {
    let world = World::new(1, faults);
    let mut ring = world.attach(1);
    let client = world.connect(0, 0);
    ring.accept(0);
    let accepted = turn(&mut ring, Vec::new());
    let [Completion::Accepted { listener: 0, socket }] = accepted.as_slice() else {
        panic!("{accepted:?}")
    };
    let socket = *socket;
    (world, ring, client, socket)
}

/// Everything that a busy, harsh world reports.
fn story(seed: u64) -> String {
    let world = World::new(seed, Faults::harsh());
    let mut ring = world.attach(1);
    let clients: Vec<_> = (0..5).map(|_| world.connect(0, 0)).collect();
    let mut story = String::new();
    let mut next = 0;
    ring.accept(0);
    for _ in 0..200 {
        for client in &clients {
            client.write(b"some bytes");
        }
        for completion in turn(&mut ring, Vec::new()) {
            story.push_str(&format!("{completion:?}\n"));
            match completion {
                Completion::Accepted { socket, .. } => {
                    ring.receive(socket, Token { slot: next, generation: 0 });
                    next += 1;
                }
                Completion::AcceptEnded { .. } => ring.accept(0),
                Completion::Received { lease, .. } => ring.release(lease),
                _ => {}
            }
        }
    }
    story
}

#[test]
fn a_seed_tells_the_same_story_again() {
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8));
}

#[test]
fn released_bytes_are_spoilt() {
    let (_world, mut ring, client, socket) = connected(Faults::none());
    ring.receive(socket, TOKEN);
    client.write(b"secret");
    let received = turn(&mut ring, Vec::new()).pop();
    let Some(Completion::Received { lease, .. }) = received else { panic!("{received:?}") };
    assert_eq!(ring.bytes(&lease), b"secret");
    let kept = Lease { ..lease };
    ring.release(lease);
    assert_eq!(ring.bytes(&kept), [0xa5; 6]);
}

#[test]
fn time_moves_only_when_told() {
    let world = World::new(1, Faults::none());
    let mut ring = world.attach(0);
    let start = ring.now();
    let deadline = start + Duration::from_secs(5);
    ring.turn(&Batch(Vec::new()), Wait::Until(deadline), &mut Vec::new()).unwrap();
    assert_eq!((ring.now(), ring.next_deadline()), (start, Some(deadline)));
    assert!(ring.is_idle());
    world.advance_to(deadline);
    assert_eq!(ring.now(), start);
    turn(&mut ring, Vec::new());
    assert_eq!((ring.now(), ring.next_deadline()), (deadline, None));
}

#[test]
fn a_connection_waits_while_no_descriptor_is_left() {
    let world = World::new(1, Faults { no_descriptors: 1.0, ..Faults::none() });
    let mut ring = world.attach(1);
    let _client = world.connect(0, 0);
    ring.accept(0);
    let ended = turn(&mut ring, Vec::new());
    let emfile = Some(Errno(libc::EMFILE));
    assert!(
        matches!(ended.as_slice(), [Completion::AcceptEnded { errno, .. }] if *errno == emfile)
    );
    world.set_faults(Faults::none());
    ring.accept(0);
    assert!(matches!(turn(&mut ring, Vec::new()).as_slice(), [Completion::Accepted { .. }]));
}

#[test]
fn a_number_is_reused_before_its_last_completion() {
    let seen = (0..100).any(|seed| {
        let world = World::new(seed, Faults { delay: 0.5, ..Faults::none() });
        let mut ring = world.attach(1);
        let _clients = [world.connect(0, 0), world.connect(0, 0)];
        ring.accept(0);
        let mut first = None;
        let mut closed = false;
        for _ in 0..50 {
            for completion in turn(&mut ring, Vec::new()) {
                match completion {
                    Completion::Accepted { socket, .. } if first.is_none() => {
                        first = Some(socket);
                        ring.receive(socket, TOKEN);
                        ring.close(socket, TOKEN, Farewell::Fin);
                    }
                    Completion::Accepted { socket, .. } => return first == Some(socket) && !closed,
                    Completion::Closed { .. } => closed = true,
                    _ => {}
                }
            }
        }
        false
    });
    assert!(seen);
}

#[test]
fn a_wake_reaches_the_other_thread_with_the_turn() {
    let world = World::new(1, Faults::none());
    let (mut first, mut second) = (world.attach(0), world.attach(0));
    first.wake(second.node());
    first.wake(2);
    assert!(turn(&mut second, Vec::new()).is_empty());
    turn(&mut first, Vec::new());
    assert!(matches!(turn(&mut second, Vec::new()).as_slice(), [Completion::Woken]));
    assert!(world.take_wake(2));
    assert!(!world.take_wake(2));
}

#[test]
fn unread_bytes_make_a_close_a_reset() {
    let (world, mut ring, client, socket) = connected(Faults::none());
    client.write(b"unread");
    ring.close(socket, TOKEN, Farewell::Fin);
    assert!(matches!(turn(&mut ring, Vec::new()).as_slice(), [Completion::Closed { .. }]));
    assert_eq!(client.read(&mut Vec::new()), Tail::Reset);
    assert_eq!(world.open_sockets(), 0);
}

#[test]
fn a_reset_is_told_to_one_operation_and_the_next_sees_an_end() {
    let (_world, mut ring, client, socket) = connected(Faults::none());
    client.reset();
    let short = turn(&mut ring, vec![(socket, b"x")]);
    let reset = Some(Errno(libc::ECONNRESET));
    assert!(
        matches!(short.as_slice(), [Completion::SendShort { sent: 0, errno, .. }] if *errno == reset)
    );
    ring.receive(socket, TOKEN);
    let end = turn(&mut ring, Vec::new());
    assert!(matches!(end.as_slice(), [Completion::ReceiveEnded { end: End::Fin, .. }]));
}

#[test]
#[should_panic(expected = "is not open")]
fn a_use_after_close_is_caught() {
    let (_world, mut ring, _client, socket) = connected(Faults::none());
    ring.close(socket, TOKEN, Farewell::Fin);
    turn(&mut ring, Vec::new());
    ring.shutdown(socket);
}

#[test]
#[should_panic(expected = "after close")]
fn a_send_after_close_is_caught() {
    let (_world, mut ring, _client, socket) = connected(Faults::none());
    ring.close(socket, TOKEN, Farewell::Fin);
    turn(&mut ring, vec![(socket, b"too late")]);
}

#[test]
#[should_panic(expected = "beside an owned one")]
fn a_send_beside_an_owned_one_is_caught() {
    let (_world, mut ring, _client, socket) = connected(Faults::none());
    ring.send_owned(socket, TOKEN, Bytes::from_static(b"first"));
    turn(&mut ring, vec![(socket, b"second")]);
}

#[test]
#[should_panic(expected = "twice in a turn")]
fn two_sends_to_a_socket_in_a_turn_are_caught() {
    let (_world, mut ring, _client, socket) = connected(Faults::none());
    turn(&mut ring, vec![(socket, b"first"), (socket, b"second")]);
}

#[test]
#[should_panic(expected = "outlived its turn")]
fn a_lease_that_outlives_its_turn_is_caught() {
    let (_world, mut ring, client, socket) = connected(Faults::none());
    ring.receive(socket, TOKEN);
    client.write(b"bytes");
    let _leases = turn(&mut ring, Vec::new());
    turn(&mut ring, Vec::new());
}

#[test]
#[should_panic(expected = "used after Closed")]
fn a_slot_used_again_without_a_new_generation_is_caught() {
    let (world, mut ring, _client, socket) = connected(Faults::none());
    ring.close(socket, TOKEN, Farewell::Fin);
    turn(&mut ring, Vec::new());
    let _other = world.connect(0, 0);
    let accepted = turn(&mut ring, Vec::new());
    let [Completion::Accepted { socket, .. }] = accepted.as_slice() else { panic!("{accepted:?}") };
    ring.receive(*socket, TOKEN);
}
