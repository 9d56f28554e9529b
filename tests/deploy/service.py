"""The Debian package under a real systemd: installed, started, reloaded, killed, restarted, removed.

argv: a folder with old.deb and new.deb, of which the latter is newer. Needs root, for systemd-nspawn
and ptrace.
"""

import collections
import ctypes
import os
import pathlib
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request

from gateway import until, upgrade
from machine import Machine, make_root

CLIENTS, OPERATORS = ("127.0.0.1", 8000), "127.0.0.1:9000"
CONFIGURATION = "/etc/ringway/ringway.toml"
# Dials per second while the gateway restarts, and how often it does.
RATE, RESTARTS = 1000, 10
FAST_DRAIN = '[drain]\ngrace = "500ms"\nwindow = "500ms"\n'
REQUEST = upgrade("/echo", "127.0.0.1:8000")
QUICK = f'[echo]\nenabled = true\n[websocket]\nclose_timeout = "500ms"\n{FAST_DRAIN}'


def connect():
    client = socket.create_connection(CLIENTS, timeout=10)
    client.sendall(REQUEST)
    answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return client


def echoes(client):
    """Whether a masked text frame comes back."""
    client.sendall(b"\x81\x82\0\0\0\0hi")
    return client.recv(64) == b"\x81\x02hi"


def close_code(client):
    """The code of the Close that is read next."""
    frame = client.recv(256)
    assert frame[0] == 0x88, frame
    return int.from_bytes(frame[2:4], "big")


def is_ready():
    try:
        return urllib.request.urlopen(f"http://{OPERATORS}/readyz", timeout=2).status == 200
    except OSError:
        return False


def configure(machine, text):
    machine.write(CONFIGURATION, text)


def installs(machine):
    machine.run("dpkg", "--install", "/packages/old.deb")
    assert machine.show("ActiveState") == "active", "it is started"
    assert machine.run("systemctl", "is-enabled", "ringway.service").strip() == "enabled"
    assert machine.run("stat", "--format", "%U:%G %a", CONFIGURATION).strip() == "root:ringway 640"
    assert machine.run("stat", "--format", "%U:%G %a", "/etc/ringway/credentials").strip() == "root:root 700"
    assert "net.core.somaxconn = 16384" in machine.run("cat", "/usr/lib/sysctl.d/60-ringway.conf")
    machine.run("ringway", "check", "--config", CONFIGURATION)


def is_hardened(machine):
    told = machine.run("systemd-analyze", "security", "--threshold=12", "--no-pager", "ringway.service")
    return told.strip().splitlines()[-1]


