# make repro   environment, data, weights, pipeline, report
# make test    environment, all tests
# make lint    style and types
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stages are run by the first `python` on the path.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test lint clean
repro: $(VENV)/ready data
	$(BIN)/dvc repro

test: $(VENV)/ready-dev data
	$(BIN)/python -m pytest -m "not slow and not cuda"

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

data: | $(VENV)/ready
	$(BIN)/dvc pull --quiet data.dvc

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	touch $@

clean:
	rm -rf $(VENV) build
