//! What only the real ring can show.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::ring::End;
use crate::ring::listen::{Options, listen};

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
    let listener = listen(([127, 0, 0, 1], 0).into(), Options::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let wakes = Arc::new(Wakes::new(1).unwrap());
    let parts = Parts { listeners: vec![listener.into()], node: 0, wakes };
    let settings = Settings { disable: disable.to_vec(), ..Settings::default() };
    (Uring::new(&settings, parts).unwrap(), address)
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
    eprintln!("{:?} {:?}", ring.features(), ring.stats());
}

#[test]
fn echo_with_every_feature() {
    echo(&[]);
}

#[test]
fn echo_without_optional_features() {
    echo(&Feature::ALL);
}
