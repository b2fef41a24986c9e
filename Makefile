# Onecode. Needs Python >= 3.11 with venv, make and git; everything else comes hash-locked into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Compiled modules are kept: a test starts hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup demo demo-network test lint types unit process test-calendar test-crash test-network bench format docs lock cometbft clean

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Tests that start processes of their own run one after another; all others share the machine's cores.
SERIAL := tests/integration tests/e2e tests/network
LOCKER := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

setup: $(DEV) ## Make .venv with everything for work on the project

demo: $(RUNTIME) ## Start a local network and pay once
	$(BIN)/onecode demo

demo-network: $(RUNTIME) cometbft ## The story on four validators, one of which is killed and comes back
	$(BIN)/onecode demo --validators 4

test: lint types unit test-calendar process ## All checks and tests

lint: $(DEV) ## Ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## Mypy in strict mode
	$(BIN)/mypy

unit: $(DEV) ## Tests inside one process, in parallel
	$(BIN)/python -m pytest -n 2 tests $(addprefix --ignore=,$(SERIAL))

process: $(DEV) ## Tests that start real processes, one at a time
	@if find $(SERIAL) -name 'test_*.py' 2>/dev/null | grep -q .; then \
		$(BIN)/python -m pytest $(wildcard $(SERIAL)); \
	else echo 'no process tests yet'; fi

test-calendar: $(DEV) ## Tests that read a clock, on other days: tomorrow, in 400 days, on 29 February 2028
	@for day in +1 +400 2028-02-29; do \
		ONECODE_CALENDAR=$$day PYTHONPATH=tests/calendar $(BIN)/python -m pytest -q -n 2 \
			$$(grep -rl --include='test_*.py' 'pytestmark = pytest.mark.clock' tests) || exit 1; \
	done

test-crash: $(DEV) ## 50 kills of random processes under load instead of 10 (ONECODE_CRASH_SEED=n repeats a run)
	ONECODE_CRASH_ROUNDS=$${ONECODE_CRASH_ROUNDS:-50} $(BIN)/python -m pytest -s tests/integration/test_kill.py

test-network: $(DEV) ## Every fault on four validators under load, about 12 minutes; cutting cables needs root and `ip`
	ONECODE_NETWORK=full $(BIN)/python -m pytest -s tests/network

bench: $(RUNTIME) ## Measure on this machine: tables, and build/bench.json (docs/performance.md; more: BENCH=--full)
	$(BIN)/python -m bench $(BENCH)

format: $(DEV) ## Let ruff format and fix the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV) ## Write the generated pages under docs/
	$(BIN)/python scripts/error_catalogue.py
	$(BIN)/python scripts/spec_tables.py
	$(BIN)/python scripts/openapi_platform.py
	$(BIN)/python scripts/openapi_node.py
	$(BIN)/python scripts/line_count.py

lock: $(DEV) ## Resolve pyproject.toml again into both lock files
	$(LOCKER) --upgrade pyproject.toml --group build --output-file requirements.lock
	$(LOCKER) --upgrade pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock
	@echo 'now: make setup && make test, and look at the difference'

cometbft: ## Build the engine of the distributed network into bin/ (needs Go >= 1.25)
	bash scripts/build_cometbft.sh bin

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	bash scripts/make_venv.sh $(VENV)
	@touch $@

# The build backend is in the lock too: nothing is installed that no hash pins.
$(RUNTIME): $(VENV)/.made requirements.lock pyproject.toml
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.lock
	$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@
