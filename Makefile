# Everything nbops needs, from an empty folder. `make help` lists the targets.
# Stamps in .venv/.stamps remember what is done, so that a second run is quick.

PYTHON  ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV    := .venv
BIN     := $(CURDIR)/$(VENV)/bin
DONE    := $(VENV)/.stamps
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --quiet
BENCH_PIP := .venv-bench/bin/python -m pip --disable-pip-version-check install --quiet
LOCKED  := -c requirements/constraints.txt
BUNDLE  := src/nbops/labextension/package.json
# Processes that run the tests, each whole files; 0 runs all in one.
WORKERS ?= 2
NB      := example_notebooks/01_quickstart.ipynb

export PATH := $(BIN):$(PATH)
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD = 1
# Development checkouts keep the demo's records in their own folder, wherever a variable of the caller points.
unexport NBOPS_WORKSPACE NBOPS_STORE_URL NBOPS_ARTIFACTS_URL

# jlpm reads another setting than npm; this keeps every address out of the lock file.
JLPM := cd labextension && YARN_NPM_REGISTRY_SERVER="$$(npm config get registry 2>/dev/null)" YARN_ENABLE_TELEMETRY=0 jlpm

FRONT := $(filter-out %.tsbuildinfo,$(shell find labextension -type f \
	-not -path '*/node_modules/*' -not -path '*/.yarn/*' -not -path '*/lib/*' -not -path '*/tests/*' 2>/dev/null))

.PHONY: help install demo labextension lab test lint format check bench docs docs-serve tools wheel lock clean clean-all
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- what is used ----------------------------------------------------------------------------------------------------

install: $(DONE)/nbops $(DONE)/front ## nbops with its JupyterLab extension, in .venv

demo: install ## run the quickstart notebook and show what it recorded
	@$(BIN)/python scripts/demo.py $(NB)

labextension: $(DONE)/front ## build the front end and link it into .venv

lab: install ## open the quickstart in JupyterLab
	$(BIN)/jupyter lab $(NB)

test: $(DONE)/dev $(DONE)/front $(DONE)/tools $(DONE)/mlflow-clients $(DONE)/mlflow-integrations lint ## all checks and tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(DONE)/dev $(DONE)/modules ## ruff, mypy --strict and the TypeScript compiler
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(JLPM) check

format: $(DONE)/dev ## apply ruff's formatting and safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DONE)/dev ## build the documentation into site/, with warnings as errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built site/index.html"

docs-serve: $(DONE)/dev ## show the documentation while you write it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: .venv-bench/.done ## measure against the peers, in an environment of its own
	.venv-bench/bin/python -m pytest tests/benchmarks -q -s -p no:cacheprovider --override-ini=addopts=--import-mode=importlib --override-ini=timeout=0 --override-ini=filterwarnings=ignore $(ARGS)

tools: $(DONE)/tools ## Chromium and PostgreSQL for the tests

wheel: $(DONE)/dev $(BUNDLE) ## sdist and wheel in dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

lock: $(DONE)/dev ## write requirements/constraints.txt from what is installed
	$(BIN)/python scripts/lock.py requirements/constraints.txt

clean: ## remove what was built, keep the environments
	rm -rf build dist site test-results src/nbops/labextension labextension/lib labextension/tsconfig.tsbuildinfo
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis $(DONE)/front
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## remove the environments and the demo's records too
	rm -rf $(VENV) .venv-bench .venv-mlflow labextension/node_modules labextension/.yarn .nbops

# ---- how it comes about ----------------------------------------------------------------------------------------------

$(DONE)/venv:
	@test -n "$(PYTHON)" || { echo "nbops needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(DONE) && touch $@

# torch first and alone: a later resolution then finds the pinned build in place and fetches no other.
$(DONE)/torch: requirements/torch.txt | $(DONE)/venv
	$(PIP) -r requirements/torch.txt
	@touch $@

$(DONE)/build: requirements/constraints.txt | $(DONE)/torch
	$(PIP) $(LOCKED) hatchling hatch-jupyter-builder jupyter-builder
	@touch $@

$(DONE)/nbops: pyproject.toml requirements/constraints.txt scripts/hatch_build.py README.md LICENSE jupyter-config/nbops.json | $(DONE)/build
	$(PIP) $(LOCKED) --no-build-isolation -e '.[demo]'
	@touch $@

$(DONE)/dev: $(DONE)/nbops
	$(PIP) $(LOCKED) --no-build-isolation -e '.[dev]'
	@touch $@

$(DONE)/node: | $(DONE)/venv
	@$(BIN)/python scripts/bring_node.py
	@touch $@

$(DONE)/modules: labextension/package.json labextension/yarn.lock $(DONE)/node | $(DONE)/build
	$(JLPM) install --immutable
	@touch $@

$(BUNDLE): $(FRONT) $(DONE)/modules
	$(JLPM) build:prod
	@touch $@

# A link, so that a rebuilt front end is seen at the next reload of the page.
$(DONE)/front: $(BUNDLE) $(DONE)/nbops
	@$(BIN)/jupyter-builder develop --overwrite . >/dev/null
	@touch $@

$(DONE)/tools: scripts/bring_tools.py | $(DONE)/dev
	@$(BIN)/python scripts/bring_tools.py
	@touch $@

# MLflow's own clients, each version alone: the tests talk to our server with them, unmodified.
$(DONE)/mlflow-clients: requirements/mlflow-clients.txt | $(DONE)/venv
	@for version in $$(cat $<); do \
		$(BIN)/python -m venv .venv-mlflow/$$version && .venv-mlflow/$$version/bin/python -m pip \
			--disable-pip-version-check install --quiet mlflow-skinny==$$version pandas || exit 1; done
	@touch $@

# Lightning, Hugging Face, scikit-learn and xgboost, unmodified, in one environment; torch first here too. Of transformers
# the last version 4 as well, in a folder that goes before the environment's own.
INTEGRATIONS := .venv-mlflow/integrations
INTEGRATIONS_PIP := $(INTEGRATIONS)/bin/python -m pip --disable-pip-version-check install --quiet
$(DONE)/mlflow-integrations: requirements/torch.txt requirements/mlflow-integrations.txt requirements/transformers-4.txt | $(DONE)/venv
	$(BIN)/python -m venv $(INTEGRATIONS)
	$(INTEGRATIONS_PIP) -r requirements/torch.txt
	$(INTEGRATIONS_PIP) -r requirements/mlflow-integrations.txt
	@rm -rf .venv-mlflow/transformers-4
	$(INTEGRATIONS_PIP) --no-deps --target .venv-mlflow/transformers-4 -r requirements/transformers-4.txt
	@touch $@

.venv-bench/.done: requirements/bench.txt requirements/bench-constraints.txt requirements/torch.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "nbops needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …"; exit 1; }
	$(PYTHON) -m venv .venv-bench
	$(BENCH_PIP) -r requirements/torch.txt
	$(BENCH_PIP) -c requirements/bench-constraints.txt -r requirements/bench.txt
	$(BENCH_PIP) -c requirements/bench-constraints.txt --no-build-isolation -e '.[sklearn,pandas,postgres]'
	@touch $@
