# Parameters for the command behind a target:  make demo ARGS="model=efficientnet_lite2 trainer.max_epochs=5"
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help setup demo test gpu fuzz lowest lint format types bench sweep compare tensorboard notebooks docs lock clean

ARGS ?=
# make test LONG=1 runs those marked `long` too, as CI does.
LONG ?=
# What make fuzz tries with each of its tests.
CASES ?= 2000
BIN := .venv/bin
READY := .venv/.ready
# The first Python on the path that is new enough; asked for only when .venv has to be made.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
# Large wheels over a slow line.
export UV_HTTP_TIMEOUT ?= 180
# The machine's own certificates where it has any, as pip: behind a company's proxy uv's do not do.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS ?= 1
endif

# One thread a product: the tests' tensors are small. Without ARGS, which as a rule name a few tests, several processes.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
several = $(if $(ARGS),, -n auto --maxprocesses 8 --dist $(1))
SLOW := (slow or slurm or browser) and not gpu$(if $(LONG),, and not long)
# pytest ends with 5 when nothing was selected: right for one of the two passes when ARGS names a few tests.
NONE_SELECTED := $(if $(ARGS),|| test $$? -eq 5)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## Make .venv and install the locked versions (the other targets do it by themselves)

# The lock bounds what pyproject.toml asks for, so that a system without CUDA packages can leave them out.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "mlic needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --constraints requirements.lock \
		--build-constraints requirements.lock --editable '.[dev]'
	@touch $@

demo: $(READY) ## Train and test on the demo data
	$(BIN)/python -m mlic.train $(ARGS)

test: $(READY) ## Run the tests: the fast ones, then the slow ones; LONG=1 for all that CI runs
	$(PYTEST)$(call several,loadfile) -m "not (slow or slurm or browser or gpu)" $(ARGS) $(NONE_SELECTED)
	$(PYTEST)$(call several,loadgroup) -m "$(SLOW)" $(ARGS) $(NONE_SELECTED)

gpu: $(READY) ## On a machine with a GPU: run its tests, then measure extraction beside forward pass and decoder
	$(BIN)/python -m pytest -m gpu -rs $(ARGS)
	$(BIN)/python -m benchmarks gpu

fuzz: $(READY) ## Fuzz readers, stores, checkpoints, definitions and killed runs: make fuzz CASES=2000 ARGS="-k csv"
	MLIC_FUZZ_CASES=$(CASES) $(PYTEST) tests/fuzz tests/training/test_kills.py $(ARGS)

lowest: $(READY) ## Run the fast tests with the lowest versions that pyproject.toml allows, in build/lowest
	mkdir -p build
	$(BIN)/uv pip compile pyproject.toml --extra dev --resolution lowest-direct --python-version 3.11 \
		--no-header --no-annotate --quiet --output-file build/lowest.txt
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python build/lowest
	$(BIN)/uv pip sync --quiet --python build/lowest/bin/python build/lowest.txt
	PYTHONPATH=. OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -m "not (slow or slurm or browser or gpu)" $(ARGS)

lint: $(READY) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Put style and formatting right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY) ## Check types
	$(BIN)/pyright

bench: $(READY) ## Measure the speed; prints a table, writes bench.json
	$(BIN)/python -m benchmarks $(ARGS)

sweep: $(READY) ## Train the three EfficientNet-Lite models on the demo data, and compare them
	$(BIN)/python -m mlic.train -m model=efficientnet_lite0,efficientnet_lite1,efficientnet_lite2 compare=true $(ARGS)

compare: $(READY) ## Write one report over the runs in outputs/, or ARGS="runs=... output=..."
	$(BIN)/python -m mlic.compare $(or $(ARGS),runs=outputs output=outputs/compare)

tensorboard: $(READY) ## Show the training curves of outputs/
	$(BIN)/tensorboard --logdir outputs $(ARGS)

notebooks: $(READY) ## Run the notebooks, outputs in place
	$(BIN)/python -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False $(ARGS) notebooks/*.ipynb

docs: $(READY) ## Build the site of the documentation in build/docs; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict $(ARGS)

lock: $(READY) ## Write requirements.lock anew from pyproject.toml; ARGS=--upgrade for the newest versions
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --python-platform linux \
		--no-header --no-annotate --quiet $(ARGS) --output-file requirements.lock

clean: ## Remove caches and build output; keeps outputs/ and .venv
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -not -path './outputs/*' -prune -exec rm -rf {} +