def is_ready_when_started(machine):
    configure(machine, QUICK)
    times, memory = [], 0
    for _ in range(5):
        machine.run("systemctl", "restart", "ringway.service")
        assert echoes(connect()), "the start has returned, so it serves"
        begun = int(machine.show("ExecMainStartTimestampMonotonic"))
        ready = int(machine.show("ActiveEnterTimestampMonotonic"))
        times.append((ready - begun) / 1000)
        status = pathlib.Path(f"/proc/{machine.host_pid()}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert machine.show("User") == "ringway"
    return f"ready {min(times):.0f} to {max(times):.0f} ms after exec; {memory / 1024:.1f} MiB resident"


def reloads(machine):
    client, process = connect(), machine.show("MainPID")
    configure(machine, QUICK + '[log]\nlevel = "debug"\n')
    machine.run("systemctl", "reload", "ringway.service")
    until("the reload is over", lambda: machine.show("ActiveState") == "active")
    configure(machine, "nonsense = 1\n")
    machine.run("systemctl", "reload", "ringway.service")
    until("the bad reload is over", lambda: machine.show("ActiveState") == "active")
    assert machine.show("MainPID") == process and echoes(client), "nothing has changed"
    configure(machine, QUICK)
    machine.run("systemctl", "reload", "ringway.service")


def restarts_after(machine, harm, patience=20):
    """Does harm to the process, and waits for another one; returns how long it took, in seconds."""
    process, restarts = machine.show("MainPID"), int(machine.show("NRestarts"))
    since = time.monotonic()
    harm(machine.host_pid())
    until("another process", lambda: int(machine.show("NRestarts")) > restarts, patience)
    until("it serves", is_ready)
    assert machine.show("MainPID") != process and echoes(connect())
    return time.monotonic() - since


def comes_back_when_killed(machine):
    return f"serves again after {restarts_after(machine, lambda pid: os.kill(pid, 9)):.1f} s"


def stop_one_thread(pid):
    """Stops a shard's thread alone, as a debugger does: a signal would stop the whole process."""
    libc = ctypes.CDLL(None, use_errno=True)
    attach = 16
    names = {task: (task / "comm").read_text().strip() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}
    thread = next(int(task.name) for task, name in names.items() if name == "shard-0")
    assert libc.ptrace(attach, thread, 0, 0) == 0, os.strerror(ctypes.get_errno())
    # It first stops, and later ends, of which a debugger must take note before the process can end.
    wait_for_clone = 0x40000000
    take_note = lambda: [os.waitpid(thread, wait_for_clone) for _ in range(2)]
    threading.Thread(target=take_note, daemon=True).start()


def is_killed_by_the_watchdog(machine):
    took = restarts_after(machine, stop_one_thread, patience=40)
    log = machine.run("journalctl", "--unit", "ringway.service", "--no-pager", "--lines", "40")
    assert "Watchdog timeout" in log, log
    return f"one shard stood still: serves again after {took:.1f} s"


def gives_up_only_where_trying_again_is_no_use(machine):
    configure(machine, "nonsense = 1\n")
    machine.run("systemctl", "restart", "ringway.service", check=False)
    until("it has failed", lambda: machine.show("ActiveState") == "failed")
    assert machine.show("ExecMainStatus") == "78", machine.show("ExecMainStatus")
    configure(machine, QUICK)
    machine.run("systemctl", "restart", "ringway.service")


def hands_over_credentials(machine):
    folder = "/etc/ringway/credentials"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        + ["-keyout", "/tmp/ringway-key.pem", "-out", "/tmp/ringway-chain.pem"],
        check=True,
        capture_output=True,
    )
    for name in ["key", "chain"]:
        file = pathlib.Path(f"/tmp/ringway-{name}.pem")
        machine.write(f"{folder}/{name}.pem", file.read_text())
        file.unlink()
    machine.run("chmod", "600", f"{folder}/key.pem")
    given = "/run/credentials/ringway.service/key_"
    tls = f'[[listener]]\naddress = "127.0.0.1:8443"\ntls = true\n[[certificate]]\nchain = "{given}chain.pem"\nkey = "{given}key.pem"\n'
    configure(machine, QUICK + tls)
    machine.run("systemctl", "restart", "ringway.service")
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", "127.0.0.1:8443", "-brief"], input="", capture_output=True, text=True
    )
    assert "CN = localhost" in shown.stderr, shown.stderr
    read = machine.run("runuser", "--user", "ringway", "--", "cat", f"{folder}/key.pem", check=False)
    assert "Permission denied" in read, read
    configure(machine, QUICK)
    machine.run("systemctl", "restart", "ringway.service")


class Dialler:
    """Connects and asks for an upgrade so many times a second, and counts what comes of it."""

    def __init__(self):
        self.outcomes = collections.Counter()
        self.dialled, self.seconds = 0, 0
        self.waiting, self.poll = {}, select.epoll()
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def dial(self):
        self.dialled += 1
        client = socket.socket()
        try:
            # On loopback this waits only when the queue of the socket is full.
            client.connect(CLIENTS)
            client.sendall(REQUEST)
        except OSError as error:
            self.outcomes[type(error).__name__] += 1
            client.close()
            return
        self.waiting[client.fileno()] = client
        self.poll.register(client, select.EPOLLIN)

    def hear(self, wait):
        for number, _ in self.poll.poll(wait):
            client = self.waiting.pop(number)
            try:
                answer = client.recv(512)
            except OSError as error:
                answer = type(error).__name__.encode()
            self.outcomes[answer.split(b"\r\n")[0].decode() or "closed without an answer"] += 1
            client.close()

    def run(self):
        begun = time.monotonic()
        while not self.end.is_set():
            due = int((time.monotonic() - begun) * RATE)
            for _ in range(due - self.dialled):
                self.dial()
            self.hear(0.005)
        self.seconds = time.monotonic() - begun
        patience = time.monotonic() + 20
        while self.waiting and time.monotonic() < patience:
            self.hear(0.1)
        self.outcomes["no answer"] += len(self.waiting)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


