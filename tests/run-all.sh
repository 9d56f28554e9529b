#!/usr/bin/env bash
# Runs every test, cheapest first, one line for each step; stops at the first that fails. Logs are
# in target/test-logs/. The last line sums up: "N passed, N failed".
#
# With RINGWAY_FULL=1 the long runs are added: more seeds, mutants of the shard, every Autobahn case,
# longer fuzzing; and the steps against a gateway are against the build that operators run, instead
# of the one of the unit tests, whose assertions are on.
#
# An executable tests/run-NAME.sh is a step of its own. It finds the gateway in $RINGWAY and says
# "N passed, N failed" in its last line, or it counts as one.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
# The C code of dependencies is the same in every build: ccache, where it is, compiles it once.
[ ! -d /usr/lib/ccache ] || PATH="/usr/lib/ccache:$PATH"
export RINGWAY="$PWD/target/debug/ringway"
# Nothing that CI builds is built a second time.
[ -z "${CI-}" ] || export CARGO_INCREMENTAL=0
export RUST_BACKTRACE=1 CARGO_TERM_COLOR=never
full=${RINGWAY_FULL-}
if [ -n "$full" ]; then
  export RINGWAY="$PWD/target/release/ringway"
  export RINGWAY_SIM_SEEDS=${RINGWAY_SIM_SEEDS-2000} RINGWAY_MUTATIONS=${RINGWAY_MUTATIONS-200000}
  export AUTOBAHN_EXCLUDE=${AUTOBAHN_EXCLUDE-} FUZZ_SECONDS=${FUZZ_SECONDS-60}
fi
logs=target/test-logs
mkdir -p "$logs"
passed=0
failed=0

# count LOG STATUS: sets `good` and `bad` from what nextest, libtest and our own scripts say.
count() {
  read -r good bad < <(awk '
    # nextest shows what failed tests printed, sums of libtest included: only its own sum counts.
    /^ *Summary \[/ {
      good = bad = 0
      for (i = 2; i <= NF; i++) {
        if ($i ~ /^passed/) good = $(i - 1)
        if ($i ~ /^failed/) bad = $(i - 1)
      }
      exit
    }
    /^test result: / { good += $4; bad += $6 }
    /^[0-9]+ passed, [0-9]+ failed$/ { good += $1; bad += $3 }
    END { print good + 0, bad + 0 }' "$1")
  if (($2 != 0 && bad == 0)); then bad=1; fi
  if (($2 == 0 && good == 0)); then good=1; fi
}

# step NAME COMMAND…
step() {
  local name=$1 since=$SECONDS status=0 log="$logs/$1.log"
  shift
  "$@" </dev/null >"$log" 2>&1 || status=$?
  if ((status == 0)) && grep -q '^skipped: ' "$log"; then
    printf 'skip   %-28s %4d s  %s\n' "$name" $((SECONDS - since)) "$(grep -m1 '^skipped: ' "$log")"
    return
  fi
  count "$log" "$status"
  passed=$((passed + good))
  failed=$((failed + bad))
  if ((status == 0)); then
    printf 'ok     %-28s %4d s  %d passed\n' "$name" $((SECONDS - since)) "$good"
    return
  fi
  echo "--- the end of $log"
  tail -n 60 "$log"
  printf 'FAILED %-28s %4d s  (status %d)\n' "$name" $((SECONDS - since)) "$status"
  echo "$passed passed, $failed failed"
  exit 1
}

step check make --no-print-directory check
step unit cargo nextest run --workspace --no-fail-fast
if [ -n "$full" ]; then
  step doc cargo test --quiet --doc
  step release cargo build --release --workspace --bins
fi
for script in tests/run-*.sh; do
  name=$(basename "$script" .sh)
  [ "$name" = run-all ] || step "${name#run-}" "$script"
done
step autobahn .ci/autobahn "$RINGWAY"
step fuzz tests/fuzz.sh "${FUZZ_SECONDS:-5}"
if [ -n "$full" ]; then
  step mutants tests/mutants.sh
  step instructions make --no-print-directory bench-check
  step million make --no-print-directory million
fi
echo "$passed passed, $failed failed"
