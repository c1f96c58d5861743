# Set-up, the first run, the tests and every gate. `make help` lists the targets.
# CI (.ci/run) calls these same targets.

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
# at most four test processes: each holds up to 2 GB
PYTEST_WORKERS ?= -n auto --maxprocesses 4 --dist loadscope
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
SOURCES := deeph_zero basis tests examples benchmarks tools setup.py
PRESENT = $(wildcard $(SOURCES))

.DEFAULT_GOAL := help
.PHONY: help env fit test check format lint imports docstrings types bench docs clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

env: $(STAMP)  ## the virtual environment .venv (make env PYTHON=python3.12 picks the interpreter)
	@:

$(STAMP): constraints.txt pyproject.toml setup.py
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo \
	  "make env: no '$(PYTHON)' found; give an interpreter, for example make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c '' >/dev/null 2>&1 || { echo \
	  "make env: '$(PYTHON)' does not run; give an interpreter that does, for example make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo \
	  "make env: Python 3.11, 3.12 or 3.13 expected, '$(PYTHON)' is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo \
	  "make env: '$(PYTHON)' lacks the venv module; install it (Debian, Ubuntu: apt install python3-venv) or try another PYTHON=" >&2; exit 1; }
	@wanted=$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])'); \
	  found=$$($(BIN)/python -c 'import sys; print(sys.version_info[:2])' 2>/dev/null || true); \
	  [ "$$wanted" = "$$found" ] && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(VENV)
	@echo "make env: installing into $(VENV) (a few minutes; log: $(LOG))"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input $(PIP_ARGS) \
	  -c constraints.txt -e '.[dev]' >$(LOG) 2>&1 \
	  || { tail -n 15 $(LOG) >&2; echo "make env: pip failed; the whole log is $(LOG)" >&2; exit 1; }
	@touch $(STAMP)
	@echo "make env: ready; for the commands without make: source $(BIN)/activate"

fit: env  ## solve water without labels: examples/water.xyz -> water_run/
	@$(BIN)/deeph-zero fit examples/water.xyz --overwrite -o water_run

test: env  ## all tests (make test PYTEST_ARGS="-m 'not slow'")
	@$(BIN)/python -m pytest $(PYTEST_WORKERS) $(PYTEST_ARGS)

# each gate is a target of its own, so that `make -k check` shows every failure at once
check: format lint imports docstrings types  ## every gate that runs no code: format, lint, layers, docstrings, types
	@echo "check: all gates passed"

format: env  ## ruff format, as a check only
	@echo "check: ruff format"; $(BIN)/ruff format --quiet --check $(PRESENT) \
	  || { $(BIN)/ruff format --check $(PRESENT); exit 1; }

lint: env  ## ruff lint
	@echo "check: ruff check"; $(BIN)/ruff check --quiet $(PRESENT)

imports: env  ## the layers (import-linter)
	@echo "check: import contracts"; $(BIN)/lint-imports --no-logo --no-cache >$(VENV)/imports.log 2>&1 \
	  || { cat $(VENV)/imports.log; exit 1; }

docstrings: env  ## docstrings match signatures (pydoclint)
	@echo "check: docstrings"; $(BIN)/pydoclint --quiet deeph_zero

types: env  ## static types (basedpyright, pyright's standard mode)
	@echo "check: types"; $(BIN)/basedpyright --level error >$(VENV)/types.log 2>&1 \
	  || { cat $(VENV)/types.log; exit 1; }

bench: env  ## every benchmark in its short form
	@failed=; for file in $(wildcard benchmarks/bench_*.py); do \
	  echo "bench: $$file --smoke"; $(BIN)/python $$file --smoke || failed="$$failed $$file"; done; \
	  [ -z "$$failed" ] || { echo "make bench: failed:$$failed" >&2; exit 1; }

docs: env  ## the documentation site, site/index.html (installs MkDocs Material into .venv)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet $(PIP_ARGS) \
	  -c constraints.txt -e '.[docs]' >$(VENV)/docs.log 2>&1 \
	  || { tail -n 15 $(VENV)/docs.log >&2; echo "make docs: pip failed; the log is $(VENV)/docs.log" >&2; exit 1; }
	@NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs build --strict --clean --quiet
	@echo "make docs: site/index.html"

clean:  ## remove the environment, caches, builds and run folders of make fit
	@rm -rf $(VENV) build dist site *.egg-info water_run .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
