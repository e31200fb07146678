# Two commands do all the set-up: `make serve` and `make test`. Everything is installed into .venv; the stamps in
# there let a second call start at once. Options for the command behind a target: make serve ARGS="--help"

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/constraints.txt
BENCHMARKS := multi_spec open_loop memory jobs_queue jobs_postgres
LOCKED := pyproject.toml requirements/constraints.txt

# Commands that start again and again, as in the tests, would compile the sources each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test check bench bench-quality clean

serve: .venv/installed
	@$(BIN)/safelight serve $(ARGS)

test: .venv/installed-test
	@$(BIN)/python -m pytest -n auto $(ARGS)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layering.py tests/test_project.py

bench: .venv/installed-bench
	@for benchmark in $(wildcard benchmarks/*_vs_*.py) $(addprefix benchmarks/,$(addsuffix .py,$(BENCHMARKS))); do \
	    $(BIN)/python $$benchmark $(ARGS) || exit; done

# Photographs of cameras: make bench-quality ARGS="DIRECTORY"
bench-quality: .venv/installed-bench
	@$(BIN)/python benchmarks/quality.py $(ARGS)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Safelight needs Python 3.11 or newer, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	    echo "Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; } >&2
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/made $(LOCKED)
	@echo "Installing Safelight into .venv ..."
	@$(PIP) -e .
	@touch $@

.venv/installed-bench: .venv/installed-test
	@echo "Installing what the benchmarks need into .venv ..."
	@$(PIP) -e '.[test,bench]'
	@touch $@

.venv/installed-test: .venv/installed
	@echo "Installing what the tests need into .venv ..."
	@$(PIP) -e '.[test]'
	@touch $@

.venv/installed-dev: .venv/installed-test
	@$(PIP) -e '.[test,dev]'
	@touch $@
