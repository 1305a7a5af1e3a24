# One entry per task, the same for people and for CI. `make help` lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: names help setup gen lint cover test fuzz upgrade-test demo up down status load exercise failover bench bench-pair bench-peers

BIN := .venv/bin
READY := .venv/ready
# What fails soonest first.
LEVELS := contract integration e2e fuzz
# Most tests on real servers wait rather than work. Each worker has servers of its own, and runs whole files, in their
# order: the whole system, which works also while nobody asks it, is started for the last ones.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# Decisions are functions of values: each of their branches has an example. Random ones would cover by luck, and are
# not measured (tests/conftest.py).
DECISIONS := services/domain services/redaction $(wildcard services/*/core)
COVERED := $(DECISIONS:%=--cov=%) --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

HELM = $(or $(shell command -v helm),$(abspath $(BIN))/helm)

# The first of these that really runs, is 3.11 or 3.12 and can make environments. PYTHON=… names another.
PYTHON :=
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3 /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3)
FIT := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

# make itself takes any variable, and a misspelt one has no effect: what looks like one of ours is refused.
GIVEN := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),'$(name)')))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

names: $(if $(GIVEN),$(READY))
	@$(if $(GIVEN),$(BIN)/python -m stack.variable_names $(GIVEN),:)

setup: $(READY) ## create .venv with all packages of requirements.lock

# Written last, so that an interrupted set-up continues. The lock is complete, so nothing is resolved (an older
# pip looks at the newest release for a name with extras, and refuses it for want of a hash); `pip check` proves it.
$(READY): requirements.lock pyproject.toml
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		for name in $(CANDIDATES); do if "$$name" -c '$(FIT)' 2>/dev/null; then found="$$name"; break; fi; done; \
		if [ -z "$$found" ]; then echo "needed: Python 3.11 or 3.12 with venv; PYTHON=… names one" >&2; exit 1; fi; \
		"$$found" -m venv --clear .venv; \
	fi
	@echo "packages from requirements.lock: a minute or two the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check --quiet --disable-pip-version-check
	@touch $@

gen: $(READY) ## write gen/ from proto/, and the tables of docs/*.md from the code
	$(BIN)/python proto/generate.py
	$(BIN)/python docs/tables.py
	$(BIN)/python deploy/grafana/generate.py

lint: $(READY) ## format, rules, types, imports, contracts, spelling, commits
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python proto/lint.py
	$(BIN)/codespell
	.githooks/commit-msg

cover: $(READY) names ## every branch of domain and cores is taken by an example
	$(BIN)/python -m pytest -q $(PARALLEL) tests/unit -m "not hypothesis" $(COVERED)

test: names lint ## lint, then all tests, the unit tests with `cover`, the others on real servers; ARGS=… names some
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -q $(PARALLEL) tests/unit $(COVERED)
	$(BIN)/python -m pytest $(PARALLEL) $(wildcard $(LEVELS:%=tests/%))
endif

demo: $(READY) names ## start everything, send logs, show the alerts they cause, stop; LOG=file sends your own
	$(BIN)/tocsin demo $(if $(LOG),--log "$(LOG)")

# Given, also as nothing, which removes what the last start was told. SINKS=0 is nothing too.
given = $(filter-out undefined,$(origin $(1)))

up: $(READY) names ## start everything and leave it running; SECURE=1 with TLS and keys; OTLP=host:port, ROUTES=file, SINKS=1, INGEST_…=… are kept until OTLP= and so on
	@$(BIN)/python -m stack up $(if $(call given,OTLP),--otlp "$(OTLP)") $(if $(call given,ROUTES),--routes "$(ROUTES)") \
		$(if $(call given,SINKS),$(if $(filter-out 0,$(SINKS)),--sinks,--no-sinks)) \
		$(if $(call given,SECURE),$(if $(filter-out 0,$(SECURE)),--secure,--no-secure))

down: $(READY) names ## stop everything; PURGE=1 removes the data as well
	@$(BIN)/python -m stack down $(if $(PURGE),--purge)

status: $(READY) names ## what runs, and what should and does not; fails unless all runs
	@$(BIN)/python -m stack status

load: $(READY) names ## send 1,000 random events a second for a minute, and say what became of them; ARGS="--rate 5000 --seconds 10"
	@$(BIN)/tocsin load $(ARGS)

exercise: $(READY) names ## kill each part of a system under load, and say what was lost or doubled; ARGS="kafka manager --rounds 3"
	@$(BIN)/tocsin exercise $(ARGS)

failover: $(READY) names ## the same of a system of which each part stands more than once; ARGS="--rounds 10"
	@$(BIN)/tocsin exercise --replicated $(ARGS)

fuzz: $(READY) names ## send 100,000 hostile inputs to a system; INPUTS=… sends another number
	TOCSIN_FUZZ_INPUTS=$(or $(INPUTS),100000) $(BIN)/python -m pytest -q tests/fuzz --timeout 0

upgrade-test: $(READY) names ## replace a system of the former release part by part under load; needs its commit in the history
	$(BIN)/python -m pytest -q -rs tests/upgrade

bench: $(READY) names ## start a system, load it, and print a table
	$(BIN)/python -m bench $(ARGS)

bench-pair: $(READY) names ## measure this tree beside BASE=commit in one run, and print ratios
	$(BIN)/python -m bench.pair $(BASE) $(ARGS)

bench-peers: $(READY) names ## measure Kafka Streams, Pathway and Quix Streams on the same broker, events and rules, and print ratios
	$(BIN)/python -m bench.peers $(ARGS)

.PHONY: chart
chart: $(READY) names ## render the Helm chart for deploy/helm/rendered, and check that; needs helm, or go to build it
	@command -v $(HELM) >/dev/null || GOBIN="$(abspath $(BIN))" go install helm.sh/helm/v3/cmd/helm@v3.22.0
	HELM="$(HELM)" deploy/helm/render.sh
	$(BIN)/python -m pytest -q tests/unit/deploy/test_chart.py

.PHONY: sbom
sbom: $(READY) ## write what the image is made of into sbom.json (CycloneDX)
	$(BIN)/python deploy/sbom.py > sbom.json
