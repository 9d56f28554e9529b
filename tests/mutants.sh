#!/usr/bin/env bash
# Breaks the gateway in one place at a time, in a copy of the tree, and demands that the simulation
# notices:
#   tests/mutants.sh [NAME…]
# Each file in tests/mutants/ is one mutant: a line that says what is wrong, a line with the file, the
# text as it stands there exactly once, a line of dashes, and what takes its place.
# RINGWAY_MUTANT_SEEDS: most seeds that each of them gets (512).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

root=$PWD
work=$root/target/mutants
tree=$work/tree
seeds=${RINGWAY_MUTANT_SEEDS:-512}
names=("$@")
if ((${#names[@]} == 0)); then
  for file in tests/mutants/*.mutant; do names+=("$(basename "$file" .mutant)"); done
fi

rm -rf "$tree"
mkdir -p "$tree"
cp -a Cargo.toml Cargo.lock src tests benches loadtest "$tree"
for file in README.md config; do cp -a "$file" "$tree"; done
if [ ! -d "$work/target" ] && [ -d target/debug/deps ]; then
  # What the dependencies were compiled to need not be compiled again.
  mkdir -p "$work/target/debug"
  cp -a target/debug/deps target/debug/build target/debug/.fingerprint "$work/target/debug"
fi
export CARGO_TARGET_DIR=$work/target CARGO_TERM_COLOR=never RUST_BACKTRACE=0
export RINGWAY_SIM_SEEDS=$seeds RINGWAY_SIM_FAIL_FAST=1

# apply NAME: changes the tree; prints what is wrong with it.
apply() {
  awk -v root="$tree" '
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

caught=0
survived=0
for name in "${names[@]}"; do
  rm -rf "$tree/src"
  cp -a src "$tree"
  what=$(apply "$name")
  log=$work/$name.log
  # A copy with an old date would not be compiled again after the mutant before it.
  find "$tree/src" -name '*.rs' -exec touch {} +
  if ! (cd "$tree" && cargo test --quiet --test simulation --no-run) >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "$name does not compile" >&2
    exit 1
  fi
  since=$SECONDS
  if (cd "$tree" && timeout 600 cargo test --quiet --test simulation simulat) >>"$log" 2>&1; then
    survived=$((survived + 1))
    verdict=SURVIVED
  else
    caught=$((caught + 1))
    verdict=caught
  fi
  by=$(grep -aom1 'seed [0-9]* failed: .*' "$log" | cut -c1-90 || true)
  printf '%-9s %-24s %4d s  %s (%s)\n' "$verdict" "$name" $((SECONDS - since)) "$what" "$by"
done
echo "$caught caught, $survived survived"
# As tests/run-all.sh counts.
echo "$caught passed, $survived failed"
((survived == 0))
