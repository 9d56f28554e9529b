"""A gateway with settings of its own, and clients that behave well or badly."""

import base64
import contextlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request

API_KEY = "a-key-for-tests-only"


# Below those that the kernel gives to connections: a gateway that starts again finds its own free.
PORTS = iter(range(21_000, 32_000))


def free_port():
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free between 21000 and 32000")


class Gateway:
    """`$RINGWAY` on two ports that stay the same when it is started again."""

    def __init__(self, name, folder, *settings, open_files=None):
        folder.mkdir()
        self.folder, self.open_files = folder, open_files
        self.settings = [setting.format(folder=folder) for setting in settings]
        self.log = open(folder / f"{name}.log", "ab")
        self.clients, self.operators = free_port(), free_port()
        self.process = None

    @property
    def instance(self):
        return f"127.0.0.1:{self.operators}"

    def start(self):
        settings = [
            f"listener.0.address=127.0.0.1:{self.clients}",
            f"operator.address={self.instance}",
            f"operator.api_key={API_KEY}",
            "echo.enabled=true",
            *self.settings,
        ]
        command = [os.environ["RINGWAY"], "run", *(f"--set={setting}" for setting in settings)]
        limit = self.open_files
        before = limit and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        self.process = subprocess.Popen(command, stderr=self.log, preexec_fn=before)
        deadline = time.monotonic() + 20
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway did not start: {self.log.name}")
            time.sleep(0.05)

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://{self.instance}/readyz", timeout=2).status == 200
        except OSError:
            return False

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = urllib.request.urlopen(f"http://{self.instance}/metrics", timeout=5).read().decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name)]
        return sum(float(value) for series, value in lines if series.split("{")[0] == name)

    def connections(self):
        return self.metric("ringway_connections")

    def publish(self, channel, data, key=API_KEY):
        """The status of the answer to a publication by the server API."""
        request = urllib.request.Request(
            f"http://{self.instance}/api/publish",
            json.dumps({"channel": channel, "data": data}).encode(),
            {"X-API-Key": key, "Content-Type": "application/json"},
        )
        try:
            return urllib.request.urlopen(request, timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code

    def connect(self, path="/echo", origin=None, read_bytes=None):
        """A socket and the status that its request for an upgrade was answered with."""
        client = socket.socket()
        if read_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_bytes)
        client.settimeout(5)
        client.connect(("127.0.0.1", self.clients))
        try:
            client.sendall(upgrade(path, f"127.0.0.1:{self.clients}", origin))
            status = client.recv(4096).split(b" ")[1:2]
        except OSError:
            status = []
        return client, int(status[0]) if status else None


def until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.1)


def upgrade(path, host, origin=None):
    """A request for an upgrade."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    )
    head += f"Origin: {origin}\r\n\r\n" if origin else "\r\n"
    return head.encode()


def reset(client):
    """Ends a connection without a word."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
