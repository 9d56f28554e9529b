//! What a service manager is told, and what it hands over; the commands for a gateway that runs.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::gateway::client::Client;
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::{Gateway, PATIENCE, activated, free_address, ringway};

const KEY: &str = "a key that is long enough";

/// A service manager's ear.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().expect("there is room");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { socket, folder }
    }

    fn command(&self) -> Command {
        let mut command = ringway();
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command
    }

    /// The next message.
    fn hear(&self) -> String {
        let mut message = [0; 1024];
        let len = self.socket.recv(&mut message).expect("it is told in time");
        String::from_utf8(message[..len].to_vec()).expect("it is told text")
    }
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the daemon was built");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    (status.code(), text(stdout) + &text(stderr))
}

/// A command for this gateway.
fn remote(gateway: &Gateway, words: &[&str]) -> Command {
    let mut command = ringway();
    command.args(words).arg("--config").arg(gateway.config());
    command.arg("--set").arg(format!("operator.address={}", gateway.operators()));
    command
}

#[test]
fn the_manager_hears_of_readiness_and_of_the_end_and_how_long_that_takes() {
    let manager = Manager::new();
    let gateway = Gateway::start_by(manager.command(), &["drain.window=\"3s\""]);
    assert_eq!(manager.hear(), "READY=1\nSTATUS=serving\n");
    let mut client = gateway.open("/echo");
    gateway.signal(Signal::TERM);
    // drain.window, websocket.close_timeout, and twice two seconds for those that do not end.
    let told = "STOPPING=1\nEXTEND_TIMEOUT_USEC=12000000\nSTATUS=draining 1 connections\n";
    assert_eq!(manager.hear(), told);
    assert_eq!(client.read_close().0, Some(1012));
    client.send_close(1012);
    drop(client);
    assert_eq!(gateway.end().0.code(), Some(0));
}

#[test]
fn the_watchdog_is_fed_while_the_shards_turn() {
    let manager = Manager::new();
    let mut command = manager.command();
    command.env("WATCHDOG_USEC", "800000");
    let gateway = Gateway::start_by(command, &["shards=2"]);
    let mut told = vec![manager.hear(), manager.hear()];
    told.sort_unstable();
    assert_eq!(told, ["READY=1\nSTATUS=serving\n", "WATCHDOG=1\n"]);
    let began = now();
    for _ in 0..10 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    // Four times in 800 ms.
    let took = now() - began;
    assert!(took > ms(1_500) && took < ms(6_000), "{took:?}");
    gateway.finish();
}

#[test]
fn nobody_is_refused_while_an_activated_gateway_restarts() {
    let [clients, operators] = [(); 2].map(|()| TcpListener::bind(free_address()).expect("free"));
    let address = clients.local_addr().expect("it is bound");
    for _ in 0..3 {
        let gateway = Gateway::start_activated([&clients, &operators], &["shards=2"]);
        let mut client = gateway.open("/echo");
        client.send_text("now");
        assert_eq!(client.read_text(), "now");
        drop(client);
        gateway.finish();
        // There is no gateway; the next one serves whoever comes now.
        let mut early: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
        let gateway = Gateway::start_activated([&clients, &operators], &["shards=2"]);
        for client in &mut early {
            client.upgrade("/echo");
            client.send_text("early");
            assert_eq!(client.read_text(), "early");
        }
        assert!(gateway.log().contains("by the service manager's socket"), "{}", gateway.log());
        drop(early);
        gateway.finish();
    }
}

#[test]
fn a_socket_that_no_listener_wants_is_named() {
    let [first, second] = [(); 2].map(|()| TcpListener::bind(free_address()).expect("free"));
    let mut command = activated([&first, &second], "ringway.socket:operator");
    command.args(["run", "--set", &format!("listener.0.address={}", free_address())]);
    let (code, told) = run(&mut command);
    assert_eq!(code, Some(78), "{told}");
    let unused = first.local_addr().expect("it is bound");
    let line = format!("(ringway.socket) has no use: no listener.address is {unused}");
    assert!(told.contains(&line), "{told}");
}

#[test]
fn health_is_asked_of_the_port_in_the_configuration() {
    let gateway = Gateway::start(&["drain.grace=\"20s\""]);
    assert_eq!(run(&mut remote(&gateway, &["health"])), (Some(0), "ok\n".to_owned()));
    let _client = gateway.open("/echo");
    gateway.signal(Signal::TERM);
    while !gateway.log().contains("draining") {
        pause(ms(5));
    }
    let (code, told) = run(&mut remote(&gateway, &["health"]));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.starts_with("ringway: not well: draining: no clients"), "{told}");
    assert_eq!(run(&mut remote(&gateway, &["health", "--live"])), (Some(0), "ok\n".to_owned()));
    gateway.signal(Signal::TERM);
    gateway.end();
    let nobody = format!("operator.address={}", free_address());
    let (code, told) = run(ringway().args(["health", "--set", &nobody]));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("does not answer: ") && told.contains("does it run?"), "{told}");
    let (code, told) = run(ringway().args(["health", "--set", "operator.address=\"\""]));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("operator.address is empty"), "{told}");
}

#[test]
fn a_drain_by_order_wants_the_key_and_is_joined_by_the_first_signal() {
    let key = format!("operator.api_key={KEY:?}");
    let usual = ["operator.api_insecure=false", &key, "drain.window=\"1500ms\""];
    let gateway = Gateway::start(&usual);
    let mut client = gateway.open("/echo");
    let (code, told) = run(&mut remote(&gateway, &["drain"]));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("unauthorized"), "{told}");
    let mut command = remote(&gateway, &["drain", "--set", &key]);
    command.args(["--set", "drain.window=\"1500ms\""]);
    let (code, told) = run(&mut command);
    assert_eq!((code, &*told), (Some(0), "draining: 1 connections, at most 10.5 s\n"));
    gateway.signal(Signal::TERM);
    assert_eq!(client.read_close().0, Some(1012));
    client.send_close(1012);
    drop(client);
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("an order") && log.contains("all connections have ended"), "{log}");
}

#[test]
fn a_drain_can_be_waited_for_and_begun_by_process() {
    let gateway = Gateway::start(&[]);
    let (code, told) = run(remote(&gateway, &["drain", "--wait"]).env("RUST_BACKTRACE", "0"));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.ends_with("the gateway has ended\n"), "{told}");
    assert_eq!(gateway.end().0.code(), Some(0));

    let gateway = Gateway::start(&[]);
    let pid = gateway.usage().process.to_string();
    assert_eq!(run(ringway().args(["drain", "--pid", &pid])), (Some(0), String::new()));
    assert_eq!(gateway.end().0.code(), Some(0));
    let own = std::process::id().to_string();
    let (code, told) = run(ringway().args(["drain", "--pid", &own]));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("not a gateway: check --pid"), "{told}");
}

#[test]
fn without_a_key_the_refusal_says_what_to_do() {
    let gateway = Gateway::start(&["operator.api_insecure=false"]);
    let (code, told) = run(&mut remote(&gateway, &["drain"]));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("set operator.api_key") && told.contains("--pid"), "{told}");
    gateway.finish();
}
