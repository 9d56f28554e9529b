#!/usr/bin/env bash
# What deploy/ and docs/operations.md hold, tried with the programs that read it: promtool, Prometheus,
# nginx, HAProxy, systemd-analyze, the schemas of Kubernetes. With RINGWAY_FULL=1 every alert is made to
# fire, which takes minutes.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export RINGWAY="${RINGWAY:-$PWD/target/debug/ringway}"
export PYTHONDONTWRITEBYTECODE=1
python=.test-env/venv/bin/python
validate=.test-env/venv/bin/kubernetes-validate
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
passed=0
failed=0

# check WHAT COMMAND…
check() {
  local what=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "ok      $what"
  else
    failed=$((failed + 1))
    echo "FAILED  $what"
  fi
}

# The units with this gateway in place of the one that is not installed.
units_are_good() {
  cp deploy/systemd/ringway.* "$folder"
  sed -i "s|/usr/bin/ringway|$RINGWAY|; /^Documentation=/d" "$folder"/ringway.*
  systemd-analyze verify "$folder"/ringway.{service,socket}
}

# Ten times the score of systemd: 12 are 1.2.
unit_is_hardened() {
  systemd-analyze security --offline=true --threshold=12 --no-pager deploy/systemd/ringway.service | tail -n 1
  return "${PIPESTATUS[0]}"
}

# The oldest Kubernetes that knows preStop.sleep, and the newest that the tool knows.
manifests_are_good() {
  "$validate" --strict --quiet --kubernetes-version 1.30 deploy/kubernetes/*.yaml &&
    "$validate" --strict --quiet deploy/kubernetes/*.yaml
}

configuration_is_good() {
  "$python" tests/deploy/manifests.py "$folder/ringway.toml" &&
    "$RINGWAY" check --config "$folder/ringway.toml"
}

check 'the rules are good' promtool check rules deploy/prometheus/ringway.{recording,alerts}.yml
check 'the configuration is good' promtool check config deploy/prometheus/prometheus.yml
check 'alerts fire when they should' promtool test rules tests/deploy/alerts.test.yml
check 'the gateway writes what Prometheus reads' "$python" tests/deploy/exposition.py
check 'nginx and HAProxy pass clients on' "$python" tests/deploy/proxies.py
if command -v systemd-analyze >/dev/null; then
  check 'the units are good' units_are_good
  check 'the unit is hardened' unit_is_hardened
fi
check 'the manifests follow the schemas of Kubernetes' manifests_are_good
check 'the manifests fit each other, and the gateway takes their configuration' configuration_is_good
if [ -n "${RINGWAY_FULL-}" ]; then
  check 'every alert fires for its cause' "$python" tests/deploy/alerts.py
fi
echo "$passed passed, $failed failed"
((failed == 0))
