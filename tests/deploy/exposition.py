"""Holds the metrics of a gateway that serves against two readers: promtool, and the strict parser of
OpenMetrics in Prometheus's own library for Python. Both must find the same samples."""

import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from gateway import Gateway, reset


def scrape(gateway, accept):
    request = urllib.request.Request(f"http://{gateway.instance}/metrics", headers={"Accept": accept})
    answer = urllib.request.urlopen(request, timeout=5)
    return answer.headers["Content-Type"], answer.read().decode()


def series(families):
    return {(sample.name, tuple(sorted(sample.labels.items()))) for f in families for sample in f.samples}


def canonical(label, value):
    """Bounds of buckets are floating-point numbers in OpenMetrics."""
    return f"{value}.0" if label == "le" and value.isdigit() else value


def use(gateway):
    """Connections that end in several ways, publications, and requests that are refused."""
    reset(gateway.connect()[0])
    gateway.connect("/topic/news")[0].close()
    gateway.connect(origin="https://evil.test")[0].close()
    assert gateway.publish("news", {"text": "hello"}) == 200
    assert gateway.publish("news", "x", key="not the key, at all") == 401


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "gateway"
        gateway = Gateway("exposition", folder)
        gateway.start()
        try:
            use(gateway)
            kind, text = scrape(gateway, "*/*")
            assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
            found = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
            assert found.returncode == 0, found.stderr
            accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
            kind, newer = scrape(gateway, accept)
            assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
            old, new = series(plain_text(text)), series(open_metrics(newer))
            whole = {(name, tuple((k, canonical(k, v)) for k, v in labels)) for name, labels in old}
            assert whole == new, whole ^ new
            print(f"{len(new)} series, {len(text)} bytes")
        finally:
            gateway.kill()


sys.exit(main())
