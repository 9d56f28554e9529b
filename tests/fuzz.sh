#!/usr/bin/env bash
# Fuzzes each target of fuzz/ for a number of seconds: tests/fuzz.sh SECONDS
#
# New inputs go to target/fuzz-corpus/; the seeds of the repository are only read.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

seconds=${1:?seconds for each target}
if ! cargo +nightly --version >/dev/null 2>&1; then
  echo 'skipped: fuzzing needs a nightly compiler: rustup toolchain install nightly'
  exit 0
fi

targets=$(cargo +nightly fuzz list)
cargo +nightly fuzz build
passed=0
for target in $targets; do
  echo "== $target"
  mkdir -p "target/fuzz-corpus/$target"
  if ! cargo +nightly fuzz run "$target" "target/fuzz-corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1; then
    echo "$target: the input is in fuzz/artifacts/$target"
    echo "$passed passed, 1 failed"
    exit 1
  fi
  passed=$((passed + 1))
done
echo "$passed passed, 0 failed"
