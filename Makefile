PYTHON ?= python
# Seeds of the runs that test-faults kills
KILLED_RUNS ?= 20
# Deliberate faults that test-guards tries at once
GUARD_JOBS ?= 2

.PHONY: check format lint types dockerfile test test-all test-faults test-guards audit bench

check: format lint types dockerfile test-all audit  ## everything that a commit has to pass

format:
	$(PYTHON) -m ruff format --check .

lint:
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

dockerfile:  ## skipped where there is no hadolint
	@if command -v hadolint > /dev/null; then hadolint Dockerfile; \
	else echo "dockerfile: skipped, hadolint is not installed (requirements-dev.txt names it)"; fi

test:  ## needs no network and no GPU; real pictures are used if SEGMENTATION_DATA names a folder
	$(PYTHON) -m pytest -n auto -m "not slow and not faults"

test-all:  ## the slow tests too
	$(PYTHON) -m pytest -n auto -m "not faults"

test-faults:  ## kills, breaks and resumes programs; about 10 minutes on two cores
	KILLED_RUNS=$(KILLED_RUNS) $(PYTHON) -m pytest -n auto -m faults

test-guards:  ## puts deliberate faults into a copy: a test has to fail with each
	$(PYTHON) -m tests.deliberate_faults --jobs $(GUARD_JOBS)

audit:  ## known vulnerabilities of the pinned packages; skipped where the registry cannot be asked
	$(PYTHON) -m tests.package_audit

bench:  ## ratios against peers on this machine
	$(PYTHON) -m benchmarks.augmentation
	$(PYTHON) -m benchmarks.data
	$(PYTHON) -m benchmarks.trainer
	$(PYTHON) -m benchmarks.models
	$(PYTHON) -m benchmarks.prediction
	$(PYTHON) -m benchmarks.export
	$(PYTHON) -m benchmarks.serving
