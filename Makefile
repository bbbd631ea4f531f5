# Each target prepares .venv by itself; `make demo` is the place to start.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-slow faults check format bench clean help

help:            ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/'

# torch first and alone: its exact version is what gives the CPU build
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.ready   ## the whole way on real purchases, in at most 6 minutes after installation
	$(BIN)/segmenter demo

test: $(VENV)/.ready   ## tests, at most 12 minutes
	$(PYTEST)

test-slow: $(VENV)/.ready   ## the tests that take minutes
	$(PYTEST) -m slow

faults: $(VENV)/.ready   ## long kill and equality runs, outside CI
	$(PYTEST) -m faults

check: $(VENV)/.ready   ## ruff, ruff format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready   ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready   ## quality of the demo beside the baselines, three seeds -> benchmarks/results/
	$(BIN)/python benchmarks/demo_quality.py

clean:           ## remove the demo's run (not .venv)
	rm -rf runs/demo
