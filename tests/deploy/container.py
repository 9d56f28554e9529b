"""The image under a real container engine, confined as docs/operations.md says.

argv: a static gateway. Starts a dockerd of its own, which changes neither the network nor the images of
another one; needs root.
"""

import contextlib
import json
import os
import pathlib
import re
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from gateway import until, upgrade

TOP = pathlib.Path(__file__).parents[2]
PROFILE = TOP / "deploy/docker/seccomp.json"
OPERATORS = "127.0.0.1:9000"
SETTINGS = """
[echo]
enabled = true
[drain]
grace = "100ms"
window = "500ms"
"""


class Engine:
    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | {"DOCKER_HOST": f"unix://{folder}/socket"}
        self.process = subprocess.Popen(
            ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", f"--host=unix://{folder}/socket"]
            + [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"],
            stderr=open(folder / "dockerd.log", "wb"),
        )
        until("the engine answers", lambda: self.docker("info", check=False)[0] == 0, 60)

    def docker(self, *arguments, check=True):
        """The status of a command and all that it says."""
        command = ["docker", *arguments]
        done = subprocess.run(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert not check or done.returncode == 0, f"{shlex.join(command)}: {done.stdout}"
        return done.returncode, done.stdout.strip()

    def inspect(self, what):
        return json.loads(self.docker("inspect", what)[1])[0]

    def end(self):
        self.process.terminate()
        self.process.wait()
        # The network of the host, which it keeps for containers that use it.
        subprocess.run(["umount", self.folder / "exec/netns/default"], check=False)


def documented(folder, profile=PROFILE):
    """The arguments of `docker run` in the guide, for a folder with settings and a profile."""
    guide = (TOP / "docs/operations.md").read_text()
    (line,) = re.findall(r"^docker run (.*?)^```", guide.replace("\\\n", ""), re.DOTALL | re.MULTILINE)
    # Who may not raise limits tries with those that there are.
    for kind, limit in [("nofile", resource.RLIMIT_NOFILE), ("memlock", resource.RLIMIT_MEMLOCK)]:
        most = resource.getrlimit(limit)[1]
        if most != resource.RLIM_INFINITY:
            line = re.sub(rf"{kind}=(\d+)", lambda match: f"{kind}={min(int(match[1]), most)}", line)
    line = line.replace("deploy/docker/seccomp.json", str(profile)).replace("/etc/ringway:", f"{folder}:", 1)
    *options, image = shlex.split(line)
    return options, image


def is_ready():
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://{OPERATORS}/readyz", timeout=2).status == 200
    return False


def metric(name):
    text = urllib.request.urlopen(f"http://{OPERATORS}/metrics", timeout=5).read().decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))


def holds_one_binary(engine, folder):
    engine.docker("create", "--name", "look", "ringway")
    files = subprocess.run(
        "docker export look | tar --list", shell=True, env=engine.environment, text=True, stdout=subprocess.PIPE
    )
    engine.docker("rm", "look")
    # What the engine itself makes for every container.
    made = ["dev/", "proc/", "sys/", ".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"]
    left = [file for file in files.stdout.split() if not file.startswith(tuple(made)) and file not in ["etc/"]]
    assert left == ["etc/ringway/", "etc/ringway/ringway.toml", "ringway"], left
    return f"{engine.inspect('ringway')['Size'] / 2**20:.1f} MiB"


