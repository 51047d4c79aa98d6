# make setup   the virtual environment .venv with all that demo, test and check need
# make demo    plant a backdoor, find it, repair it, write demo/report.html
# make test    all tests, in JOBS processes
# make test-extras   tests of timm, torchvision, ART and others, in an environment of their own (7 GB)
# make check   formatter, linter, types
# make docs    the pages of docs/methods, from the methods' docstrings
# make clean   remove what the targets above made, but for .venv
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-extras check docs clean

VENV := .venv
JOBS ?= 2

help:
	@sed -n 's/^# //p' Makefile | head -7

$(VENV)/.installed: pyproject.toml constraints.txt scripts/setup
	@scripts/setup $(VENV)
	@touch $@

setup: $(VENV)/.installed

demo: setup
	@$(VENV)/bin/detrojan demo --out demo

# One computing thread per process: small networks gain nothing from more, and the processes share the cores.
# Compiled modules are kept: many tests start a Python of their own.
test: setup
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 10

# torchvision's published builds do not work beside the PyTorch of .venv. Triton's client is pure Python; it asks
# for an older ml-dtypes than keras and onnx do, only for types that the tests do not use.
.venv-extras/.installed: pyproject.toml constraints.txt constraints-extras.txt scripts/setup
	@scripts/setup .venv-extras dev,timm,art,ray,otel,mlflow,readers,lightning constraints-extras.txt
	@.venv-extras/bin/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints-extras.txt \
		schemathesis geventhttpclient python-rapidjson accelerate pandas
	@.venv-extras/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
		tritonclient==2.73.0
	@touch $@

test-extras: .venv-extras/.installed
	@OMP_NUM_THREADS=1 .venv-extras/bin/python -m pytest -n $(JOBS) --dist loadfile --durations 5 \
		tests/extras tests/calls/test_art.py tests/report/outputs

check:
	@scripts/check

docs: setup
	@$(VENV)/bin/python scripts/docs.py

clean:
	@rm -rf demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache
	@find src tests scripts benchmark examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null; true
