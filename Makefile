# Every way to build, run and check Dewpoint. CI calls `check` and `test` and nothing else.
# Each target installs what it needs and is missing, through scripts/setup.sh.

.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak fuzz

RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
SHELL_SCRIPTS = $(shell git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
FUZZ_SECONDS ?= 30
SOAK_SECONDS ?= 600
# How many keys `bench` compares. They are made once, a million in some three minutes and 3 GB, and kept.
BENCH_KEYS ?= 10,10000,1000000
# How long a log, in MiB, `bench` verifies and counts. It is made once, in a minute, and kept.
BENCH_LOG ?= 1024
# Tests wait for processes, disks and tokens more than they compute.
export RUST_TEST_THREADS ?= 4

help: ## List the targets (the default)
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## Start the service on a new token, encrypt and decrypt real files through it, put an object by OBS' SDK, show the refusals and the log
	scripts/setup.sh demo
	cargo build --locked --release -p kms-server -p obs-gateway -p dewpoint-tests --bins
	$(RELEASE)/demo

test: ## Run every test: units, contracts, documentation, end to end on real tokens, and the independent decryptions
	scripts/setup.sh test
	cargo test --locked --workspace
	DEWPOINT_TEST_MODULE=kryoptic cargo test --locked -p dewpoint-tests
	cargo test --locked --manifest-path tests/oracle/Cargo.toml
	scripts/independent-checks.sh

check: ## Check what needs no run: format, lints, documentation, dependencies, scripts, container files
	scripts/setup.sh check
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo fmt --manifest-path tests/modules/kryoptic/Cargo.toml --check
	cargo fmt --manifest-path tests/oracle/Cargo.toml --check
	shellcheck --severity=warning $(SHELL_SCRIPTS)
	.tools/venv/bin/python scripts/check_containers.py
	.tools/bin/cargo-deny --locked check bans licenses sources
	cargo clippy --locked --workspace -- -D warnings
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	cargo test --locked --workspace --test dependency_graph

bench: ## Measure the service against its floors in the same run; fails below the recorded ratios (not part of CI)
	scripts/setup.sh bench
	cargo build --locked --release -p kms-server -p kms-cli -p dewpoint-tests -p obs-gateway --bins
	cargo bench --locked -p kms-hsm --bench worker
	cargo bench --locked -p kms-server --bench traffic
	BENCH_KEYS=$(BENCH_KEYS) BENCH_LOG=$(BENCH_LOG) $(RELEASE)/bench

soak: ## Load with faults of the HSM and deaths of the worker at random for SOAK_SECONDS (600), every answer and record checked; SOAK_SEED repeats (not part of CI)
	scripts/setup.sh soak
	cargo build --locked --release -p kms-server -p dewpoint-tests --bins
	SOAK_SECONDS=$(SOAK_SECONDS) $(RELEASE)/soak

fuzz: ## Fuzz each target for FUZZ_SECONDS (30), from a fixed seed (not part of CI)
	scripts/setup.sh fuzz
	scripts/fuzz.sh $(FUZZ_SECONDS)
