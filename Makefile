# Every target works on a fresh machine: it says or installs what it needs first.
# Variables: PORT, DATA_DIR, ONCE=1 (make run).

.DEFAULT_GOAL := help
.PHONY: help deps run test bench lint ci

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
	cargo build --locked --workspace
	cargo test --locked --workspace

bench: ## Print the figures of the hot paths as ratios to bare loops.
	@scripts/deps.sh test
	cargo run --locked --release -p dispatcher-tests --bin bench
	cargo build --locked --release -p dispatcher-api
	cargo run --locked --release -p dispatcher-tests --bin waiting

lint: ## Formatting, lints, documentation, licences, scripts.
	@scripts/deps.sh lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	cargo machete
	cargo deny --all-features check bans licenses sources
	shellcheck scripts/*.sh .ci/run
	PATH="$$HOME/.local/share/dispatcher/ansible-lint/bin:$$PATH" ansible-lint --offline --profile production examples

ci: ## What continuous integration runs.
	@.ci/run
