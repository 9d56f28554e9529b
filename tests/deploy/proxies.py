"""The gateway behind nginx and HAProxy, with the configurations that docs/operations.md shows.

Each passes WebSocket on, and tells the gateway the address of the client and the scheme of the page.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from gateway import API_KEY, Gateway, free_port, upgrade

GUIDE = (pathlib.Path(__file__).parents[2] / "docs/operations.md").read_text()
# Any address of the loopback network, so long as no server has it.
CLIENT = "127.0.0.5"


def snippet(language):
    """The example in that language, of which there is one."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return found


def connect(port, origin):
    """A client of the proxy that says where its page is from; its upgrade must succeed."""
    client = socket.socket()
    client.bind((CLIENT, 0))
    client.settimeout(5)
    client.connect(("127.0.0.1", port))
    client.sendall(upgrade("/echo", f"127.0.0.1:{port}", origin))
    answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    client.sendall(b"\x81\x82\0\0\0\0hi")
    assert client.recv(64) == b"\x81\x02hi"
    return client


def ends(gateway):
    """What the gateway remembers of connections that have ended."""
    url = f"http://{gateway.instance}/debug/closes"
    request = urllib.request.Request(url, headers={"X-API-Key": API_KEY})
    return json.load(urllib.request.urlopen(request, timeout=5))["closes"]


def serves(gateway, port):
    deadline = time.monotonic() + 10
    while True:
        try:
            client = connect(port, f"http://127.0.0.1:{port}")
            break
        except (OSError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    client.close()
    while not (closed := [end for end in ends(gateway) if end["protocol"] == "echo"]):
        assert time.monotonic() < deadline, "the end is not remembered"
        time.sleep(0.1)
    assert closed[0]["address"].startswith(f"{CLIENT}"), closed[0]
    assert closed[0]["proxy"].startswith("127.0.0.1"), closed[0]


def behind(name, folder, settings, text, command):
    """Starts a proxy with `text` as its configuration and a gateway behind it."""
    gateway = Gateway(name, folder / name, 'listener.0.trusted_proxies=["127.0.0.1"]', *settings)
    port = free_port()
    file = folder / f"{name}.conf"
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{gateway.clients}")
    text = text.replace("port 9000", f"port {gateway.operators}")
    for written in ["listen 80;", "bind :80"]:
        text = text.replace(written, written.replace(":80", f"127.0.0.1:{port}").replace(" 80", f" 127.0.0.1:{port}"))
    file.write_text(text)
    gateway.start()
    proxy = subprocess.Popen([argument.format(file=file, folder=folder) for argument in command])
    try:
        serves(gateway, port)
        print(f"ok      {name}")
        return True
    except (OSError, AssertionError) as error:
        print(f"FAILED  {name}: {error!r}")
        return False
    finally:
        proxy.terminate()
        proxy.wait()
        gateway.kill()


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        nginx = "events {}\nerror_log stderr;\npid nginx.pid;\nhttp {\naccess_log off;\n" + snippet("nginx") + "}\n"
        results = [
            behind("nginx", folder, [], nginx, ["nginx", "-p", "{folder}", "-c", "{file}", "-g", "daemon off;"]),
            behind(
                "haproxy",
                folder,
                ["listener.0.proxy_protocol=required"],
                snippet("haproxy"),
                ["haproxy", "-db", "-f", "{file}"],
            ),
        ]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


sys.exit(main())
