# `make` does everything: environment, pipeline, comparison. `make help` lists the rest.

PYTHON ?= python3
VENV   ?= .venv
SEED   ?= 6
CORES  ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

export PATH := $(abspath $(VENV))/bin:$(PATH)

SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := run
.PHONY: run setup cluster test test-fast test-faults test-hundred fuzz lint format bench clean lock help

run: setup  ## Run the pipeline as params.yaml says and print the comparison (default)
	@python -m pipeline check
	@snakemake --cores $(CORES)
	@python -m pipeline summary

setup: $(VENV)/.installed  ## Create .venv with the locked dependencies

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV): a few minutes, since PyTorch is large ..."
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

cluster: $(VENV)/.cluster  ## Add to .venv what submits jobs to Slurm: every start of Snakemake then takes longer

$(VENV)/.cluster: requirements-cluster.lock $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -r requirements-cluster.lock
	@touch $@

test: setup  ## Run all tests; the last line names the programs that some of them miss here
	@if command -v slurmctld >/dev/null; then $(MAKE) --no-print-directory cluster; fi
	python -m pytest -n auto --dist worksteal

test-fast: setup  ## Run the unit tests alone
	python -m pytest -n auto tests/unit -m "not network and not slow"

test-faults: setup  ## Kill, fill, truncate and corrupt, and write what came of it: docs/reliability.md
	python -m pytest -n $(CORES) --dist worksteal --timeout 1800 tests/faults --seed $(SEED) --write

fuzz: setup  ## Draw 10,000 settings and 10,000 image files, and see what becomes of each
	FUZZING=campaign python -m pytest tests/fuzz --timeout 0

test-hundred: cluster  ## Train a hundred networks, on 16 cores and under Slurm, and write docs/hundred.txt, as root
	python -m pytest tests/hundred

lint: setup  ## Check style, format, types and the Snakefile
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	snakemake --dry-run --quiet all >/dev/null
	! { snakemake --lint 2>&1 || true; } | grep -F '    * ' | grep -v 'Specify a conda environment'  # it is .venv

format: setup  ## Fix what the linters can fix
	ruff check --fix .
	ruff format .

bench: setup  ## Measure what a run costs
	python -m benchmarks
	python -m benchmarks.efficient

clean:  ## Remove outputs and the engines' state; DVC's cache and .venv stay
	rm -rf data/raw data/raw.json data/splits data/splits.json data/trained data/evaluated data/measured reports logs .snakemake .cache benchmarks/*.tsv

lock: setup  ## Write the lock files again from pyproject.toml
	@$(VENV)/bin/python -m pip install --quiet uv
	@head -n 1 requirements.lock > requirements.lock.new
	@uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --group dev pyproject.toml >> requirements.lock.new
	@uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --group dev --group cluster \
	  -c requirements.lock.new pyproject.toml | grep -vxFf requirements.lock.new > requirements-cluster.lock
	@mv requirements.lock.new requirements.lock

help:  ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ {printf "%-14s%s\n", $$1, $$2}' Makefile
