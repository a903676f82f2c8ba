# make repro   environment, data, weights, pipeline, report
#              JOBS=4: the models of the experiment four at a time, each with its share of the cores
# make test    environment, all tests
# make test-fast   those of them that start no program, pipeline, server or browser, in a minute or so
# make test-slow   the tests that take long: every point at which a training can be cut off, a cluster of two nodes
# make lint    style and types
# make reference   docs/params.md, docs/params.schema.json and docs/api.md, from the code
# make audit   the pinned packages against PyPI's list of known vulnerabilities
# make bench   side by side with other libraries, and whether the goals are reached (bench-gpu: on a GPU, without DVC)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stages are run by the first `python` on the path.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# The stages whose names match, each by a DVC of its own, $(JOBS) at a time.
each = $(BIN)/dvc stage list --name-only | grep "$(1)" | \
    OMP_NUM_THREADS=$$(( ($$(nproc) + $(JOBS) - 1) / $(JOBS) )) \
    xargs --max-procs=$(JOBS) --max-args=1 $(BIN)/dvc --wait-for-lock repro --single-item

.PHONY: repro test test-fast test-slow lint reference audit bench bench-gpu clean
repro: $(VENV)/ready data
ifdef JOBS
	$(BIN)/dvc repro pretrain
	$(call each,^finetune@\|^multitask@)
	for model in $$($(BIN)/dvc stage list --name-only | sed -n 's/^sequential@\(model[0-9]*\)-.*/\1/p' | sort -uV); do \
	    $(call each,^sequential@$$model-) || exit 1; done
	$(call each,^evaluate)
endif
	$(BIN)/dvc repro

test: $(VENV)/ready-dev data
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m "not slow and not cuda"

test-fast: $(VENV)/ready-dev data
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow and not cuda and not integration"

test-slow: $(VENV)/ready-dev data
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m slow

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(VENV)/ready
	$(BIN)/python -m yourbert.config.reference
	$(BIN)/python -m yourbert.deploy.api_reference

audit: $(VENV)/audit/bin/pip-audit
	$< --strict --no-deps --disable-pip --progress-spinner off $(addprefix --requirement=,$(wildcard requirements*.lock)) \
	    $$(sed -n 's/^\(PYSEC[^ ]*\).*/--ignore-vuln=\1/p' .github/allowed-advisories.txt)

bench: $(VENV)/ready-bench data
	$(BIN)/dvc repro --quiet download
	$(BIN)/python -m benchmarks.run cpu

bench-gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.run gpu

# On its own, so that it moves no pinned package.
$(VENV)/audit/bin/pip-audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1

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

$(VENV)/ready-bench: $(VENV)/ready requirements-bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.lock
	touch $@

clean:
	rm -rf $(VENV) build
