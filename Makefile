# Everything a person or CI does here. Each target sets up what it needs: Python 3.11 to 3.13, git and make suffice.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TYPED  := build/typed

.PHONY: help demo test lint docs format dev wheel clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## make a data set with planted defects, find them, print planted against found
	$(BIN)/fastdup-dagster demo

test: $(READY)  ## the test suite, a process per core
	$(BIN)/python -m pytest -n auto

lint: $(READY)  ## formatting, lint rules, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# assets/ and resources/ are installed inside the package; mypy sees them there through links
	@rm -rf $(TYPED) && mkdir -p $(TYPED)/fastdup_dagster
	@ln -s $(CURDIR)/fastdup_dagster/* $(CURDIR)/assets $(CURDIR)/resources $(TYPED)/fastdup_dagster/
	cd $(TYPED) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p fastdup_dagster

docs: $(READY)  ## the documentation, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(READY)  ## put the code in form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dev: $(READY)  ## the Dagster UI on this project, on http://127.0.0.1:3000
	$(BIN)/fastdup-dagster dev --workspace workspace.yaml

wheel: $(READY)  ## the wheel, in dist/
	$(BIN)/python -m build --wheel

clean:  ## remove what was built; keeps data
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info
