# `make demo`, `make test` and `make test-all` set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The tested versions: for Python 3.11, and for later ones.
MINOR := $(shell $(PYTHON) -c 'import sys; print(min(max(sys.version_info[1], 11), 12))')
LOCK := requirements-3.$(MINOR).lock
# A file's tests share what they compile, so they stay in one process.
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 \
	--dist=loadfile --no-loadscope-reorder

.PHONY: demo test test-all test-versions check fix docs clean

demo: $(READY)
	rm -rf runs/digits
	$(BIN)/python -m experiments.run --config=configs/digits.py --workdir=runs/digits
	$(BIN)/python -m scripts.report runs/digits

test: $(READY)
	$(PYTEST) -m 'not slow'

test-all: $(READY)
	$(PYTEST)

# The tests that depend on the versions of JAX and other packages.
test-versions: $(READY)
	$(PYTEST) -m 'not slow or versions'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

fix: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The package comes first: it says which Python it needs. uv installs the rest in
# a fifth of pip's time; without uv, pip does.
$(READY): $(LOCK) setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m pip install --quiet uv \
	&& $(BIN)/uv pip install --quiet --python $(BIN)/python --requirement $(LOCK) \
	|| $(BIN)/python -m pip install --quiet --requirement $(LOCK)
	touch $(READY)

clean:
	rm -rf $(VENV) $(VENV)-newest runs site .mypy_cache .ruff_cache .pytest_cache .cache
