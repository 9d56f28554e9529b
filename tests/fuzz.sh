#!/usr/bin/env bash
# Fuzzes each target of fuzz/ for a number of seconds, as many at a time as there are processors:
#   tests/fuzz.sh SECONDS
#
# New inputs go to target/fuzz-corpus/; the seeds of the repository are only read. What each target
# said is in target/fuzz-logs/.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

seconds=${1:?seconds for each target}
if ! cargo +nightly --version >/dev/null 2>&1; then
  echo 'skipped: fuzzing needs a nightly compiler: rustup toolchain install nightly'
  exit 0
fi

logs=target/fuzz-logs
rm -rf "$logs"
mkdir -p "$logs"
# One unit for each crate, as is usual for fuzzing, keeps one processor busy and the others waiting.
build=--codegen-units=16
cargo +nightly fuzz build "$build"

# fuzz TARGET: an input that it fails on is in fuzz/artifacts/TARGET.
fuzz() {
  local target=$1
  mkdir -p "target/fuzz-corpus/$target"
  if cargo +nightly fuzz run "$build" "$target" "target/fuzz-corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
    >"$logs/$target.log" 2>&1; then
    echo "ok      $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$target.log") inputs"
  else
    tail -n 60 "$logs/$target.log"
    echo "FAILED  $target: the input is in fuzz/artifacts/$target, the whole log is $logs/$target.log"
  fi
}
export -f fuzz
export build seconds logs

cargo +nightly fuzz list | xargs -P "$(nproc)" -I TARGET bash -c 'fuzz TARGET' | tee "$logs/all.log"
passed=$(grep -c '^ok ' "$logs/all.log" || true)
failed=$(grep -c '^FAILED ' "$logs/all.log" || true)
echo "$passed passed, $failed failed"
((failed == 0))
