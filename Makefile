# make help lists what can be made. Everything happens inside .venv; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: help run test check format bench golden docs lock wheel clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

run: $(STAMP)  ## a real fine-tuning run; make run ARGS="stage=3 offload=cpu" passes overrides on
	$(BIN)/python -m zpipe $(ARGS)

test: $(STAMP)  ## every test; make test ARGS="-m 'not real'" leaves the training runs out
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP)  ## formatting, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## let ruff put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## what benchmarks/README.md describes, on this machine
	$(BIN)/python -m benchmarks.startup

golden: $(STAMP)  ## renew the golden files under tests/golden
	ZPIPE_RENEW_GOLDEN=1 $(BIN)/python -m pytest -q tests/unit/test_golden.py tests/unit/test_golden_launchers.py tests/unit/test_command_line.py

docs: $(STAMP)  ## write docs/configuration.md from the schema
	DS_ACCELERATOR=cpu $(BIN)/python -m docs.configuration

lock: $(STAMP)  ## write requirements.lock from what is installed in .venv
	{ head -n 4 requirements.lock; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > .lock.new
	mv .lock.new requirements.lock

wheel: $(STAMP)  ## build dist/zpipe-*.whl, with conf/ and recipes/ inside
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove the environment and build products; outputs/ stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
