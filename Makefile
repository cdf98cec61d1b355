# One word for each thing that people and CI do. Everything runs in .venv, which these targets make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# where a machine forbids it, each of the hundreds of processes that the tests start would compile everything anew
unexport PYTHONDONTWRITEBYTECODE
INSTALLED := $(VENV)/.installed
# bytecode is made where it is imported: compiling all of it here is a third of the work
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: setup browser clients linters tools demo fmt lint types layers test cost check faults soak build bench-quick bench-reaction bench-store bench-pages bench-shipping lock clean

setup: $(INSTALLED)/dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(INSTALLED)

# the package is editable, so an edit of the sources needs no new install
$(INSTALLED)/run: requirements/run.lock requirements/build.lock pyproject.toml | $(BIN)/python
	$(PIP) install --no-compile --require-hashes -r requirements/run.lock -r requirements/build.lock
	$(PIP) install --no-compile --no-deps --no-build-isolation --editable .
	mkdir -p $(INSTALLED) && touch $@

$(INSTALLED)/dev: requirements/dev.lock pyproject.toml | $(BIN)/python
	$(PIP) install --no-compile --require-hashes -r requirements/dev.lock
	$(PIP) install --no-compile --no-deps --no-build-isolation --editable .
	mkdir -p $(INSTALLED) && touch $@

browser:  ## Debian's Chromium, for the browser tests
	@tests/browser/install-chromium

linters:  ## what checks the files in deploy/ and is no Python package
	@tests/deploy/install-linters

tools:  ## what the fault cases need: libfaketime, prlimit, a compiler
	@tests/faults/install-tools

# the packages that the browser tests bundle; with the Node of the dev requirements, whatever the machine has,
# and with the certificates that the machine trusts, as pip does it
CLIENTS := tests/browser/clients
clients: $(CLIENTS)/dist/page.js

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json | setup
	PATH="$(CURDIR)/$(BIN):$$PATH" NODE_OPTIONS=--use-system-ca npm ci --prefix $(CLIENTS) --no-audit --no-fund --loglevel=error
	touch $@

$(CLIENTS)/dist/page.js: $(CLIENTS)/page.js $(CLIENTS)/node_modules/.package-lock.json | setup
	PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent --prefix $(CLIENTS) build

demo: $(INSTALLED)/run  ## simulator, daemon and one example call on this machine
	$(BIN)/rtobserver demo

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

# more than a third of the tests' time is waiting, so four workers fill two cores
WORKERS ?= 4
# further words for pytest
PYTEST ?=
test: setup browser clients linters tools  ## all tests
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)

cost:  ## all tests, and at the end which files and tests use how much CPU
	$(MAKE) test PYTEST=--cost

# mypy takes one processor for half a minute: beside what is fetched and built, but not beside the tests;
# one thing at a time asks apt-get, which lets nobody in beside itself
check: setup
	$(MAKE) --jobs 2 --output-sync=target types lint layers browser clients
	$(MAKE) test

FIGURES := artifacts/faults.ndjson
faults: setup tools  ## break everything on purpose and count what is left, 20 minutes; writes docs/promises.md
	$(BIN)/pytest tests/faults -m "faults and not soak" --figures $(FIGURES) --whole --numprocesses $(WORKERS)
	$(BIN)/python scripts/promises.py $(FIGURES) $(wildcard artifacts/soak.ndjson)

soak: setup tools  ## what takes long: 200 kills, 500 calls for ten minutes, the patience that people run with; an hour
	$(BIN)/pytest tests/faults -m soak --figures artifacts/soak.ndjson --whole

build: setup
	$(BIN)/python -m build --no-isolation

bench-quick: setup  ## CPU per recorded event beside its floor, about two minutes
	$(BIN)/python benchmarks/recording.py --quick

bench-reaction: setup  ## trigger received to command on the wire beside a loop that records nothing, two minutes
	$(BIN)/python benchmarks/reaction.py

bench-store: setup  ## queries on a million entries beside raw SQL, about two minutes
	$(BIN)/python benchmarks/store.py --entries 1000000

bench-pages: setup browser  ## how soon the page of a long call answers and how smoothly it moves, a minute
	$(BIN)/python benchmarks/pages.py

bench-shipping: setup  ## a journal shipped to PostgreSQL beside a bare loop of asyncpg, two minutes
	$(BIN)/python benchmarks/shipping.py

lock: setup  ## resolve the locked requirement files anew
	$(BIN)/uv pip compile pyproject.toml --extra demo --universal --generate-hashes --no-header --no-emit-index-url --quiet -o requirements/run.lock
	$(BIN)/uv pip compile requirements/build.in --universal --generate-hashes --no-header --no-emit-index-url --quiet -o requirements/build.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-header --no-emit-index-url --quiet -o requirements/dev.lock
	$(BIN)/uv pip compile pyproject.toml --extra postgres --extra cel --extra parquet --constraint requirements/dev.lock --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet -o requirements/container.lock

clean:
	rm -rf $(VENV) dist $(CLIENTS)/dist $(CLIENTS)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
