# Two commands matter: `make run` and `make test`. Both set up what is missing first.

CARGO ?= cargo
# The interface to watch; empty: the one with the default route.
IFACE ?=
# More options for the agent, as in: make run ARGS="--threshold-pps 50000"
ARGS ?=

target_dir := $(or $(CARGO_TARGET_DIR),target)
# Capturing needs privileges. Without sudo the agent starts all the same and says which one it lacks.
sudo := $(shell test "$$(id -u)" -eq 0 || command -v sudo)

.PHONY: run test bench bench-replay setup fmt lint doc ci

run:
	scripts/setup.sh build
	$(CARGO) build --release --locked
	$(sudo) $(target_dir)/release/ftagent run --local $(if $(IFACE),--interface $(IFACE)) $(ARGS)

test:
	scripts/setup.sh build test
	$(CARGO) test --locked --all-targets
	$(CARGO) test --locked --doc

bench:
	scripts/setup.sh build
	$(CARGO) bench --locked --no-run
	touch $(target_dir)/bench-began
	$(CARGO) bench --locked -- --quiet --warm-up-time 0.3 --measurement-time 1
	benches/table.sh $(target_dir) $(target_dir)/bench-began

# The bar for replaying files: at most twice the time of tcpdump.
bench-replay:
	scripts/setup.sh build test
	benches/replay_vs_tcpdump.sh

setup:
	scripts/setup.sh build test lint

fmt:
	$(CARGO) fmt

lint:
	scripts/setup.sh build lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc:
	scripts/setup.sh build
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

ci:
	.ci/run
