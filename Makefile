# make demo    install into .venv and build the demonstration corpus in demo-build
# make test    install the test tools into .venv; lint, format check, types, tests
# make chaos   200 rounds of faults, in the folder chaos
# make docs    the manual, in docs/_build/html
# make clean   remove .venv, demo-build and the caches

PYTHON ?= python3
VENV ?= .venv
TORCH := torch==2.13.0
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CODE := $(wildcard manifests curation separators augment builders training stemloom.py)

.DELETE_ON_ERROR:
.PHONY: demo test lint types chaos docs clean

demo: $(VENV)/.package
	$(BIN)/stemloom demo --out demo-build

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy $(CODE)

chaos: $(VENV)/.dev
	rm -rf chaos
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.chaos --rounds 200 --seed 1 --out chaos

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html

# torch goes in first and pinned, so that nothing after it asks for a newer one with its CUDA libraries.
$(VENV)/.torch: Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stemloom needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(TORCH)
	touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) install --quiet -c constraints.txt -e '.[av,scaper,demucs,roformer,onnx,museval,tensorboard,audit,cluster,cloud,dev]' || { \
		echo "without scaper: soxbindings is built from source (C++, libsox-dev); the tests that need it are skipped" >&2; \
		$(PIP) install --quiet -c constraints.txt -e '.[av,demucs,roformer,onnx,museval,tensorboard,audit,cluster,cloud,dev]'; }
	touch $@

clean:
	rm -rf $(VENV) demo-build chaos build dist docs/_build docs/_generated .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
