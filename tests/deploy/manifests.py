"""Holds the manifests of Kubernetes against each other and against the gateway's defaults.

argv: a file to write the configuration of the ConfigMap to, for `ringway check`.
"""

import json
import pathlib
import re
import sys
import tomllib

import yaml

TOP = pathlib.Path(__file__).parents[2]


def main():
    found = {}
    for file in (TOP / "deploy/kubernetes").glob("*.yaml"):
        for manifest in yaml.safe_load_all(file.read_text()):
            found[manifest["kind"], manifest["metadata"]["name"]] = manifest
    deployment = found["Deployment", "ringway"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    text = found["ConfigMap", "ringway"]["data"]["ringway.toml"]
    pathlib.Path(sys.argv[1]).write_text(text)
    settings = tomllib.loads(text)
    assert settings["listener"][0]["address"] == f"0.0.0.0:{ports['clients']}"
    assert settings["operator"]["address"] == f"0.0.0.0:{ports['operators']}"

    # Everything is about the pods of the Deployment and ports that they have.
    assert deployment["selector"]["matchLabels"] == labels
    assert found["PodDisruptionBudget", "ringway"]["spec"]["selector"]["matchLabels"] == labels
    policy = found["NetworkPolicy", "ringway"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    for name in ["ringway", "ringway-operators"]:
        service = found["Service", name]["spec"]
        assert service["selector"] == labels
        assert all(port["targetPort"] in ports for port in service["ports"])
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == set(ports)
    assert all("from" in rule for rule in policy["ingress"] if rule["ports"][0]["port"] == "operators")

    # The end: the balancer hears of it, then a drain by the defaults, and all of it within the time given.
    defaults = tomllib.loads((TOP / "config/ringway.toml").read_text())
    seconds = lambda text: int(re.fullmatch(r"(\d+)s", text)[1])
    drain = sum(seconds(defaults["drain"][key]) for key in ["grace", "window"])
    drain += seconds(defaults["websocket"]["close_timeout"]) + 4
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + drain

    # Nothing that it does not need.
    confined, profile = container["securityContext"], pod["securityContext"]["seccompProfile"]
    assert confined["readOnlyRootFilesystem"] and not confined["allowPrivilegeEscalation"]
    assert confined["capabilities"] == {"drop": ["ALL"]} and pod["securityContext"]["runAsNonRoot"]
    assert profile["type"] == "Localhost" and "limits" in container["resources"]
    assert not pod["automountServiceAccountToken"]
    allowed = json.loads((TOP / "deploy/docker/seccomp.json").read_text())
    names = {name for rule in allowed["syscalls"] for name in rule["names"]}
    assert allowed["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= names
    for probe, path in [("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/livez")]:
        assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "operators"}


main()
