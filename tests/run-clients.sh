#!/usr/bin/env bash
# Tests the gateway in $RINGWAY with unmodified client libraries and a browser. Each file starts
# gateways of its own; the last line sums up: "N passed, N failed".
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export RINGWAY="${RINGWAY:-$PWD/target/debug/ringway}"
python=.test-env/venv/bin/python
passed=0
failed=0

# file COMMAND…: runs one file of tests.
file() {
  local output=() status=0
  echo "== ${*: -1}"
  mapfile -t output < <("$@" </dev/null 2>&1; echo "$?")
  status=${output[-1]}
  unset 'output[-1]'
  local sum=${output[-1]-}
  if [[ $sum =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    unset 'output[-1]'
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    echo "it ended early, with status $status"
    failed=$((failed + 1))
  fi
  printf '%s\n' "${output[@]}"
}

file node tests/clients/js/centrifuge.mjs
file node tests/clients/js/reconnect.mjs
file node tests/clients/js/raw.mjs
file node tests/clients/js/secure.mjs
file node tests/clients/js/browser.mjs
file "$python" tests/clients/python/centrifuge_client.py
file "$python" tests/clients/python/websockets_client.py
file "$python" tests/clients/python/secure_client.py
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
