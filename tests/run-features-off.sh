#!/usr/bin/env bash
# Runs the tests against the daemon once more, on a ring without any of the optional features of the
# kernel.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
RINGWAY_TEST_DISABLE=all cargo nextest run --test daemon --no-fail-fast
