# A thin front: `make up` runs eventrouter, `make test` checks it. Everything else is `eventrouter …` (.venv/bin/eventrouter).
# Works with GNU make 3.81 and later. ARGS goes to the command: make up ARGS="--port 9000", make test ARGS="-k lanes".
.PHONY: up test chaos lint bench lock clean
.DELETE_ON_ERROR:

VENV = .venv
BIN = $(VENV)/bin
PLUGINS = $(wildcard plugins/*/pyproject.toml)
PROJECTS = pyproject.toml $(PLUGINS)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
EDITABLE = $(patsubst %/pyproject.toml,--editable ./%,$(PLUGINS))
NPM = $(patsubst %/package-lock.json,%/node_modules/.stamp,$(wildcard tests/clients/package-lock.json \
  browser/package-lock.json))
WITH_NODE = PATH="$(abspath $(BIN)):$$PATH"
CHROMIUM =
# The tests start hundreds of processes: each would compile all files anew where this variable is set, as images like to.
export PYTHONDONTWRITEBYTECODE =
# Two for each processor: many tests wait for something.
JOBS = $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
ARGS =

up: $(VENV)/up.stamp
	@exec $(BIN)/eventrouter up $(ARGS)

# While mypy runs, pytest compiles the tests: each of its processes would do it by itself, at the same time.
test: $(VENV)/test.stamp $(NPM)
	@$(BIN)/pytest --collect-only -qqq >/dev/null 2>&1 & $(MAKE) --no-print-directory lint; code=$$?; wait; exit $$code
	@CHROMIUM='$(CHROMIUM)' $(BIN)/python tests/clients/programs.py
	@$(BIN)/python tests/integration/lan.py
	CHROMIUM='$(CHROMIUM)' $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

# Crashes, power loss, machines without network, failovers, upgrades, a database that dies, a full disk; `make test` has the
# short ones of them. EVENTROUTER_CHAOS_SEEDS=20 repeats those that are at random.
chaos: $(VENV)/test.stamp
	@$(BIN)/python tests/integration/lan.py
	$(BIN)/pytest -n $(JOBS) --dist worksteal tests/chaos $(ARGS)
	$(BIN)/pytest -n $(JOBS) --dist worksteal --ignore tests/chaos -m long tests $(ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test.stamp
	@$(PIP) --editable '.[bench]'
	@for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench $(ARGS) || exit 1; done

# The versions that are installed here and in .ci/run. Run it after a change of dependencies.
lock: $(VENV)/test.stamp
	$(PIP) uv
	printf '%s\n' '-e .[test,otel,bench,node]' $(patsubst %/pyproject.toml,'-e ./%',$(PLUGINS)) | $(BIN)/uv pip compile - --universal \
	  --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-package eventrouter \
	  $(patsubst plugins/%/pyproject.toml,--no-emit-package %,$(PLUGINS)) --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) $(dir $(NPM)) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/up.stamp: $(PROJECTS) requirements.lock $(BIN)/python
	@echo 'Installing eventrouter and its plugins into $(VENV) (once) …'
	@$(PIP) --editable . $(EDITABLE)
	@touch $@

$(VENV)/test.stamp: $(VENV)/up.stamp
	@echo 'Installing what the tests need into $(VENV) (once) …'
	@$(PIP) --editable '.[test,otel]' $(EDITABLE)
	@touch $@

# Node.js 20 or later with npm: the system's, else from a wheel in $(VENV).
$(VENV)/node.stamp: $(VENV)/test.stamp
	@{ node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' && npm --version; } >/dev/null 2>&1 \
	  || { echo 'Installing Node.js into $(VENV) (once) …'; $(PIP) --editable '.[node]'; }
	@touch $@

%/node_modules/.stamp: %/package-lock.json | $(VENV)/node.stamp
	@echo 'Installing the npm packages of $* (once) …'
	@cd $* && $(WITH_NODE) npm ci --no-progress --loglevel=error
	@touch $@

# The newest Python that there is, from 3.11 on.
$(BIN)/python:
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 python; do \
	  if command -v $$python >/dev/null 2>&1 \
	    && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making $(VENV) with $$($$python --version) …"; \
	    $$python -m venv $(VENV) && exit 0; \
	    echo "$$python can't make a virtual environment: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; \
	    rm -rf $(VENV); exit 1; \
	  fi; \
	done; \
	echo 'eventrouter needs Python 3.11 or later, and there is none. Install it (https://www.python.org/downloads/,' >&2; \
	echo 'or brew install python, or apt install python3 python3-venv), or name it: make up PYTHON=/path/to/python3' >&2; \
	exit 1
