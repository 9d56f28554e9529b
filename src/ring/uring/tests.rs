//! What only the real ring can show.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::ring::End;
use crate::ring::listen::{Options, Takers, listen};

struct Nothing;

impl Sends for Nothing {
    fn len(&self) -> usize {
        0
    }
    fn get(&self, _index: usize) -> (Socket, &[u8]) {
        unreachable!("there are none")
    }
}

struct One<'a>(Socket, &'a [u8]);

impl Sends for One<'_> {
    fn len(&self) -> usize {
        1
    }
    fn get(&self, _index: usize) -> (Socket, &[u8]) {
        (self.0, self.1)
    }
}

fn ring(disable: &[Feature]) -> (Uring, SocketAddr) {
    ring_with(&Settings { disable: disable.to_vec(), ..Settings::default() })
}

fn ring_with(settings: &Settings) -> (Uring, SocketAddr) {
    let options = Options { send_buffer_bytes: 8 * 1024, ..Options::default() };
    let listener = listen(([127, 0, 0, 1], 0).into(), options).unwrap();
    let address = listener.local_addr().unwrap();
    let wakes = Arc::new(Wakes::new(1).unwrap());
    let parts = Parts { listeners: vec![listener.into()], node: 0, wakes };
    (Uring::new(settings, parts).unwrap(), address)
}

fn connected(ring: &mut Uring, address: SocketAddr) -> (Socket, TcpStream) {
    ring.accept(0);
    let client = TcpStream::connect(address).unwrap();
    let Some(Completion::Accepted { socket, .. }) = turns(ring).pop() else { panic!("accepted") };
    (socket, client)
}

fn turns(ring: &mut Uring) -> Vec<Completion> {
    let mut completions = Vec::new();
    while completions.is_empty() {
        ring.turn(&Nothing, Wait::Forever, &mut completions).unwrap();
    }
    completions
}

fn echo(disable: &[Feature]) {
    let (mut ring, address) = ring(disable);
    ring.accept(0);
    let mut client = TcpStream::connect(address).unwrap();
    let Some(Completion::Accepted { listener: 0, socket }) = turns(&mut ring).pop() else {
        panic!("accepted")
    };
    assert_eq!(ring.peer(socket), client.local_addr().ok());
    let token = Token { slot: 3, generation: 9 };
    ring.receive(socket, token);
    client.write_all(b"hello").unwrap();
    let Some(Completion::Received { token: of, lease }) = turns(&mut ring).pop() else {
        panic!("received")
    };
    assert_eq!(of, token);
    assert_eq!(ring.bytes(&lease), b"hello");
    let copy = ring.bytes(&lease).to_vec();
    ring.release(lease);
    let mut completions = Vec::new();
    ring.turn(&One(socket, &copy), Wait::No, &mut completions).unwrap();
    assert!(completions.is_empty());
    let mut got = [0; 5];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    ring.close(socket, token, Farewell::Fin);
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(Completion::Closed { .. })) {
        seen.append(&mut turns(&mut ring));
    }
    assert!(matches!(
        seen.as_slice(),
        [Completion::ReceiveEnded { end: End::Cancelled, .. }, Completion::Closed { .. }]
    ));
    assert_eq!(client.read(&mut got).unwrap(), 0);
    assert_eq!(ring.stats().stale, 0);
}

#[test]
fn echo_with_every_feature() {
    echo(&[]);
}

#[test]
fn echo_without_optional_features() {
    echo(&Feature::ALL);
}

/// The same bytes many times over to the same socket.
struct Many(Socket, usize);

impl Sends for Many {
    fn len(&self) -> usize {
        self.1
    }
    fn get(&self, index: usize) -> (Socket, &[u8]) {
        const DIGITS: &[u8] = b"0123456789";
        (self.0, &DIGITS[index % 10..=index % 10])
    }
}

#[test]
fn many_sends_go_out_in_slices_and_in_order() {
    let (mut ring, address) = ring(&[]);
    let (socket, mut client) = connected(&mut ring, address);
    // Each byte is a packet, and as many as these fill a window that nobody empties.
    let reading = std::thread::spawn(move || {
        let mut got = [0; 3000];
        client.read_exact(&mut got).map(|()| got)
    });
    let enters = ring.stats().enters;
    let mut completions = Vec::new();
    ring.turn(&Many(socket, 3000), Wait::No, &mut completions).unwrap();
    assert!(completions.is_empty(), "{completions:?}");
    assert_eq!(ring.stats().enters - enters, 3);
    let got = reading.join().unwrap().unwrap();
    assert!(got.iter().zip("0123456789".bytes().cycle()).all(|(got, sent)| *got == sent));
}

