# Every target sets up what it needs; `make PYTHON=python3.12 test` chooses the Python that .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

ROOMS := stunet_deploy training export runtime
BENCHMARKS := $(wildcard benchmarks/bench_*.py)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench faults

help: ## List the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: $(READY) ## Train, export, verify and stream on the data in the package; report in demo/
	@$(BIN)/stunet demo --out demo

test: $(READY) ## Run the tests
	@$(BIN)/python -m pytest -n logical

check: $(READY) ## Check format, lint, types, import rules and Python 3.10
	@echo "ruff format"; $(BIN)/ruff format --check --quiet .
	@echo "ruff check"; $(BIN)/ruff check --quiet .
	@echo "mypy --strict"; $(BIN)/mypy $(addprefix --package ,$(ROOMS))
	@echo "lint-imports"; $(BIN)/lint-imports --no-logo
	@echo "vermin 3.10"; $(BIN)/vermin --quiet --violations --no-tips --target=3.10- $(ROOMS)

bench: $(READY) ## Run the benchmarks; results in benchmarks/results/
	@set -e; for benchmark in $(BENCHMARKS); do echo "$$benchmark"; $(BIN)/python $$benchmark; done

faults: $(READY) ## Kill and damage a stream, 500 times and 1,000; results in benchmarks/results/
	@$(BIN)/python benchmarks/faults.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is older than Python 3.10; choose another with PYTHON=python3.12")'
	@echo "Making $(VENV) and installing into it, once (a minute or more) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[cpu,train,service,dev]'
	@touch $@
	@echo "$(VENV) is ready."
