# Each target is one verb. `make setup` makes all that is needed inside this checkout; with fresh stamps it costs < 1 s.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin

# pytest ends with 5 when it finds no test: that is a suite that is not there yet, and it is said, not hidden.
# Every other code is a failure.
pytest = code=0; $(BIN)/pytest $(1) || code=$$?; if ((code == 5)); then echo "pytest $(1): no such test yet"; else exit $$code; fi

# Two suites at once would share two cores and miss their deadlines.
.NOTPARALLEL:
.PHONY: help setup demo test check test-flink test-services test-faults explore mutants fuzz bench

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Python packages, jars and FLINK_HOME, checked by hash (JDK, Maven, PostgreSQL by apt when root)
	@reasoner/stack/setup.sh

demo: setup ## Plant an incident in a small shop's telemetry and watch the real job find it (DEMO_SEED, DEMO_INCIDENT=none, DEMO_KEEP=1)
	@$(BIN)/reasoner demo

test: setup check test-flink test-services ## All tests but the faults, on real Kafka, Flink, PostgreSQL and Iceberg: the same on every run

check: setup ## Lint, format, types, import contracts and the tests that need no engine
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(call pytest,tests)

test-flink: setup ## The adapter and the jobs on a Flink mini-cluster
	@$(call pytest,tests -m flink)

test-services: setup ## Real Kafka broker, PostgreSQL and standalone Flink cluster
	@$(call pytest,tests -m services)

test-faults: setup ## Kill processes and count what survives (minutes each); writes docs/verdicts
	@export VERDICTS=docs/verdicts; $(call pytest,tests -m faults)

explore: setup ## Search the laws at random for EXPLORE_SECONDS (600), from EXPLORE_SEED (0: the clock)
	@$(BIN)/python -m tests.explore --seconds $${EXPLORE_SECONDS:-600} --seed $${EXPLORE_SEED:-0}
mutants: setup ## Planted faults (tests/mutants): the tests must fail by each one; MUTANT=name for one of them
	@$(BIN)/python -m tests.mutants.run $(if $(MUTANT),--only $(MUTANT))

fuzz: setup ## Random and broken bytes against the decoders for FUZZ_SECONDS (20)
	@reasoner/stack/setup.sh fuzz
	@$(BIN)/python tests/fuzz/fuzz_decoders.py -max_total_time=$${FUZZ_SECONDS:-20}

bench: setup ## Spans per second of the whole job, with the stages' shares
	@$(BIN)/reasoner bench job
