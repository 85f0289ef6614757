# `make demo` and `make test` need Python 3.11+ and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PATHS := core api worker client tests benchmarks docs

# make demo MODEL=torchvision:squeezenet1_0 WEIGHTS=w.safetensors IMAGES=photos FEATURES='logit:88; -logit:1' RECIPE=natural OUT=page
MODEL ?= reference
export MODEL WEIGHTS IMAGES FEATURES RECIPE OUT

.DEFAULT_GOAL := help
.PHONY: help demo test faults chromium format lint types check bench clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Accentor needs Python 3.11 or later; name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo "this Python cannot make virtual environments: install the package python3-venv"; exit 1; fi; }

$(VENV)/.local: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[local]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[dev]'
	@touch $@ $(VENV)/.local

demo: $(VENV)/.local ## accentuate sample scenes with the whole service on this machine, and write a page
	@$(BIN)/python -m accentor.cli.demo

chromium: # for the tests of the pages
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends chromium; \
	  else echo "chromium is not on PATH, so the tests of the pages are skipped (and fail where CI is set): install the package chromium"; fi; }

# Tests run beside one another, and beside the processes that they start.
test faults: export OMP_NUM_THREADS := 1

# In the order of their folders: by number, xdist would leave the files of few and long tests to one process at the end.
test: $(VENV)/.dev chromium ## the tests; those of the real model need ACCENTOR_TEST_ASSETS
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not faults'

faults: $(VENV)/.dev ## the tests that end real processes by force, some minutes more
	$(BIN)/python -m pytest -m faults

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format $(PATHS)
	$(BIN)/ruff check --fix --select I $(PATHS)

lint: $(VENV)/.dev ## check style
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)

types: $(VENV)/.dev ## check types
	$(BIN)/mypy

check: lint types test faults ## everything CI runs

bench: $(VENV)/.dev ## measure engine and service for some minutes, and print tables
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/service.py --quick

clean: ## remove what make and the demo made
	rm -rf $(VENV) accentor-demo .pytest_cache .mypy_cache .ruff_cache
