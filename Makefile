# make demo: a first model. make test: the whole test suite. make check: all that CI asks for.
PYTHON ?= python3
VENV ?= .venv
DEV_VENV ?= .venv-dev
EXTRAS ?= dev
# tests at a time; those that watch the clock come after the others, one by one
JOBS ?= 2

# a virtual environment someone works in, or packages on PYTHONPATH, must not leak into ours
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# relative and absolute names both work: the recipes run in this folder
DEV_PYTHON = $(DEV_VENV)/bin/python
SOURCES := $(shell find automl_cli -type f -not -name '*.pyc')

.PHONY: help demo test check format lint types prerequisites clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    install into $(VENV), fit, predict and evaluate on sample data (about two minutes)"
	@echo "make test    install into $(DEV_VENV) and run the whole test suite"
	@echo "make check   format, lint, types and tests: the whole gate"
	@echo "make format  rewrite the code in the one format"
	@echo "make clean   remove both virtual environments and build/"

demo: $(VENV)/.installed
	@scripts/demo.sh "$(VENV)"

test: $(DEV_VENV)/.installed-$(EXTRAS)
	$(DEV_PYTHON) -m pytest -n $(JOBS) --dist loadfile -m "not alone" $(PYTEST) || [ $$? -eq 5 ]  # 5: none of them
	$(DEV_PYTHON) -m pytest -m alone $(PYTEST) || [ $$? -eq 5 ]

check: lint types test

lint: $(DEV_VENV)/.installed-$(EXTRAS)
	$(DEV_PYTHON) -m ruff format --check .
	$(DEV_PYTHON) -m ruff check .

types: $(DEV_VENV)/.installed-$(EXTRAS)
	$(DEV_PYTHON) -m mypy

format: $(DEV_VENV)/.installed-$(EXTRAS)
	$(DEV_PYTHON) -m ruff format .
	$(DEV_PYTHON) -m ruff check --fix .

# as a user installs it: a copy, so it is made again when the code changes
$(VENV)/.installed: pyproject.toml $(SOURCES) | prerequisites
	@echo "Installing into $(VENV): hundreds of megabytes, where pip has not kept them from before ..."
	@"$(PYTHON)" -m venv "$(VENV)"
	@rm -rf build/lib build/bdist.*  # setuptools would ship modules that are gone by now
	@"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check .
	@touch "$@"

# editable, so that tests and doctests see one copy of the code
$(DEV_VENV)/.installed-$(EXTRAS): pyproject.toml | prerequisites
	"$(PYTHON)" -m venv "$(DEV_VENV)"
	"$(DEV_PYTHON)" -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch "$@"

prerequisites:
	@scripts/prerequisites.sh "$(PYTHON)"

clean:
	rm -rf "$(VENV)" "$(DEV_VENV)" build
