# Everything that people and CI do with this tree. Needs make and Python 3.11 or newer with its venv module;
# the rest is installed into .venv, again only when pyproject.toml has changed.

PYTHON ?= python3
# Tests mostly wait (for timeouts, for other programs), so twice two cores.
TEST_JOBS ?= 4

VENV := .venv
BIN := $(VENV)/bin
# The program as the image has it; making it needs a C compiler and Python's headers. What is measured runs on Debian's
# Python where there is one: it is built with optimisations, as the image's is, and 10 % faster than one without.
COMPILED := .venv-compiled
HAS_ALL := import os, pip, sys, sysconfig, venv; assert sys.version_info >= (3, 11); \
    os.stat(os.path.join(sysconfig.get_path("include"), "Python.h")); os.stat("/etc/debian_version")
COMPILED_PATH = $(shell /usr/bin/python3 -c '$(HAS_ALL)' 2>/dev/null && echo /usr/bin:)$(PATH)

.PHONY: help run test mutants test-installed check format docs bench bench-quick bench-instructions bench-scale bench-memory bench-outages bench-hostile lab-measure lab-chaos clean

help:
	@echo 'make run     three web nodes and the proxy in front of them, on your machine; Ctrl-C stops all of it'
	@echo 'make test    every test (those that need nginx, curl, wrk, keepalived or root skip where these are missing)'
	@echo 'make mutants 100 random changes to the code that no test may miss (SEED=1 for the same ones again)'
	@echo 'make check   lint, format, types, Dockerfile, architecture'
	@echo 'make format  let ruff format and mend what it can'
	@echo 'make docs    write docs/configuration.md anew from the model'
	@echo 'make bench               beside nginx, HAProxy, Caddy and others, 25 minutes; the report is in bench/results/'
	@echo 'make bench-quick         what has a bar, beside nginx, in a minute (needs nginx and wrk)'
	@echo 'make bench-memory        memory of large transfers (needs nginx)'
	@echo 'make bench-hostile       what bytes of hostile peers cost in CPU and memory; takes ten minutes'
	@echo 'make bench-outages       nodes that die, hang, drain, come and go under load (needs nginx and wrk)'
	@echo 'make bench-instructions  instructions per request against bench/baseline.json (needs valgrind)'
	@echo 'make bench-scale         the same for 1 and 10,000 routes, 3 and 1,000 backends; takes ten minutes'
	@echo 'make lab-measure         how long failover takes, beside keepalived, in network namespaces; an hour, needs root'
	@echo 'make lab-chaos MINUTES=60   random faults on both machines of a pair, and every gap with its cause; SEED=7 repeats one, needs root'
	@echo 'make clean   remove .venv and the caches'

run: $(VENV)/installed
	@exec $(BIN)/pyproxy demo

# They start hundreds of programs: none compiles the sources anew, not even where Python is told to keep no bytecode.
test test-installed: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/installed-dev
	$(BIN)/pytest -n $(TEST_JOBS) --dist worksteal

# The tests of the whole program, on the installation whose python is PYPROXY_PYTHON. Left out is what runs the sources
# in any case: parts of the program, or it with a stand-in for its workers or its speaker.
SOURCES_ONLY := alerts alone child control demo events lookup openapi pair runner syn_block

test-installed: $(VENV)/installed-dev
	$(BIN)/pytest -n $(TEST_JOBS) --dist worksteal tests/integration $(SOURCES_ONLY:%=--ignore=tests/integration/test_%.py)

# Random changes to the pure rooms, each against the tests of its module; those that nobody notices are printed.
mutants: $(VENV)/installed-dev
	$(BIN)/python -m tests.mutants $(SEED)

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest -q tests/test_architecture.py

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed
	$(BIN)/python -m pyproxy.config.document

bench-instructions: $(VENV)/installed $(COMPILED)
	$(BIN)/python bench/instructions.py
	$(COMPILED)/bin/python bench/instructions.py

bench-scale: $(VENV)/installed
	$(BIN)/python bench/instructions.py --scale

# This measures the program as the image has it, compiled; with .venv/bin/python instead, as it lies here.
bench: $(VENV)/installed-bench $(COMPILED)
	PYPROXY_PYTHON=$(CURDIR)/$(COMPILED)/bin/python $(BIN)/python bench/run.py

bench-quick: $(VENV)/installed-bench $(COMPILED)
	PYPROXY_PYTHON=$(CURDIR)/$(COMPILED)/bin/python $(BIN)/python bench/run.py --quick

bench-memory: $(COMPILED)
	$(COMPILED)/bin/python bench/memory.py

bench-outages: $(COMPILED)
	$(COMPILED)/bin/python bench/outages.py

bench-hostile: $(COMPILED)
	$(COMPILED)/bin/python bench/hostile.py

# The long lab tests first: figures of something that isn't right are worth nothing.
lab-measure: $(VENV)/installed-dev
	$(BIN)/pytest -q -m measure
	$(BIN)/python -m tests.lab.measure

MINUTES ?= 60

lab-chaos: $(VENV)/installed-dev
	$(BIN)/python -m tests.lab.chaos --minutes $(MINUTES) $(SEED:%=--seed %)

$(COMPILED): pyproject.toml docker/install.sh $(shell find pyproxy -name '*.py')
	rm -rf $(COMPILED)
	PATH="$(COMPILED_PATH)" docker/install.sh python $(COMPILED) .

clean:
	rm -rf $(VENV) $(COMPILED) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# pip knows dependency groups since 25.1; Debian 12 brings 23.0, so it is renewed first.
$(VENV)/python: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/installed: $(VENV)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
