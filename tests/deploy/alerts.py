"""Makes every alert fire for a real cause, under Debian's Prometheus, and cease when the cause is gone.

The rules are those of deploy/prometheus with shorter times: what counts over minutes counts over
seconds here (`SHORTER`), and `for` is one second. Thresholds stay. RingwayPanics is left out, since
nothing makes the gateway panic; promtool tests its rule.
"""

import concurrent.futures
import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from gateway import Gateway, free_port, reset, until

TOP = pathlib.Path(__file__).parents[2]
RULES = TOP / "deploy/prometheus"
SHORTER = {"5m": "8s", "10m": "10s", "15m": "15s", "1h": "15s"}
NOT_TRIED = {"RingwayPanics"}
# True from the start on: the certificate itself is the cause.
IMMEDIATE = {"RingwayCertificateEndsSoon", "RingwayCertificateEndsNow"}
# Cases under way together. More of them would be short of the cores, and late for that.
AT_ONCE = 3


class Prometheus:
    def __init__(self, folder, instances):
        for name in ["ringway.recording.yml", "ringway.alerts.yml"]:
            text = (RULES / name).read_text()
            text = re.sub(r"\[(\d+[mh])\]", lambda match: f"[{SHORTER[match[1]]}]", text)
            text = re.sub(r"for: \d+m", "for: 1s", text)
            (folder / name).write_text(text)
        text = (RULES / "prometheus.yml").read_text().replace(": 15s", ": 1s")
        text = text.replace('["127.0.0.1:9000"]', json.dumps(instances))
        (folder / "prometheus.yml").write_text(text)
        self.address = f"127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml"]
            + [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.address}"],
            stderr=open(folder / "prometheus.log", "wb"),
        )

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=2).status == 200
        except OSError:
            return False

    def ask(self, query):
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        answer = json.load(urllib.request.urlopen(url, timeout=10))
        assert answer["status"] == "success", (query, answer)
        return answer["data"]["result"]

    def fires(self, alert, gateway):
        labels = f'alertname="{alert}",alertstate="firing",instance="{gateway.instance}"'
        return bool(self.ask(f"ALERTS{{{labels}}}"))


class Again:
    """Does something over and over, for as long as a block lasts."""

    def __init__(self, pause, act):
        self.pause, self.act = pause, act
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.end.is_set():
            self.act()
            self.end.wait(self.pause)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


