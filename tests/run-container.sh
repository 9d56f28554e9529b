#!/usr/bin/env bash
# The image in a real container engine, under the profile that we ship and under one that refuses io_uring.
# `make full` runs it, since it needs root and builds the gateway anew.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

if [ -z "${RINGWAY_FULL-}" ]; then
  echo "skipped: make full runs it"
  exit 0
fi
# Only the last step of the build is another one than that of the other tests: libc is linked in.
static=$PWD/target/static
mkdir -p "$static"
cargo rustc --quiet --profile quick --bin ringway -- -C target-feature=+crt-static &&
  mv target/quick/ringway "$static/ringway" || exit
exec python3 tests/deploy/container.py "$static/ringway"