def restarts_with_its_socket(machine):
    machine.run("systemctl", "stop", "ringway.service")
    machine.run("systemctl", "enable", "--now", "ringway.socket")
    client = socket.create_connection(CLIENTS, timeout=20)
    client.sendall(REQUEST)
    assert client.recv(4096).startswith(b"HTTP/1.1 101"), "whoever connects has it started"
    processes = set()
    with Dialler() as dialler:
        for _ in range(RESTARTS):
            time.sleep(1)
            machine.run("systemctl", "restart", "ringway.service")
            processes.add(machine.show("MainPID"))
    assert len(processes) == RESTARTS, processes
    rate = dialler.dialled / dialler.seconds
    told = f"{dialler.dialled} dialled, {rate:.0f} per second: {dict(+dialler.outcomes)}"
    # Whoever is accepted in the moment in which a drain begins is let go before the answer.
    let_go = dialler.outcomes.pop("closed without an answer", 0)
    assert let_go <= RESTARTS * 3 and set(+dialler.outcomes) == {"HTTP/1.1 101 Switching Protocols"}, told
    machine.run("systemctl", "disable", "--now", "ringway.socket", "ringway.service")
    machine.run("systemctl", "enable", "--now", "ringway.service")
    return f"{RESTARTS} restarts, {told}"


def stops(machine):
    client = connect()
    machine.run("systemctl", "stop", "ringway.service")
    assert close_code(client) == 1012, "clients are told"
    assert machine.show("Result") == "success" and machine.show("ExecMainStatus") == "0"
    machine.run("systemctl", "start", "ringway.service")


def is_upgraded(machine):
    configure(machine, QUICK + "# my own\n")
    process = machine.show("MainPID")
    machine.run("dpkg", "--install", "/packages/new.deb")
    assert machine.show("ActiveState") == "active" and machine.show("MainPID") != process
    assert "my own" in machine.run("cat", CONFIGURATION), "an upgrade leaves the configuration alone"
    assert machine.run("stat", "--format", "%U:%G %a", CONFIGURATION).strip() == "root:ringway 640"


def is_removed(machine):
    machine.run("dpkg", "--remove", "ringway")
    assert not is_ready(), "it is stopped"
    machine.run("test", "-e", CONFIGURATION)
    machine.run("dpkg", "--purge", "ringway")
    left = machine.run("sh", "-c", "ls -d /etc/ringway /var/lib/ringway /usr/bin/ringway 2>/dev/null", check=False)
    assert left.split() == ["/etc/ringway"], left
    # What root had laid there.
    assert machine.run("ls", "/etc/ringway").split() == ["credentials"]
    failed = machine.run("systemctl", "--failed", "--plain", "--no-legend")
    assert "ringway" not in failed, failed


def main():
    make_root()
    cases = [installs, is_hardened, is_ready_when_started, reloads, comes_back_when_killed]
    cases += [is_killed_by_the_watchdog, gives_up_only_where_trying_again_is_no_use, hands_over_credentials]
    cases += [restarts_with_its_socket, stops, is_upgraded, is_removed]
    machine = Machine(pathlib.Path(sys.argv[1]))
    passed = failed = 0
    try:
        for case in cases:
            since = time.monotonic()
            try:
                told = case(machine)
                passed += 1
                print(f"ok      {case.__name__} ({time.monotonic() - since:.0f} s){': ' + told if told else ''}")
            except Exception as error:  # One that fails leaves the others to be tried.
                failed += 1
                print(f"FAILED  {case.__name__}: {error!r}")
                print(machine.run("journalctl", "--unit", "ringway*", "--no-pager", "--lines", "15", check=False))
                configure(machine, QUICK)
                machine.run("systemctl", "restart", "ringway.service", check=False)
            sys.stdout.flush()
    finally:
        machine.halt()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
