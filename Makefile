# Two commands for people: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
CARGO ?= cargo
# As root everything that the suites need can be had, so a skipped suite is a failure.
ALL := $(if $(filter 0,$(shell id -u)),MAILKEEP_REQUIRE_ALL=1)
# The gate tries the same cases on every machine, so that a change is judged by what it changed; `make soak` takes new ones.
test lint: export PROPTEST_RNG_SEED ?= 20261123
test: export MAILKEEP_SEED ?= 20261123

# For servers of every age: the agent that `mailkeep pair` copies needs nothing but a Linux kernel.
MACHINE := $(shell uname -m)

.PHONY: help run test lint agent rescue bench soak mutate clean-run

help:
	@echo "make run        the box on the bench board: a real Cyrus on loopback, two disks, lamps in the terminal"
	@echo "make test       installs what it needs; format, lints, docs, every test"
	@echo "make agent      target/release/mailkeep-agent.$(MACHINE), one static file for mail servers of every age"
	@echo "make rescue     target/rescue/mailkeep-*, static mailkeep for the disks to carry, for x86-64 and arm64"
	@echo "make bench      time, memory and size beside the peers that are installed (BENCH=\"--set M --rounds 3\"; BENCH=levels)"
	@echo "make soak       the long figures of the suites that have a short run in make test"
	@echo "make mutate     takes the safeguards out one by one; a test must notice each (ONLY=part of a name for some)"
	@echo "make clean-run  removes what make run left in .run/"

run:
	@bash images/packages.sh build run
	$(CARGO) build --release --workspace
	@bash images/bench/run.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps --quiet

agent:
	@bash images/packages.sh build
	RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" \
		$(CARGO) build --release -p mailkeep-agent --target $(MACHINE)-unknown-linux-gnu
	install -D -m 755 target/$(MACHINE)-unknown-linux-gnu/release/mailkeep-agent target/release/mailkeep-agent.$(MACHINE)

rescue:
	@bash images/packages.sh build
	@bash images/rescue.sh

test:
	@bash images/packages.sh build run test
	$(MAKE) lint
	$(CARGO) build --release --workspace
	$(MAKE) agent
	$(ALL) $(CARGO) test --release --workspace --no-fail-fast

bench:
	@bash images/packages.sh build bench
	$(CARGO) build --release --workspace
	target/release/mailkeep-bench $(BENCH)

soak:
	@bash images/packages.sh build run test
	$(CARGO) build --release --workspace
	$(MAKE) agent
	$(ALL) MAILKEEP_ROUNDS=5 MAILKEEP_KILLS=50 MAILKEEP_CUTS=20 MAILKEEP_CRASH_SEEDS=100 MAILKEEP_CRASH_STATES=8000 \
		MAILKEEP_BLOCK_STATES=4000 MAILKEEP_FUZZ=400000 MAILKEEP_MUTATIONS=500 MAILKEEP_MANGLES=200 MAILKEEP_FAULTS=1 \
		MAILKEEP_MESSAGES=10000000 MAILKEEP_FOLDER=500000 MAILKEEP_CHAOS=300 MAILKEEP_RESTORE_KILLS=30 \
		$(CARGO) test --release --workspace --no-fail-fast

mutate:
	@bash images/packages.sh build run test
	$(CARGO) run --quiet --release -p mailkeep-tests --bin mailkeep-mutate -- $(if $(ONLY),"$(ONLY)")

clean-run:
	@bash images/bench/run.sh --clean
