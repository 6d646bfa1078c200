# Every target works on a fresh machine: it says or installs what it needs first.
# Variables: FUZZ_SECONDS, FUZZ_SEED (make fuzz, make test); PORT, DATA_DIR, ONCE=1 (make run, make demo); RATE (make demo); BASE, IMAGE, PREBUILT (make image); LONG=1, PROFILE=dev (make test-host).

.DEFAULT_GOAL := help
.PHONY: help deps run test fuzz test-host demo image programs bench lint ci

# What test-host does where LONG=1 is not said: every part once, in less than ten minutes.
SHORT := first:: image:: lossless::nothing refused:: scales:: secrets::
PROGRAMS := -p dispatcher-api -p auth-tracker-sidecar -p dispatchctl -p dispatcher-worker -p quadletgen
# PROFILE=dev takes those that `make test` builds.
PROFILE ?= release
ifeq ($(PROFILE),dev)
BUILD_PROGRAMS = cargo build --locked --workspace --all-targets
PROGRAMS_DIR = target/debug
else
BUILD_PROGRAMS = cargo build --release --locked $(PROGRAMS)
PROGRAMS_DIR = target/release
endif

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

deps: ## Say what is missing (Debian and Fedora names), install it where allowed.
	@scripts/deps.sh lint

run: ## Start the service, run the example playbook through it, serve until Ctrl-C.
	@scripts/deps.sh run
	@cargo build --release --locked -p dispatcher-api -p dispatchctl
	@scripts/run.sh

test: ## Every test, with its own private services.
	@scripts/deps.sh test
	cargo build --locked --workspace --all-targets
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} cargo test --locked --workspace

fuzz: ## Fuzz every parser of strangers' input, a minute each (FUZZ_SECONDS, FUZZ_SEED).
	@scripts/deps.sh test
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} cargo test --locked --workspace --test fuzz -- --nocapture --test-threads=2

test-host: ## The deployment on real hosts (root; systemd, Podman, HAProxy in namespaces). LONG=1 for all of it.
	@scripts/deps.sh host
	$(BUILD_PROGRAMS)
	tests/testhost/images api $(PROGRAMS_DIR)
	cargo test --locked --workspace --features dispatcher-tests/testhost --test host -- \
		--test-threads=1 --nocapture $(if $(filter 1,$(LONG)),,$(SHORT))

demo: ## Three hosts, site.yml, a playbook, scaling and an upgrade under load (root). ONCE=1 ends after that.
	@scripts/deps.sh host
	cargo build --locked --workspace --all-targets
	tests/testhost/images api target/debug
	@PROFILE=dev scripts/demo.sh

image: ## The container image, where podman is: localhost/dispatcher-api (BASE=…, IMAGE=…).
	@scripts/image.sh

programs:
	@scripts/deps.sh run
	$(BUILD_PROGRAMS)

bench: ## Print the figures of the hot paths as ratios to bare loops.
	@scripts/deps.sh test
	cargo run --locked --release -p dispatcher-tests --bin bench
	cargo build --locked --release -p dispatcher-api
	cargo run --locked --release -p dispatcher-tests --bin waiting

lint: ## Formatting, lints, documentation, licences, scripts.
	@scripts/deps.sh lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features dispatcher-tests/testhost -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	cargo machete
	cargo deny --all-features check bans licenses sources
	shellcheck scripts/*.sh .ci/run tests/testhost/testhost tests/testhost/images tests/testhost/services/* ansible-role/files/dispatcher-backup
	PATH="$$HOME/.local/share/dispatcher/ansible-lint/bin:$$PATH" ansible-lint --offline --profile production examples ansible-role inventories site.yml

ci: ## What continuous integration runs.
	@.ci/run
