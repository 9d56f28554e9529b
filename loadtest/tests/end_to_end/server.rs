//! A tiny server with faults on demand: one thread per connection, frames read and written by hand.
//!
//! `/echo`, `/topic/NAME` and `/connection/websocket` are as in Ringway; a segment behind the
//! first, as in `/echo/drop`, asks for a [`Fault`].

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server does wrong with one message of fifty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Drop,
    Swap,
    Duplicate,
    Corrupt,
    /// Not wrong: a ping, and the message in two frames.
    Fragment,
    /// Leaves without a Close.
    Leave,
    /// Not wrong: closes with 1012 as soon as it can.
    Restart,
    /// Not wrong where clients do not read: ends the stream after a while.
    Kick,
    /// Keeps the stream open after the closing handshake.
    Linger,
}

type Writer = Arc<Mutex<TcpStream>>;

#[derive(Default)]
struct Topic {
    receivers: Vec<Writer>,
    line: Line,
}

/// Messages on their way to the same receivers.
#[derive(Default)]
struct Line {
    count: u64,
    held: Option<Vec<u8>>,
}

impl Line {
    /// What is to be sent now that `message` has come.
    fn pass(&mut self, fault: Fault, mut message: Vec<u8>) -> Vec<Vec<u8>> {
        self.count += 1;
        let held = self.held.take();
        let mut out = match (self.count % 50 == 25, fault) {
            (true, Fault::Drop) => vec![],
            (true, Fault::Duplicate) => vec![message.clone(), message],
            (true, Fault::Swap) => {
                self.held = Some(message);
                vec![]
            }
            (true, Fault::Corrupt) => {
                let last = message.iter().rposition(|byte| *byte == b'.' || *byte == b'x');
                message[last.expect("payloads have filler")] = b'!';
                vec![message]
            }
            _ => vec![message],
        };
        out.extend(held);
        out
    }
}

type Topics = Arc<Mutex<BTreeMap<String, Topic>>>;

/// Starts a server; it lives as long as the test process.
pub(crate) fn start() -> SocketAddr {
    start_at("127.0.0.1:0".parse().expect("an address"))
}

/// Starts a server at this address.
pub(crate) fn start_at(addr: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(addr).expect("the address is free");
    let addr = listener.local_addr().expect("a bound address");
    let topics = Topics::default();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let topics = Arc::clone(&topics);
            // A client that leaves in the middle ends its thread, nothing else.
            thread::spawn(move || _ = serve(stream, &topics));
        }
    });
    addr
}

fn serve(stream: TcpStream, topics: &Topics) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let path = upgrade(&mut reader, &stream)?;
    let writer: Writer = Arc::new(Mutex::new(stream));
    let fault = match path.split('/').nth(2) {
        Some("drop") => Fault::Drop,
        Some("swap") => Fault::Swap,
        Some("duplicate") => Fault::Duplicate,
        Some("corrupt") => Fault::Corrupt,
        Some("fragment") => Fault::Fragment,
        Some("restart") => Fault::Restart,
        Some("leave") => Fault::Leave,
        Some("linger") => Fault::Linger,
        Some("kick") => Fault::Kick,
        _ => Fault::None,
    };
    if path.starts_with("/topic/") {
        subscribe(topics, &path, &writer);
    }
    if fault == Fault::Restart {
        send(&writer, 0x88, &1012_u16.to_be_bytes())?;
        read_frame(&mut reader)?;
        return writer.lock().expect("no writer panics").shutdown(Shutdown::Both);
    }
    if fault == Fault::Kick {
        send(&writer, 0x81, &[b'x'; 100])?;
        thread::park_timeout(Duration::from_millis(200));
        return writer.lock().expect("no writer panics").shutdown(Shutdown::Both);
    }
    let mut line = Line::default();
    loop {
        let (opcode, message) = read_frame(&mut reader)?;
        match opcode {
            0x8 => {
                send(&writer, 0x88, &message)?;
                if fault == Fault::Linger {
                    loop {
                        thread::park();
                    }
                }
                // Topics keep a handle, so letting go of this one would not end the stream.
                return writer.lock().expect("no writer panics").shutdown(Shutdown::Both);
            }
            0xA => assert_eq!(message, b"are you there"),
            _ if fault == Fault::Leave => return Ok(()),
            _ if path.starts_with("/topic/") => publish(topics, &path, fault, message)?,
            _ if path.starts_with("/connection/") => centrifuge(topics, fault, &writer, &message)?,
            _ => {
                for message in line.pass(fault, message) {
                    deliver(&writer, fault, &message)?;
                }
            }
        }
    }
}

