"""A gateway of the tests' own, on free ports."""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "gateway.toml"
STOP_SECONDS_MAX = 5
# Proxies of the environment are for other networks than this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Gateway:
    """One gateway; `start` waits until it takes clients."""

    def __init__(self, *settings):
        self.port, listed_port, self.operator_port = free_ports(3)
        ports = {"listener.0": self.port, "listener.1": listed_port, "operator": self.operator_port}
        flags = [part for key, port in ports.items() for part in ("--set", f"{key}.address=127.0.0.1:{port}")]
        flags += [part for setting in settings for part in ("--set", setting)]
        command = [os.environ["RINGWAY"], "run", "--config", str(CONFIG), *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        # Whatever becomes of the tests, it does not outlive them.
        atexit.register(self.process.kill)

    @classmethod
    async def start(cls, *settings):
        gateway = cls(*settings)
        deadline = time.monotonic() + 8
        while await gateway.readiness() != 200:
            assert gateway.process.poll() is None, "the gateway ended"
            assert time.monotonic() < deadline, "the gateway does not get ready"
            await asyncio.sleep(0.01)
        return gateway

    @property
    def authority(self):
        return f"127.0.0.1:{self.port}"

    def _request(self, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.operator_port}{path}", data=body)
        try:
            with OPENER.open(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()
        except OSError:
            return None, b""

    async def readiness(self):
        """The status of the readiness check; None when nobody answers."""
        status, _ = await asyncio.to_thread(self._request, "/readyz")
        return status

    async def api(self, method, **parameters):
        """Calls a method of the server API and returns the result."""
        _, body = await asyncio.to_thread(self._request, f"/api/{method}", json.dumps(parameters).encode())
        return json.loads(body)["result"]

    async def publish(self, channel, data):
        return await self.api("publish", channel=channel, data=data)

    async def publish_numbers(self, channel, first, last):
        """Publishes the numbers from `first` to `last`, in order."""
        for number in range(first, last + 1):
            await self.publish(channel, number)

    def terminate(self):
        """Asks it to end in order."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self):
        """Waits for its end and returns the exit status."""
        return await asyncio.to_thread(self.process.wait, STOP_SECONDS_MAX)

    async def stop(self):
        """Ends it, in order."""
        self.terminate()
        await self.ended()