def serves_confined(engine, folder):
    options, image = documented(folder)
    engine.docker("run", "--detach", "--name", "gateway", *options, image)
    until("it is ready", is_ready)
    client = socket.create_connection(("127.0.0.1", 8000), timeout=5)
    client.sendall(upgrade("/echo", "127.0.0.1:8000"))
    assert client.recv(4096).startswith(b"HTTP/1.1 101")
    client.sendall(b"\x81\x82\0\0\0\0hi")
    assert client.recv(64) == b"\x81\x02hi"
    state = engine.inspect("gateway")
    status = pathlib.Path(f"/proc/{state['State']['Pid']}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == ["65534"] * 4 and facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2"
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0, facts
    assert state["HostConfig"]["ReadonlyRootfs"]
    limit = state["HostConfig"]["Memory"]
    assert metric("ringway_memory_budget_bytes") == limit // 100 * 75, "its share of the limit"
    until("the engine finds it healthy", lambda: engine.inspect("gateway")["State"]["Health"]["Status"] == "healthy")
    engine.docker("stop", "gateway")
    frame = client.recv(256)
    assert frame[:1] == b"\x88" and int.from_bytes(frame[2:4], "big") == 1012, frame
    ended = engine.inspect("gateway")["State"]
    assert ended["ExitCode"] == 0 and not ended["OOMKilled"], ended
    engine.docker("rm", "gateway")
    return f"{int(facts['VmRSS'].split()[0]) / 1024:.1f} MiB resident"


class NameServer(threading.Thread):
    """Knows one name, broker.test; answers on a loopback address that nobody else uses."""

    ADDRESS = "127.0.0.7"

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.ADDRESS, 53))
        self.start()

    def run(self):
        while True:
            question, asker = self.socket.recvfrom(512)
            end = question.index(b"\0", 12) + 5
            is_known = question[12:end] == b"\6broker\4test\0" + b"\0\1\0\1"
            # Type A, class IN, for a minute, four bytes.
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([127, 0, 0, 9]) if is_known else b""
            head = question[:2] + (b"\x81\x80" if is_known else b"\x81\x83")
            self.socket.sendto(head + b"\0\1\0" + bytes([is_known]) + b"\0\0\0\0" + question[12:end] + answer, asker)


def resolves_host_names(engine, folder):
    """By the same libc, linked in, in an image as empty and confined the same way."""
    NameServer()
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY resolve /resolve\nENTRYPOINT ["/resolve"]\n')
    source = TOP / "tests/deploy/resolve.c"
    subprocess.run(["cc", "-static", "-o", folder / "resolve", source], check=True, stderr=subprocess.DEVNULL)
    engine.docker("build", "--tag", "resolve", str(folder))
    options, _ = documented(folder)
    ask = ["run", "--rm", "--dns", NameServer.ADDRESS, "--add-host", "near.test:127.0.0.8", *options, "resolve"]
    found = {name: engine.docker(*ask, name, check=False)[1].splitlines()[-1] for name in ["broker.test", "near.test", "lost.test"]}
    assert found["broker.test"] == "127.0.0.9" and found["near.test"] == "127.0.0.8", found
    assert found["lost.test"] == "Name or service not known", found
    return "by DNS and by /etc/hosts"


def says_what_refuses_io_uring(engine, folder):
    profile = json.loads(PROFILE.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if not name.startswith("io_uring")]
    blocking = folder / "blocking.json"
    blocking.write_text(json.dumps(profile))
    options, image = documented(folder, blocking)
    since = time.monotonic()
    status, said = engine.docker("run", "--rm", *options, image, check=False)
    assert status == 78, (status, said)
    assert "seccomp" in said and "io_uring" in said, said
    return f"status 78 after {time.monotonic() - since:.1f} s: {said.splitlines()[-1]}"


def main():
    cases = [holds_one_binary, serves_confined, says_what_refuses_io_uring, resolves_host_names]
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        engine = Engine(folder)
        try:
            build = [TOP / "deploy/docker/build.sh", sys.argv[1], "ringway"]
            subprocess.run(build, env=engine.environment, check=True, stdout=subprocess.DEVNULL)
            settings = folder / "settings"
            settings.mkdir()
            (settings / "ringway.toml").write_text(SETTINGS)
            for case in cases:
                try:
                    told = case(engine, settings)
                    passed += 1
                    print(f"ok      {case.__name__}: {told}")
                except Exception as error:  # One that fails leaves the others to be tried.
                    failed += 1
                    print(f"FAILED  {case.__name__}: {error!r}")
                    print(engine.docker("logs", "gateway", check=False)[1])
                    engine.docker("rm", "--force", "gateway", check=False)
                sys.stdout.flush()
        finally:
            engine.end()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
