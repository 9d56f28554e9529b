//! One turn of the real ring over loopback. Input: a frame of 128 bytes to each of 500 sockets (and
//! the same by send(2), for comparison); 16 bytes echoed by each of 200 connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringway::ring::listen::{Options, listen};
use ringway::ring::uring::{Parts, Settings, Uring};
use ringway::ring::wakes::Wakes;
use ringway::ring::{Completion, Lease, Ring, Sends, Socket, Token, Wait};

/// The same bytes to many sockets.
struct Fanout<'a>(&'a [Socket], &'a [u8]);

impl Sends for Fanout<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> (Socket, &[u8]) {
        (self.0[index], self.1)
    }
}

/// Each connection's own bytes.
struct Echo(Vec<(Socket, Vec<u8>)>);

impl Sends for Echo {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> (Socket, &[u8]) {
        (self.0[index].0, &self.0[index].1)
    }
}

fn connections(count: usize) -> (Uring, Vec<Socket>, Vec<TcpStream>) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = listen(address, Options::default()).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let wakes = Arc::new(Wakes::new(1).expect("an eventfd"));
    let parts = Parts { listeners: vec![listener.into()], node: 0, wakes };
    let mut ring = Uring::new(&Settings::default(), parts).expect("a ring");
    ring.accept(0);
    let connect = |_| TcpStream::connect(address).expect("a connection");
    let clients: Vec<_> = (0..count).map(connect).collect();
    let mut sockets = Vec::new();
    let mut completions = Vec::new();
    while sockets.len() < count {
        turn(&mut ring, &Fanout(&[], b""), &mut completions);
        sockets.extend(completions.drain(..).filter_map(|completion| match completion {
            Completion::Accepted { socket, .. } => Some(socket),
            _ => None,
        }));
    }
    (ring, sockets, clients)
}

fn turn<S: Sends>(ring: &mut Uring, sends: &S, completions: &mut Vec<Completion>) {
    let wait = if sends.is_empty() { Wait::Forever } else { Wait::No };
    ring.turn(sends, wait, completions).expect("a ring that goes on");
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    group.throughput(Throughput::Elements(500));
    let frame = [0x55; 128];
    let (mut ring, sockets, mut clients) = connections(500);
    let mut got = [0; 128];
    let mut completions = Vec::new();
    let mut read = |clients: &mut Vec<TcpStream>| {
        clients.iter_mut().for_each(|client| client.read_exact(&mut got).expect("the frame"));
    };
    // Only the sending is timed: the clients read before the next round, not in the first.
    let mut rounds = 0;
    group.bench_function("ring", |b| {
        let setup = || {
            if rounds > 0 {
                read(&mut clients);
            }
            rounds += 1;
        };
        let send = |()| turn(&mut ring, &Fanout(&sockets, &frame), &mut completions);
        b.iter_batched(setup, send, BatchSize::PerIteration);
    });
    assert!(completions.is_empty());
    let (_listener, mut servers) = pairs(&mut clients);
    rounds = 0;
    group.bench_function("send", |b| {
        let setup = || {
            if rounds > 0 {
                read(&mut clients);
            }
            rounds += 1;
        };
        let send = |()| {
            servers.iter_mut().for_each(|server| server.write_all(&frame).expect("room"));
        };
        b.iter_batched(setup, send, BatchSize::PerIteration);
    });
    group.finish();
}

/// Replaces the clients by ones whose other ends are ordinary sockets.
fn pairs(clients: &mut [TcpStream]) -> (std::net::TcpListener, Vec<TcpStream>) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = listen(address, Options::default()).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let servers = clients.iter_mut().map(|client| {
        *client = TcpStream::connect(address).expect("a connection");
        listener.accept().expect("a connection").0
    });
    let servers = servers.collect();
    (listener, servers)
}

fn echo(c: &mut Criterion) {
    let mut group = c.benchmark_group("echo");
    group.throughput(Throughput::Elements(200));
    let (mut ring, sockets, mut clients) = connections(200);
    for (slot, &socket) in (0..).zip(&sockets) {
        ring.receive(socket, Token { slot, generation: 0 });
    }
    let mut completions = Vec::new();
    let take = |ring: &mut Uring, lease: Lease| {
        let bytes = ring.bytes(&lease).to_vec();
        ring.release(lease);
        bytes
    };
    group.bench_function("16_bytes", |b| {
        b.iter(|| {
            clients.iter_mut().for_each(|client| client.write_all(&[7; 16]).expect("room"));
            let mut echoes = Echo(Vec::new());
            while echoes.len() < sockets.len() {
                turn(&mut ring, &Fanout(&[], b""), &mut completions);
                for completion in completions.drain(..) {
                    match completion {
                        Completion::Received { token, lease } => {
                            let bytes = take(&mut ring, lease);
                            echoes.0.push((sockets[token.slot as usize], bytes));
                        }
                        Completion::ReceiveEnded { token, .. } => {
                            ring.receive(sockets[token.slot as usize], token);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            turn(&mut ring, &echoes, &mut completions);
            let mut got = [0; 16];
            clients.iter_mut().for_each(|client| client.read_exact(&mut got).expect("16 bytes"));
        });
    });
    group.finish();
}

criterion_group!(ring_benches, fan_out, echo);
criterion_main!(ring_benches);
