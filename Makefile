# Everything a developer or a user does here; `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
# Small matrices gain nothing from threads, and tests run in several processes.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint slow check docs bench reproduce reliability clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed  ## make .venv and install rarefire with its tools

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## learn edges from photographs; ends with the path of the page
	$(ONE_THREAD) $(BIN)/rarefire run patches --set repeats=1 --out runs/demo --overwrite

test: setup  ## the tests that take minutes at most
	$(PYTEST) -m "not slow"

lint: setup  ## style, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: setup  ## killed processes, browsers, long fits, blocks of the documentation
	$(PYTEST) -m slow

check: lint test slow  ## all that must pass before a change lands

docs: setup  ## the documentation as a site, build/site/index.html; a warning is an error
	$(ONE_THREAD) $(BIN)/python tools/docs.py build/site

bench: setup  ## speed, side by side with others, into docs/benchmarks.md (leave the machine alone meanwhile)
	$(BIN)/python tools/bench.py

reproduce: setup reliability  ## run every recipe and write docs/results.md (about five hours; docs/results.md says how long each took)
	$(ONE_THREAD) $(BIN)/python tools/reproduce.py

reliability: setup  ## fuzz, kill, cover and mutate, and write docs/reliability.md (about three hours)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	$(BIN)/python tools/reliability.py

clean:  ## remove what was built, not runs/
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
