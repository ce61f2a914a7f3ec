# `make quickstart` trains a model here and now; `make quick` and `make test` set up and pass the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Of 26,000 modules few are ever imported: Python compiles those when they are, and pip need not compile all.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install -qq --no-compile
RUN := runs/quickstart
DATA := data/fashion-mnist-10k
TESTS := not slow
PROCESSES := 3 # of pytest; each of them often waits for ranks

# Without its files of bytecode, each of the hundreds of processes that tests start would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart quick test tests test-all system-packages lint style types docs lock clean

quickstart: $(VENV)/core
	$(BIN)/bigtrain data prepare fashion-mnist-10k $(DATA)
	$(BIN)/bigtrain train configs/quickstart.yaml --nproc 2

quick: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/unit/core tests/unit/engine tests/unit/objectives

test:
	$(MAKE) --no-print-directory --jobs 2 system-packages $(VENV)/dev
	$(MAKE) --no-print-directory --jobs 4 --output-sync types style docs tests

tests: $(VENV)/dev
	+OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder --durations 40 --durations-min 5 -m "$(TESTS)"

system-packages: | $(VENV)/bin/python # which may have to install a Debian package itself
	scripts/system-packages

test-all: $(VENV)/dev # those of minutes as well: all faults, growing and shrinking worlds, MLflow's slowest page
	$(PIP) --requirement tests/slow-requirements.txt
	$(MAKE) --no-print-directory test TESTS=""

lint: $(VENV)/dev
	$(MAKE) --no-print-directory --jobs 2 --output-sync types style docs

style: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/dev
	$(BIN)/mypy

docs: $(VENV)/dev # a site that works from files: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The environment, from the lock files: what training needs, and on top of it what developing needs.
$(VENV)/core: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/core
	$(PIP) --require-hashes --requirement requirements-dev.lock
	touch $@

$(VENV)/bin/python:
	scripts/make-venv $(PYTHON) $(VENV)

# Write the lock files anew, for all platforms and Python versions; needs uv.
lock:
	uv pip compile pyproject.toml --extra test --extra dev --group build --universal --generate-hashes --no-annotate --no-header \
	  --output-file requirements-dev.lock
	uv pip compile pyproject.toml --group build --universal --generate-hashes --no-annotate --no-header \
	  --constraint requirements-dev.lock --output-file requirements.lock

clean:
	rm -rf $(VENV) $(RUN) $(DATA)
