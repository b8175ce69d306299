# Every target sets up what it needs; `make PYTHON=python3.12 test` chooses the Python that .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

ROOMS := stunet_deploy training export runtime
TYPED := $(ROOMS) benchmarks
BENCHMARKS := $(addprefix benchmarks.speed.,bench_step throughput peers)
# TensorRT's bindings whose calls the tests compare with ours: JetPack 6 and 7, the first and the latest TensorRT 11.
BINDINGS := tensorrt-cu12-bindings==10.3.0 $(addprefix tensorrt-cu13-bindings==,10.13.3.9 10.16.1.11 11.0.0.114 11.4.0.106)

# ONNX Runtime on whose versions hostile bundles are refused: the first, JetPack 6's last, what `make` installs.
ONNXRUNTIMES := 1.20.1 1.23.2 1.31.1

# With STUNET_NO_SKIP=1 every test runs, as in .ci/run.
QUICK := $(if $(STUNET_NO_SKIP),,-m "not slow")

.DEFAULT_GOAL := help
.PHONY: help demo test check bindings onnxruntimes bench faults live arm64

help: ## List the targets
	@sed -nE 's/^([a-z0-9]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: $(READY) ## Train, export, verify and stream on the data in the package; report in demo/
	@$(BIN)/stunet demo --out demo

test: $(READY) ## Run the tests
	@$(BIN)/python -m pytest -n logical --dist worksteal $(QUICK)

check: $(READY) ## Check format, lint, types, import rules and Python 3.10
	@echo "ruff format"; $(BIN)/ruff format --check --quiet .
	@echo "ruff check"; $(BIN)/ruff check --quiet .
	@echo "mypy --strict"; $(BIN)/mypy $(addprefix --package ,$(TYPED))
	@echo "lint-imports"; $(BIN)/lint-imports --no-logo
	@echo "vermin 3.10"; $(BIN)/vermin --quiet --violations --no-tips --target=3.10- $(ROOMS)

bindings: $(READY) ## Fetch TensorRT's bindings, which the tests check our calls against
	@for package in $(BINDINGS); do \
		folder=.bindings/$${package##*=}; \
		test -d $$folder && continue; \
		echo "$$package"; rm -rf $$folder.part; \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --target $$folder.part $$package \
			&& mv $$folder.part $$folder || echo "not for this Python or not reachable; its test is skipped"; \
	done

onnxruntimes: $(READY) ## Give hostile and good bundles to several versions of ONNX Runtime, in environments of their own
	@for version in $(ONNXRUNTIMES); do \
		folder=.onnxruntimes/$$version; \
		test -d $$folder && continue; \
		echo "onnxruntime $$version"; rm -rf $$folder.part; $(BIN)/python -m venv $$folder.part; \
		$$folder.part/bin/python -m pip install -qq --disable-pip-version-check "onnxruntime==$$version" numpy tzdata \
			&& mv $$folder.part $$folder || echo "not for this Python or not reachable; it is left out"; \
	done
	@$(BIN)/python -m benchmarks.faults --only bundles

bench: $(READY) ## Run the benchmarks; results in benchmarks/results/
	@set -e; for benchmark in $(BENCHMARKS); do echo "$$benchmark"; $(BIN)/python -m $$benchmark; done

faults: $(READY) ## Do to a stream what a controller meets in years; results in benchmarks/results/
	@$(BIN)/python -m benchmarks.faults

arm64: $(READY) ## Verify a bundle and run a service with the ARM builds under emulation; fetches Debian for ARM
	@$(BIN)/python -m benchmarks.field.arm64

live: $(VENV)/.live ## Run the service on a running SUMO simulation, which is installed first; results in live/
	@$(BIN)/python -m benchmarks.live

$(VENV)/.live: $(READY)
	@echo "Installing SUMO into $(VENV), once (half a gigabyte) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[live]'
	@touch $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is older than Python 3.10; choose another with PYTHON=python3.12")'
	@echo "Making $(VENV) and installing into it, once (a minute or more) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[cpu,train,service,baselines,dev]'
	@touch $@
	@echo "$(VENV) is ready."