#[test]
fn every_refused_send_is_reported_in_its_turn_also_when_completions_overflow() {
    let settings =
        Settings { submission_entries: 64, completion_entries: 64, ..Settings::default() };
    let (mut ring, address) = ring_with(&settings);
    let (socket, mut client) = connected(&mut ring, address);
    let mut filled = 0;
    // The loopback device may still move bytes from the sender's queue to the receiver's: full is
    // a socket that stays full.
    let mut full = 0;
    while full < 100 {
        let mut completions = Vec::new();
        ring.turn(&One(socket, &vec![0; 16 << 20]), Wait::No, &mut completions).unwrap();
        let [Completion::SendShort { index: 0, sent, errno }] = completions.as_slice() else {
            panic!("{completions:?}")
        };
        filled += sent;
        full = if *errno == Some(Errno(libc::EAGAIN)) { full + 1 } else { 0 };
        std::thread::yield_now();
    }
    // One completion more than the queue holds.
    ring.wakes.notify(0);
    let mut completions = Vec::new();
    ring.turn(&Many(socket, 64 * 78), Wait::No, &mut completions).unwrap();
    let woken = completions.extract_if(.., |completion| matches!(completion, Completion::Woken));
    assert_eq!(woken.count(), 1);
    let mut refused: Vec<_> = completions
        .iter()
        .map(|completion| match completion {
            Completion::SendShort { index, sent: 0, errno: Some(Errno(libc::EAGAIN)) } => *index,
            other => panic!("{other:?}"),
        })
        .collect();
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(refused.len(), completions.len());
    assert!(ring.stats().overflows > 0);
    // The overflow has ended the poll of the eventfd; it must be armed again.
    ring.wakes.notify(0);
    assert!(matches!(turns(&mut ring).as_slice(), [Completion::Woken]));
    // Those that were not reported went out, and no others.
    ring.shutdown(socket);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    let went_out = (0..64 * 78).filter(|index| refused.binary_search(index).is_err());
    let expected: Vec<_> = went_out.map(|index| b"0123456789"[index % 10]).collect();
    assert_eq!(got[filled..], expected);
}

#[test]
fn received_bytes_of_several_connections_share_a_buffer() {
    let (mut ring, address) = ring(&[]);
    if !ring.features().has(Feature::IncrementalBuffers) {
        assert_eq!(ring.stats().buffers_free, 512);
        return;
    }
    let (first, mut first_client) = connected(&mut ring, address);
    first_client.write_all(b"first").unwrap();
    let mut second_client = TcpStream::connect(address).unwrap();
    let Some(Completion::Accepted { socket: second, .. }) = turns(&mut ring).pop() else {
        panic!("accepted")
    };
    second_client.write_all(b"second").unwrap();
    ring.receive(first, Token { slot: 0, generation: 0 });
    ring.receive(second, Token { slot: 1, generation: 0 });
    let completions = turns(&mut ring);
    let leases: Vec<_> = completions
        .into_iter()
        .map(|completion| match completion {
            Completion::Received { lease, .. } => lease,
            other => panic!("{other:?}"),
        })
        .collect();
    let [one, two] = leases.as_slice() else { panic!("{leases:?}") };
    assert_eq!((one.buffer, one.start, one.len), (two.buffer, 0, 5));
    assert_eq!((two.start, two.len), (5, 6));
    assert_eq!(ring.bytes(one), b"first");
    assert_eq!(ring.bytes(two), b"second");
    assert_eq!(ring.stats().buffers_free, 64);
    leases.into_iter().for_each(|lease| ring.release(lease));
}

#[test]
fn a_cancel_reaches_a_receive_that_is_busy() {
    let (mut ring, address) = ring(&[Feature::IncrementalBuffers]);
    let (socket, client) = connected(&mut ring, address);
    client.set_nonblocking(true).unwrap();
    while (&client).write(&[0; 64 * 1024]).is_ok() {}
    // More than the kernel takes in one go: the receive is between two goes when it is cancelled.
    let token = Token { slot: 0, generation: 0 };
    ring.receive(socket, token);
    ring.cancel_receive(socket, token);
    let mut ended = false;
    for _ in 0..100 {
        let mut completions = Vec::new();
        let deadline = ring.now() + Duration::from_millis(2);
        ring.turn(&Nothing, Wait::Until(deadline), &mut completions).unwrap();
        for completion in completions {
            match completion {
                Completion::Received { lease, .. } => ring.release(lease),
                Completion::ReceiveEnded { .. } => ended = true,
                other => panic!("{other:?}"),
            }
        }
        while (&client).write(&[0; 64 * 1024]).is_ok() {}
    }
    assert!(ended);
}

