# Everything that people and CI do here. `make` alone lists it.

# Release code without link-time optimisation: the same program a little slower, built in a
# fraction of the time. `make release` builds what operators run.
QUICK := target/quick/ringway

# Seconds for each fuzz target, seeds for the simulation, where a load test goes.
FUZZ_SECONDS ?= 15
SIM_SEEDS ?= 256
# Benches of times; the others have targets of their own.
BENCHES := $(filter-out instructions million,$(basename $(notdir $(wildcard benches/*.rs))))
LOAD ?= --help
IMAGE ?= ringway:latest

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## build and start the gateway: clients on 127.0.0.1:8000, operators on 127.0.0.1:9000
	cargo build --profile quick --bin ringway
	exec $(QUICK) run --config config/demo.toml

.PHONY: test
test: ## install what the tests need, then run them all
	@.ci/setup
	@tests/run-all.sh

.PHONY: check
check: ## formatting, lints, dependencies; no test is run
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --manifest-path fuzz/Cargo.toml --target-dir target --no-default-features -- -D warnings
	cargo deny --log-level error check bans licenses sources

.PHONY: bench
bench: ## measure the hot functions (criterion)
	cargo bench $(patsubst %,--bench %,$(BENCHES))

.PHONY: bench-check
bench-check: ## count instructions (callgrind); fail where 3 % more than in benches/instructions.txt
	cargo bench --quiet --profile quick --bench instructions

.PHONY: bench-bless
bench-bless: ## write benches/instructions.txt anew
	RINGWAY_BLESS=1 cargo bench --quiet --profile quick --bench instructions

.PHONY: million
million: ## a million simulated connections on one shard: memory of each, time of a delivery
	cargo bench --quiet --profile quick --bench million

.PHONY: load
load: ## load the gateway on loopback: 15,000 clients, nothing lost, a drain that tells all
	cargo build --profile quick --workspace --bins
	RINGWAY=$(CURDIR)/$(QUICK) tests/run-load.sh

.PHONY: loadgen
loadgen: ## run the load generator against a running gateway: make loadgen LOAD='echo --secs 3'
	cargo run --profile quick -p ringway-loadtest -- $(LOAD)

.PHONY: bless
bless: ## write the tables of README.md and docs/ anew from the code
	RINGWAY_BLESS=1 cargo test --quiet --test documents

.PHONY: fuzz
fuzz: ## fuzz each target for FUZZ_SECONDS (15)
	tests/fuzz.sh $(FUZZ_SECONDS)

.PHONY: sim
sim: ## run the simulated shard over SIM_SEEDS (256) seeds
	RINGWAY_SIM_SEEDS=$(SIM_SEEDS) cargo nextest run --no-fail-fast -E 'test(/simulat/)'

.PHONY: full
full: ## make test with the long runs: all seeds, mutants, all Autobahn cases, systemd, a container
	@RINGWAY_FULL=1 .ci/setup
	@RINGWAY_FULL=1 tests/run-all.sh

.PHONY: release
release: ## build what operators run: target/release/ringway
	cargo build --release --bin ringway

.PHONY: paper
paper: ## write the manual pages and shell completions to target/paper
	cargo build --profile quick --bin ringway
	$(QUICK) man target/paper/man
	mkdir -p target/paper/completions
	$(QUICK) completions bash >target/paper/completions/ringway.bash
	$(QUICK) completions fish >target/paper/completions/ringway.fish
	$(QUICK) completions zsh >target/paper/completions/_ringway

.PHONY: image
image: ## build a static binary and a container image of nothing but it
	cargo rustc --release --bin ringway -- -C target-feature=+crt-static
	deploy/docker/build.sh target/release/ringway $(IMAGE)

.PHONY: package
package: ## build the Debian package: target/debian/ringway_*.deb (needs cargo-deb)
	cargo deb

.PHONY: audit
audit: ## all of cargo-deny, known vulnerabilities included (needs the network)
	cargo deny check

.PHONY: clean
clean: ## remove what was built and installed here
	cargo clean
	rm -rf .test-env fuzz/target fuzz/artifacts fuzz/coverage