@contextlib.contextmanager
def load(gateway, *arguments):
    """The load generator for as long as a block lasts; it is not asked for its verdict."""
    generator = pathlib.Path(os.environ["RINGWAY"]).with_name("ringway-loadtest")
    command = [generator, *arguments, "--addr", f"127.0.0.1:{gateway.clients}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def certificate(folder, days):
    """Makes a certificate for so many days; an older one stays until the new one is whole."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-days", str(days), "-subj", "/CN=x.test", "-addext", "subjectAltName=DNS:x.test"]
        + ["-keyout", folder / "new.key", "-out", folder / "new.pem"],
        check=True,
        capture_output=True,
    )
    for kind in ["key", "pem"]:
        (folder / f"new.{kind}").rename(folder / f"x.{kind}")


# In the folder of a case; certificate() fills it.
SECURE = [
    "listener.0.tls=true",
    "tls.reload_interval=1s",
    "certificate.0.chain={folder}/x.pem",
    "certificate.0.key={folder}/x.key",
]
CASES = []


def case(alert, *settings, days=None, open_files=None):
    """Registers how an alert comes about: the function makes it true, yields, and makes it good again."""

    def register(cause):
        CASES.append((alert, cause, settings, days, open_files))

    return register


@case("RingwayDown")
def down(gateway):
    gateway.kill()
    yield
    gateway.start()


@case("RingwayRestarts")
def restarts(gateway):
    for _ in range(4):
        gateway.kill()
        gateway.start()
        time.sleep(2)
    yield


@case("RingwayClientsLost")
def clients_lost(gateway):
    with load(gateway, "idle", "--connections", "300", "--path", "/echo", "--secs", "60"):
        until("300 clients", lambda: gateway.connections() == 300)
        time.sleep(3)
    yield


@case("RingwayClientsTurnedAway", "limits.connections_max=5")
def clients_turned_away(gateway):
    kept = [gateway.connect()[0] for _ in range(5)]
    with Again(0.05, lambda: gateway.connect()[0].close()):
        yield
    for client in kept:
        client.close()


@case("RingwayClientsForbidden")
def clients_forbidden(gateway):
    with Again(0.05, lambda: gateway.connect(origin="https://evil.test")[0].close()):
        yield


@case("RingwayAcceptPaused", "limits.connections_max=2000", open_files=300)
def accept_paused(gateway):
    with load(gateway, "idle", "--connections", "400", "--path", "/echo", "--secs", "60"):
        yield


@case("RingwaySlowClients")
def slow_clients(gateway):
    names = itertools.count()

    def overflow():
        topic = f"slow-{next(names)}"
        client, _ = gateway.connect(f"/topic/{topic}", read_bytes=4096)
        for _ in range(40):
            gateway.publish(topic, "x" * 60_000)
        client.close()

    with Again(0.1, overflow):
        yield


@case("RingwayClientsCutOff")
def clients_cut_off(gateway):
    with Again(0.02, lambda: reset(gateway.connect()[0])):
        yield


@case("RingwayLoopLag", "websocket.ping_interval=1s", "websocket.pong_timeout=900ms")
def loop_lag(gateway):
    def stop_and_go():
        gateway.process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        gateway.process.send_signal(signal.SIGCONT)

    with load(gateway, "idle", "--connections", "500", "--path", "/echo", "--secs", "90"):
        with Again(0.2, stop_and_go):
            yield


LANES = ["lanes.deliveries_max=16", "lanes.requests_max=16", "limits.commands_rate=0"]


@case("RingwayLanesFull", "shards=2", "namespace.0.publish=allow", *LANES)
def lanes_full(gateway):
    flood = ["--subscribers", "40", "--topics", "20", "--publishers", "20", "--window", "64"]
    with load(gateway, "fanout", *flood, "--secs", "60"):
        yield


def fill(gateway, level):
    """Publishes until memory is that short; what is kept ends by itself."""
    topics = itertools.count()
    while gateway.metric("ringway_memory_level") < level:
        topic = f"kept-{next(topics)}"
        for _ in range(4):
            gateway.publish(topic, "x" * 60_000)


KEEP = ["memory.budget=64 MiB", "namespace.0.history_age=20s"]


@case("RingwayMemoryShort", *KEEP)
def memory_short(gateway):
    fill(gateway, 1)
    yield


@case("RingwayMemoryRefuses", *KEEP)
def memory_refuses(gateway):
    fill(gateway, 2)
    yield


@case("RingwayCertificateEndsSoon", *SECURE, days=10)
def certificate_ends_soon(gateway):
    yield
    certificate(gateway.folder, 90)


@case("RingwayCertificateEndsNow", *SECURE, days=1)
def certificate_ends_now(gateway):
    yield
    certificate(gateway.folder, 90)


@case("RingwayCertificatesRejected", *SECURE, days=90)
def certificates_rejected(gateway):
    (gateway.folder / "x.pem").write_text("half of a certif")
    yield


@case("RingwayTlsFails", *SECURE, days=90)
def tls_fails(gateway):
    with Again(0.05, lambda: gateway.connect()[0].close()):
        yield


@case("RingwayApiRefuses")
def api_refuses(gateway):
    with Again(0.1, lambda: gateway.publish("topic", "x", key="not the key, at all")):
        yield


def prove(prometheus, alert, cause, gateway, days):
    """Lets the alert fire and cease; returns how long either took, in seconds."""
    if days:
        certificate(gateway.folder, days)
    gateway.start()
    try:
        healthy = f'up{{instance="{gateway.instance}"}} == 1'
        until(f"{alert}: a scrape", lambda: prometheus.ask(healthy))
        if alert not in IMMEDIATE:
            time.sleep(3)
            assert not prometheus.fires(alert, gateway), f"{alert} fires without a cause"
        steps = cause(gateway)
        next(steps)
        since = time.monotonic()
        until(f"{alert} fires", lambda: prometheus.fires(alert, gateway))
        fired = time.monotonic() - since
        for _ in steps:
            raise AssertionError("a case yields once")
        since = time.monotonic()
        until(f"{alert} ceases", lambda: not prometheus.fires(alert, gateway))
        return fired, time.monotonic() - since
    finally:
        gateway.kill()


def dashboard(prometheus):
    """Asks all that the dashboard asks; returns how many of its queries have an answer."""
    panels = json.loads((RULES / "grafana-dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    answered = 0
    for query in queries:
        query = re.sub(r"\$(job|instance)", ".*", query).replace("$__rate_interval", "2m")
        answered += bool(prometheus.ask(query))
    return answered, len(queries)


def main():
    rules = (RULES / "ringway.alerts.yml").read_text()
    alerts = set(re.findall(r"alert: (\w+)", rules))
    tried = {alert for alert, *_ in CASES}
    assert alerts == tried | NOT_TRIED, f"no case, or no alert: {alerts ^ (tried | NOT_TRIED)}"
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        gateways = [
            Gateway(cause.__name__, folder / cause.__name__, *settings, open_files=open_files)
            for _, cause, settings, _, open_files in CASES
        ]
        prometheus = Prometheus(folder, [gateway.instance for gateway in gateways])
        try:
            until("Prometheus answers", prometheus.is_ready)
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                runs = [
                    pool.submit(prove, prometheus, alert, cause, gateway, days)
                    for (alert, cause, _, days, _), gateway in zip(CASES, gateways)
                ]
            for (alert, *_), run in zip(CASES, runs):
                if run.exception():
                    failed += 1
                    print(f"FAILED  {alert}: {run.exception()!r}")
                else:
                    passed += 1
                    print("ok      {}: fired after {:.0f} s, ceased after {:.0f} s".format(alert, *run.result()))
            answered, queries = dashboard(prometheus)
            print(f"ok      the dashboard: {answered} of {queries} queries have an answer")
            passed += 1
        finally:
            prometheus.process.terminate()
            prometheus.process.wait()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
