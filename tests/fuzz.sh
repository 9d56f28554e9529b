#!/usr/bin/env bash
# Fuzzes each target of fuzz/ for a number of seconds: tests/fuzz.sh SECONDS
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

seconds=${1:?seconds for each target}
if [ ! -e fuzz/Cargo.toml ]; then
  echo 'skipped: no fuzz targets'
  exit 0
fi

passed=0
mapfile -t targets < <(cargo +nightly fuzz list)
for target in "${targets[@]}"; do
  echo "== $target"
  # New inputs go under target/; the seeds of the repository are only read.
  corpora=("target/fuzz-corpus/$target")
  mkdir -p "${corpora[0]}"
  [ ! -d "fuzz/corpus/$target" ] || corpora+=("fuzz/corpus/$target")
  if ! cargo +nightly fuzz run "$target" "${corpora[@]}" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048; then
    echo "$target: the input is in fuzz/artifacts/$target"
    echo "$passed passed, 1 failed"
    exit 1
  fi
  passed=$((passed + 1))
done
echo "$passed passed, 0 failed"
