# Three commands matter: `make demo`, `make run` and `make test`. They set up what is missing first.

CARGO ?= cargo
# The interface to watch; empty: the one with the default route.
IFACE ?=
# More options for the agent, as in: make run ARGS="--threshold-pps 50000"
ARGS ?=
# The captures to record again; empty: all of them.
NAMES ?=
# What to measure: some of wire, cpu, memory, reload, outage; empty: all of them.
WHAT ?=

target_dir := $(or $(CARGO_TARGET_DIR),target)
# Capturing needs privileges. Without sudo the agent starts all the same and says which one it lacks.
sudo := $(shell test "$$(id -u)" -eq 0 || command -v sudo)

.PHONY: demo run test test-long bench bench-replay measure record setup fmt lint doc ci help

demo: ## build and show in a minute what the agent does: no root, no account, no network (ARGS=)
	scripts/setup.sh build
	$(CARGO) build --release --locked
	$(target_dir)/release/ftagent demo $(ARGS)

run: ## build and watch the interface with the default route (IFACE=, ARGS=)
	scripts/setup.sh build
	$(CARGO) build --release --locked
	$(sudo) $(target_dir)/release/ftagent run --local $(if $(IFACE),--interface $(IFACE)) $(ARGS)

test: ## build and run every test
	scripts/setup.sh build test
	$(CARGO) test --locked --all-targets
	$(CARGO) test --locked --doc

test-long: ## kill the agent more than 200 times, and the ledger 200 times: half an hour
	scripts/setup.sh build test
	FTAGENT_LONG=1 $(CARGO) test --locked --test crash_ledger --test whole killed_at -- --nocapture

bench: ## measure the engine and print one table, a section a unit
	scripts/setup.sh build
	$(CARGO) bench --locked --no-run
	@touch $(target_dir)/bench-began
	$(CARGO) bench --locked -- --quiet --warm-up-time 0.3 --measurement-time 1
	@benches/table.sh $(target_dir) $(target_dir)/bench-began
	@printf '\nmake bench-replay compares replaying a file with tcpdump reading it.\n'

bench-replay: ## compare replaying a file with tcpdump reading it: at most twice its time
	scripts/setup.sh build test
	benches/replay_vs_tcpdump.sh

measure: ## measure the whole agent against its budgets and print one table (WHAT=)
	scripts/setup.sh build test
	$(sudo) benches/live/measure.sh $(WHAT)

record: ## record tests/data again from real generators (NAMES=)
	scripts/setup.sh build test
	$(sudo) scripts/record.sh $(NAMES)

setup: ## install all that the other commands need
	scripts/setup.sh build test lint

fmt: ## format the sources
	$(CARGO) fmt

lint: ## rustfmt and clippy, warnings denied
	scripts/setup.sh build lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: ## the crate's documentation, warnings denied
	scripts/setup.sh build
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

ci: ## everything that must hold before a change is merged
	.ci/run

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14
