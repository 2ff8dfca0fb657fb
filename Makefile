# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11 or newer, with pip and venv.
PYTHON ?= python3
BIN := .venv/bin
BACKENDS := tensorflow jax torch
TESTS := $(BIN)/python -m pytest -m
# The file is there where the process ended in the midst of a test.
TELL := { status=$$?; cat .pytest_cache/running 2>/dev/null; exit $$status; }

.PHONY: demo test lint types format clean help

help:
	@echo "make demo    train, judge and report on embedded pictures, no network needed after the install"
	@echo "make test    every test: once what needs no backend, then once on each of $(BACKENDS)"
	@echo "make lint    ruff;  make types: pyright;  make format: ruff, mending what it can"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# A judge in the tests. On its own, because it would bring a second OpenCV that needs graphics libraries.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps mediapipe==1.2.2
	@touch $@

demo: .venv/installed
	$(BIN)/python -m keras_vision.derma --augment --data synthetic --epochs 30 --out runs/demo --overwrite

test: .venv/installed-dev
	KERAS_BACKEND=torch $(TESTS) "not backend" || $(TELL)
	set -e; for backend in $(BACKENDS); do KERAS_BACKEND=$$backend $(TESTS) backend || $(TELL); done

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/pyright

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache
