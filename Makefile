# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11 or newer, with pip and venv.
PYTHON ?= python3
BIN := .venv/bin
# One thread a process, since two processes run side by side.
TESTS := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest --durations=10
# The file is there where the process ended in the midst of a test.
TELL = { status=$$?; cat .pytest_cache/running-$(1) 2>/dev/null; exit $$status; }

.PHONY: demo test test-quick lint types format clean help notebooks docs page
PARTS := test-jax test-tensorflow test-once-slow test-torch-slow test-once-quick test-torch-quick
.PHONY: $(PARTS)

help:
	@echo "make demo        train, evaluate and report on drawn images; no network needed after the install"
	@echo "make test        every test: once what needs no backend, then on TensorFlow, JAX and torch; 2 processes"
	@echo "make test-quick  on torch, without the tests that take more than a second"
	@echo "make notebooks   run the notebooks on JAX and write their outputs, and docs/notebooks/"
	@echo "make docs        the site, build/site/index.html, in an environment of its own; warnings are errors"
	@echo "make page        fetch what pages in the browser need, with npm: LiteRT, and the tools of their tests"
	@echo "make lint        ruff;  make types: pyright;  make format: ruff, fixing what it can"

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

# Two at a time, the longest first.
test: .venv/installed-dev
	$(MAKE) --jobs=2 --output-sync=target $(PARTS)

test-jax test-tensorflow: test-%: .venv/installed-dev
	PART=$@ KERAS_BACKEND=$* $(TESTS) -m backend || $(call TELL,$@)

test-torch-slow test-torch-quick: test-torch-%: .venv/installed-dev
	PART=$@ KERAS_BACKEND=torch $(TESTS) -m "backend and $(if $(filter quick,$*),not) slow" || $(call TELL,$@)

test-once-slow test-once-quick: test-once-%: .venv/installed-dev
	PART=$@ KERAS_BACKEND=torch $(TESTS) -m "not backend and $(if $(filter quick,$*),not) slow" || $(call TELL,$@)

test-quick: .venv/installed-dev
	PART=$@ KERAS_BACKEND=torch $(TESTS) -m "not slow" || $(call TELL,$@)

notebooks: .venv/installed-dev
	KERAS_BACKEND=$${KERAS_BACKEND:-jax} $(BIN)/python notebooks/build.py

.venv-docs/installed: requirements/docs.txt constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/docs.txt
	@touch $@

# From the notebooks' outputs; nothing is run.
docs: .venv-docs/installed
	.venv-docs/bin/python docs/build.py

# LiteRT into Keras's home, by writing a page; axe-core into page/node_modules. The tests of pages skip without them.
page: .venv/installed
	npm ci --prefix page --silent
	$(BIN)/python -m keras_vision.page tflite_exports/derma-best/qat.tflite --out runs/page.html --overwrite

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/pyright

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-docs build runs .pytest_cache .ruff_cache page/node_modules