/// Reads the request, answers it, and returns its path.
fn upgrade(reader: &mut BufReader<TcpStream>, mut stream: &TcpStream) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    // The key and the answer to it of RFC 6455 §1.3.
    assert!(head.contains("\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{head}");
    let path = head.split(' ').nth(1).expect("a request line").to_owned();
    if path == "/busy" {
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    Ok(path)
}

fn read_frame(reader: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    assert_eq!(head[0] & 0xF0, 0x80, "whole messages, no extension");
    assert_eq!(head[1] & 0x80, 0x80, "clients mask");
    let length = match head[1] & 0x7F {
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            usize::from(u16::from_be_bytes(length))
        }
        127 => panic!("no test sends that much"),
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    reader.read_exact(&mut mask)?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload)?;
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
    Ok((head[0] & 0x0F, payload))
}

fn send(writer: &Writer, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(short @ ..=125) => frame.push(short),
        _ => {
            frame.push(126);
            let length = u16::try_from(payload.len()).expect("no test sends that much");
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    writer.lock().expect("no writer panics").write_all(&frame)
}

fn deliver(writer: &Writer, fault: Fault, message: &[u8]) -> io::Result<()> {
    if fault != Fault::Fragment {
        return send(writer, 0x81, message);
    }
    let (front, back) = message.split_at(message.len() / 2);
    send(writer, 0x01, front)?;
    send(writer, 0x89, b"are you there")?;
    send(writer, 0x80, back)
}

fn subscribe(topics: &Topics, name: &str, writer: &Writer) {
    let mut topics = topics.lock().expect("no holder panics");
    topics.entry(name.to_owned()).or_default().receivers.push(Arc::clone(writer));
}

fn publish(topics: &Topics, name: &str, fault: Fault, message: Vec<u8>) -> io::Result<()> {
    let mut topics = topics.lock().expect("no holder panics");
    let topic = topics.get_mut(name).expect("publishers are subscribers");
    for message in topic.line.pass(fault, message) {
        topic.receivers.retain(|receiver| deliver(receiver, Fault::None, &message).is_ok());
    }
    Ok(())
}

/// Just enough of the protocol: commands are told by their shape.
fn centrifuge(topics: &Topics, fault: Fault, writer: &Writer, message: &[u8]) -> io::Result<()> {
    let text = std::str::from_utf8(message).expect("commands are text");
    for command in text.lines() {
        let value: serde_json::Value = serde_json::from_str(command).expect("commands are JSON");
        let id = &value["id"];
        if value.get("connect").is_some() {
            let reply =
                format!(r#"{{"id":{id},"connect":{{"client":"c","ping":25,"pong":true}}}}"#);
            send(writer, 0x81, reply.as_bytes())?;
        } else if let Some(channel) = value["subscribe"]["channel"].as_str() {
            subscribe(topics, channel, writer);
            // The reply and a ping in one message, as the protocol allows.
            let reply = format!("{{\"id\":{id},\"subscribe\":{{}}}}\n{{}}");
            send(writer, 0x81, reply.as_bytes())?;
        } else if let Some(channel) = value["publish"]["channel"].as_str() {
            let data = &value["publish"]["data"];
            if channel.starts_with("closed") {
                let reply = format!(r#"{{"id":{id},"error":{{"code":103,"message":"no"}}}}"#);
                send(writer, 0x81, reply.as_bytes())?;
                continue;
            }
            let push = format!(
                r#"{{"push":{{"channel":"{channel}","pub":{{"data":{data},"offset":1}}}}}}"#
            );
            publish(topics, channel, fault, push.into_bytes())?;
            send(writer, 0x81, format!(r#"{{"id":{id},"publish":{{}}}}"#).as_bytes())?;
        } else {
            assert_eq!(command, "{}", "the answer to a ping");
        }
    }
    Ok(())
}
