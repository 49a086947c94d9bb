# Each target is one verb. `make setup` creates everything that the project needs inside this checkout; when the stamps
# are fresh it takes less than 1 s.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin

# pytest exits with 5 when it finds no test: the suite does not exist yet. The target reports that and succeeds.
# Every other code that is not 0 is a failure.
pytest = code=0; $(BIN)/pytest $(1) || code=$$?; if ((code == 5)); then echo "pytest $(1): no such test yet"; else exit $$code; fi

# Tests on engines wait most of the time: two folders of tests/deploy at once, in the order of their names.
two_at_once = -n 2 --dist loadgroup --no-loadscope-reorder

# Two suites at the same time would share two cores and miss their deadlines.
.NOTPARALLEL:
.PHONY: help setup demo test check test-flink test-services test-faults test-wheel trial build shop shop-setup collector prometheus alertmanager loki boards checked
.PHONY: test-containers check-deploy test-deploy test-compose test-k8s operator kubernetes explore mutants fuzz docs bench

help: ## Print the list of targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install Python packages, jars and FLINK_HOME, checked by hash (as root also JDK, Maven and PostgreSQL by apt)
	@reasoner/stack/setup.sh

demo: setup ## Plant an incident in the telemetry of a small shop and check that the job finds it (DEMO_SEED, DEMO_INCIDENT=none, DEMO_KEEP=1)
	@$(BIN)/reasoner demo

test: setup operator check test-flink test-services ## Run all tests except test-faults, on real Kafka, Flink, PostgreSQL and Iceberg; deterministic

check: setup ## Check lint, format, types and import contracts, and run the tests that need no engine
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(call pytest,tests -n 2 --dist worksteal $(addprefix --ignore=tests/,flink services faults wheel deploy))

test-flink: setup ## Test the adapter and the jobs on a Flink mini-cluster
	@$(call pytest,tests -m flink)

test-services: setup ## Test with a real Kafka broker, PostgreSQL and a standalone Flink cluster
	@$(call pytest,tests -m services)

test-containers: setup ## test-services with Kafka and PostgreSQL in containers, by Docker or podman's socket (DOCKER_HOST); pulls their images
	@export REASONER_TEST_CONTAINERS=yes; $(call pytest,tests -m services)

test-faults: setup ## Kill processes, count what survives, make wrong situations; write docs/verdicts and docs/wrong-situations.md
	@export VERDICTS=docs/verdicts SITUATIONS=docs/wrong-situations.md; $(call pytest,tests -m faults)

check-deploy: setup ## Check the files that deploy and monitor a job with all programs for it, none of them left out (the first time builds for 20 minutes)
	@reasoner/stack/setup.sh collector haproxy prometheus alertmanager loki boards compose-check operator
	@export REASONER_NO_SKIPS=yes; $(call pytest,tests/unit/deploy)

test-deploy: check-deploy ## Run what deploys the job, on real engines: Collector, S3, catalogs, dashboard, images, Kubernetes; write docs/verdicts (the first time builds for half an hour)
	@reasoner/stack/setup.sh s3 redis shop browser podman kubernetes
	@export VERDICTS=docs/verdicts REASONER_NO_SKIPS=yes; $(call pytest,tests/deploy -m deploy $(two_at_once))

test-compose: setup ## The part of test-deploy that builds the images and runs docker-compose.yml by podman
	@reasoner/stack/setup.sh podman s3 collector compose-check
	@export VERDICTS=docs/verdicts; $(call pytest,tests/deploy/compose -m deploy)

test-k8s: setup operator kubernetes ## The part of test-deploy that runs k8s-operator on a real API server with the real operator
	@reasoner/stack/setup.sh s3
	@export VERDICTS=docs/verdicts; $(call pytest,tests/deploy/k8s -m deploy)

checked: setup ## Write docs/checked.md: each file that deploys or monitors a job, and what checked it, and when
	@$(BIN)/python -m tests.deploy.checked

test-wheel: setup ## Install the wheel in an empty folder and run the commands of README there, with a job on its own stack
	@$(call pytest,tests -m wheel)

build: setup ## Build wheel and sdist into dist
	@.tools/uv/bin/uv build --quiet --no-build-isolation --python $(BIN)/python && ls dist/*

trial: setup shop-setup collector ## Follow README with a Collector and the services of examples/own_services, play five faults, write docs/verdicts/trial.json (half an hour)
	@export VERDICTS=docs/verdicts; $(BIN)/pytest tests/faults -m trial

shop: shop-setup ## Run the five services of examples/own_services until Ctrl-C; they send telemetry to a Collector (SHOP_OPTIONS)
	@.tools/shop/bin/python -m examples.own_services.shop $(SHOP_OPTIONS)

shop-setup:
	@reasoner/stack/setup.sh shop

collector: ## Build an OpenTelemetry Collector of deploy/collector with Go, checked by hash: .tools/collector/otelcol
	@reasoner/stack/setup.sh collector

prometheus: ## Fetch Prometheus and promtool from the packages of Debian or Ubuntu: .tools/prometheus
	@reasoner/stack/setup.sh prometheus

alertmanager: ## Build Alertmanager and amtool with Go, checked by hash: .tools/alertmanager
	@reasoner/stack/setup.sh alertmanager

loki: ## Build Loki with Go, checked by hash, for the tests: .tools/loki
	@reasoner/stack/setup.sh loki

boards: setup ## Write Grafana's boards from their descriptions in deploy/grafana
	@reasoner/stack/setup.sh boards
	@.tools/boards/bin/python deploy/grafana/boards.py

operator: setup ## Fetch what checks k8s-operator without a cluster, by hash: the operator's validation and schemas (120 MB, half a minute; `make test` does it)
	@reasoner/stack/setup.sh operator

kubernetes: setup ## Build a Kubernetes API server and kubectl with Go, checked by hash: .tools/kubernetes (7 to 15 minutes, once)
	@reasoner/stack/setup.sh kubernetes

explore: setup ## Run the laws on random input for EXPLORE_SECONDS (600), from seed EXPLORE_SEED (0: from the clock)
	@$(BIN)/python -m tests.explore --seconds $${EXPLORE_SECONDS:-600} --seed $${EXPLORE_SEED:-0}
mutants: setup ## Plant each fault of tests/mutants and check that the tests fail; MUTANT=name plants one of them
	@$(BIN)/python -m tests.mutants.run $(if $(MUTANT),--only $(MUTANT))

fuzz: setup ## Run each decoder and the line path on random and broken bytes for FUZZ_SECONDS (20) each; FUZZ=name runs one
	@reasoner/stack/setup.sh fuzz
	@for target in $(or $(FUZZ),spans logs metrics json lines); do echo "fuzz: $$target"; $(BIN)/python tests/fuzz/run.py $$target -max_total_time=$${FUZZ_SECONDS:-20} || exit 1; done

docs: ## Build the documents as a site in the folder site; a dead link or anchor is an error
	@reasoner/stack/setup.sh docs
	@NO_MKDOCS_2_WARNING=1 .tools/docs/bin/mkdocs build --quiet
	@echo "docs: site/index.html (its search needs a server: python3 -m http.server -d site)"

bench: setup ## Measure the spans per second of the whole job and the share of each stage
	@$(BIN)/reasoner bench job
