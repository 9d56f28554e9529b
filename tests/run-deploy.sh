#!/usr/bin/env bash
# What deploy/ and docs/operations.md hold, tried with the programs that read it: promtool, Prometheus,
# nginx, HAProxy. With RINGWAY_FULL=1 every alert is made to fire, which takes minutes.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export RINGWAY="${RINGWAY:-$PWD/target/quick/ringway}"
export PYTHONDONTWRITEBYTECODE=1
python=.test-env/venv/bin/python
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

check 'the rules are good' promtool check rules deploy/prometheus/ringway.{recording,alerts}.yml
check 'the configuration is good' promtool check config deploy/prometheus/prometheus.yml
check 'alerts fire when they should' promtool test rules tests/deploy/alerts.test.yml
check 'the gateway writes what Prometheus reads' "$python" tests/deploy/exposition.py
check 'nginx and HAProxy pass clients on' "$python" tests/deploy/proxies.py
if [ -n "${RINGWAY_FULL-}" ]; then
  check 'every alert fires for its cause' "$python" tests/deploy/alerts.py
fi
echo "$passed passed, $failed failed"
((failed == 0))
