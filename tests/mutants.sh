#!/usr/bin/env bash
# Breaks the gateway in one place at a time, in a copy of the tree, and demands that the simulation
# notices; as many at a time as there are processors:
#   tests/mutants.sh [NAME…]
# Each file in tests/mutants/ is one mutant: a line that says what is wrong, a line with the file, the
# text as it stands there exactly once, a line of dashes, and what takes its place.
# RINGWAY_MUTANT_SEEDS: most seeds that each of them gets (512).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export work=$PWD/target/mutants
export RINGWAY_SIM_SEEDS=${RINGWAY_MUTANT_SEEDS:-512} RINGWAY_SIM_FAIL_FAST=1
export CARGO_TERM_COLOR=never RUST_BACKTRACE=0
names=("$@")
if ((${#names[@]} == 0)); then
  for file in tests/mutants/*.mutant; do names+=("$(basename "$file" .mutant)"); done
fi
slots=$(nproc)

for ((slot = 0; slot < slots; slot++)); do
  rm -rf "$work/$slot/tree"
  mkdir -p "$work/$slot/tree"
  cp -a Cargo.toml Cargo.lock src tests benches loadtest README.md config "$work/$slot/tree"
  if [ ! -d "$work/$slot/target" ] && [ -d target/debug/deps ]; then
    # What the dependencies were compiled to need not be compiled again.
    mkdir -p "$work/$slot/target/debug"
    cp -a target/debug/deps target/debug/build target/debug/.fingerprint "$work/$slot/target/debug"
  fi
done

# apply NAME TREE: changes the tree; prints what is wrong with it.
apply() {
  awk -v root="$2" '
    NR == 1 { what = $0; next }
    NR == 2 { file = root "/" $0; next }
    /^----*$/ { behind = 1; next }
    !behind { from = from $0 "\n"; next }
    { to = to $0 "\n" }
    END {
      while ((getline line < file) > 0) text = text line "\n"
      close(file)
      at = index(text, from)
      rest = substr(text, at + 1)
      if (!at || index(rest, from)) {
        print "the text is not there exactly once: " file > "/dev/stderr"
        exit 1
      }
      printf "%s%s%s", substr(text, 1, at - 1), to, substr(text, at + length(from)) > file
      print what
    }' "tests/mutants/$1.mutant"
}

# trial NAME: one line with the verdict.
trial() {
  local name=$1 tree=$work/$slot/tree log=$work/$1.log since=$SECONDS verdict what by
  export CARGO_TARGET_DIR=$work/$slot/target
  rm -rf "$tree/src"
  cp -a src "$tree"
  what=$(apply "$name" "$tree") || { echo "BROKEN    $name: it does not fit the source"; return 0; }
  # A copy with an old date would not be compiled again after the mutant before it.
  find "$tree/src" -name '*.rs' -exec touch {} +
  cd "$tree"
  if ! cargo test --quiet --test simulation --no-run >"$log" 2>&1; then
    tail -n 30 "$log"
    verdict=BROKEN
  elif timeout 600 cargo test --quiet --test simulation simulat >>"$log" 2>&1; then
    verdict=SURVIVED
  else
    verdict=caught
  fi
  by=$(grep -aom1 'seed [0-9]* failed: .*' "$log" | cut -c1-90 || true)
  printf '%-9s %-24s %4d s  %s (%s)\n' "$verdict" "$name" $((SECONDS - since)) "$what" "$by"
}
export -f apply trial

printf '%s\n' "${names[@]}" |
  xargs -P "$slots" -I NAME --process-slot-var=slot bash -c 'trial NAME' | tee "$work/verdicts"
caught=$(grep -c '^caught ' "$work/verdicts" || true)
survived=$((${#names[@]} - caught))
echo "$caught caught, $survived survived or broken"
# As tests/run-all.sh counts.
echo "$caught passed, $survived failed"
((survived == 0))