#[test]
fn overflow_ends_multishots_and_loses_nothing() {
    let settings = Settings { submission_entries: 4, completion_entries: 4, ..Settings::default() };
    let (mut ring, address) = ring_with(&settings);
    ring.accept(0);
    let clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut accepted = 0;
    while accepted < clients.len() {
        for completion in turns(&mut ring) {
            match completion {
                Completion::Accepted { .. } => accepted += 1,
                Completion::AcceptEnded { errno: None, .. } => ring.accept(0),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(ring.stats().overflows > 0);
}

/// A ring that accepts one connection at a time and has taken the first of two; the other one waits.
fn ring_that_accepted_the_first() -> (Uring, TcpListener, [TcpStream; 2]) {
    let listener = listen(([127, 0, 0, 1], 0).into(), Options::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let socket = listener.try_clone().unwrap().into();
    let listeners = vec![Listener { socket, takers: Takers::Several }];
    let wakes = Arc::new(Wakes::new(1).unwrap());
    let mut ring = Uring::new(&Settings::default(), Parts { listeners, node: 0, wakes }).unwrap();
    let clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    ring.accept(0);
    let Some(Completion::Accepted { .. }) = turns(&mut ring).pop() else { panic!("accepted") };
    (ring, listener, clients)
}

#[test]
fn a_cancelled_accept_ends_although_a_connection_waits() {
    let (mut ring, listener, _clients) = ring_that_accepted_the_first();
    ring.cancel_accept(0);
    let mut completions = Vec::new();
    let until = Wait::Until(ring.now() + Duration::from_secs(1));
    ring.turn(&Nothing, until, &mut completions).unwrap();
    let ended = matches!(completions[..], [Completion::AcceptEnded { listener: 0, errno: None }]);
    assert!(ended, "{completions:?}");
    listener.set_nonblocking(true).unwrap();
    listener.accept().expect("the connection that waits is still there");
}

#[test]
fn an_accept_that_loses_against_a_connection_ends_when_it_was_cancelled() {
    let (mut ring, _listener, _clients) = ring_that_accepted_the_first();
    let mut completions = Vec::new();
    // As when the kernel accepts while the cancel is on its way: armed again, then cancelled.
    ring.accept_again(&mut completions);
    ring.cancel_accept(0);
    while !matches!(completions.last(), Some(Completion::AcceptEnded { listener: 0, errno: None }))
    {
        let until = ring.now() + Duration::from_secs(1);
        let known = completions.len();
        ring.turn(&Nothing, Wait::Until(until), &mut completions).unwrap();
        assert!(completions.len() > known || ring.now() < until, "{completions:?}");
    }
}

#[test]
fn a_ring_that_goes_accepts_nobody() {
    let (ring, listener, _clients) = ring_that_accepted_the_first();
    drop(ring);
    listener.set_nonblocking(true).unwrap();
    listener.accept().expect("the connection that waits is still there");
}

#[test]
fn rings_that_share_a_listener_take_turns() {
    const CLIENTS: usize = 200;
    let listener = listen(([127, 0, 0, 1], 0).into(), Options::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let wakes = Arc::new(Wakes::new(2).unwrap());
    let all = Arc::new(AtomicUsize::new(0));
    let armed = Arc::new(Barrier::new(3));
    let rings = [0, 1].map(|node| {
        let socket = listener.try_clone().unwrap().into();
        let (wakes, all, armed) = (Arc::clone(&wakes), Arc::clone(&all), Arc::clone(&armed));
        std::thread::spawn(move || {
            let listeners = vec![Listener { socket, takers: Takers::Several }];
            let mut ring =
                Uring::new(&Settings::default(), Parts { listeners, node, wakes }).unwrap();
            ring.accept(0);
            let (mut taken, mut completions) = (0, Vec::new());
            ring.turn(&Nothing, Wait::No, &mut completions).unwrap();
            armed.wait();
            while all.load(SeqCst) < CLIENTS {
                let until = Wait::Until(read_clock() + Duration::from_millis(20));
                ring.turn(&Nothing, until, &mut completions).unwrap();
                for completion in completions.drain(..) {
                    let Completion::Accepted { .. } = completion else { panic!("{completion:?}") };
                    taken += 1;
                    all.fetch_add(1, SeqCst);
                }
            }
            taken
        })
    });
    armed.wait();
    // One after the other: who finds several in the queue may take them all.
    let connect = |already: usize| {
        let client = TcpStream::connect(address).unwrap();
        while all.load(SeqCst) <= already {
            std::thread::yield_now();
        }
        client
    };
    let clients: Vec<_> = (0..CLIENTS).map(connect).collect();
    let taken = rings.map(|ring| ring.join().unwrap());
    drop(clients);
    assert_eq!(taken.iter().sum::<usize>(), CLIENTS);
    assert!(taken.iter().all(|taken| *taken >= CLIENTS / 5), "{taken:?}");
}

/// Wakes a sleeping ring from another ring's thread.
fn wake_across(disable: &[Feature]) -> Stats {
    let wakes = Arc::new(Wakes::new(3).unwrap());
    let settings = Settings { disable: disable.to_vec(), ..Settings::default() };
    let (ready, is_ready) = std::sync::mpsc::channel();
    let sleeper = std::thread::spawn({
        let (settings, wakes) = (settings.clone(), wakes.clone());
        move || {
            let parts = Parts { listeners: Vec::new(), node: 1, wakes };
            let mut ring = Uring::new(&settings, parts).unwrap();
            ready.send(()).unwrap();
            assert!(matches!(turns(&mut ring).as_slice(), [Completion::Woken]));
            *ring.stats()
        }
    });
    is_ready.recv().unwrap();
    let parts = Parts { listeners: Vec::new(), node: 0, wakes: wakes.clone() };
    let mut ring = Uring::new(&settings, parts).unwrap();
    ring.wake(1);
    ring.wake(2);
    ring.turn(&Nothing, Wait::No, &mut Vec::new()).unwrap();
    let stats = sleeper.join().unwrap();
    let mut count = [0; 8];
    assert_eq!(rustix::io::read(wakes.eventfd(2), &mut count), Ok(8));
    assert_eq!(u64::from_ne_bytes(count), 1);
    // The sleeper's ring is gone, so the wake must not go there.
    ring.wake(1);
    ring.turn(&Nothing, Wait::No, &mut Vec::new()).unwrap();
    assert_eq!(ring.stats().wakes_sent, 3);
    stats
}

#[test]
fn a_ring_wakes_another_and_threads_without_one() {
    assert_eq!(wake_across(&[]).wakes_received, 1);
    assert_eq!(wake_across(&[Feature::MsgRing]).wakes_received, 1);
}

#[test]
fn a_deadline_ends_the_wait() {
    let (mut ring, _) = ring(&[]);
    let deadline = ring.now() + Duration::from_millis(20);
    let mut completions = Vec::new();
    ring.turn(&Nothing, Wait::Until(deadline), &mut completions).unwrap();
    assert!(completions.is_empty());
    assert!(ring.now() >= deadline);
}

struct Panicking(Socket);

impl Sends for Panicking {
    fn len(&self) -> usize {
        2
    }
    fn get(&self, index: usize) -> (Socket, &[u8]) {
        assert_eq!(index, 0, "as the test wants");
        (self.0, b"never sent")
    }
}

#[test]
fn sends_of_a_panicking_turn_never_reach_the_kernel() {
    let (mut ring, address) = ring(&[]);
    let (socket, mut client) = connected(&mut ring, address);
    let turn = || ring.turn(&Panicking(socket), Wait::No, &mut Vec::new());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).is_err());
    let again = ring.turn(&Nothing, Wait::No, &mut Vec::new());
    assert_eq!(again, Err(Fatal(Errno(libc::ECANCELED))));
    drop(ring);
    client.set_nonblocking(true).unwrap();
    let nothing = client.read(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock));
}

/// In a process of its own, since the limit of descriptors concerns all threads.
#[test]
fn accepting_ends_when_no_descriptor_is_left() {
    const MARK: &str = "RINGWAY_TEST_DESCRIPTORS";
    if std::env::var_os(MARK).is_some() {
        return run_out_of_descriptors();
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["ring::uring::tests::accepting_ends_when_no_descriptor_is_left", "--exact"])
        .env(MARK, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

fn run_out_of_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (mut ring, address) = ring(&[]);
    let clients: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    let highest = clients.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(u64::try_from(highest).unwrap() + 1 + 3);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    ring.accept(0);
    let mut sockets = Vec::new();
    let mut accept_until_refused = |ring: &mut Uring, count: usize| loop {
        for completion in turns(ring) {
            match completion {
                Completion::Accepted { socket, .. } => sockets.push(socket),
                Completion::AcceptEnded { errno: Some(Errno(libc::EMFILE)), .. } => {
                    assert_eq!(sockets.len(), count);
                    return sockets[0];
                }
                Completion::Closed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let first = accept_until_refused(&mut ring, 3);
    ring.close(first, Token { slot: 0, generation: 0 }, Farewell::Fin);
    ring.accept(0);
    accept_until_refused(&mut ring, 4);
}
