PYTHON ?= python

.PHONY: check format lint types test test-all bench

check: format lint types test-all  ## everything that a commit has to pass

format:
	$(PYTHON) -m ruff format --check .

lint:
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

test:  ## needs no network and no GPU; real pictures are used if SEGMENTATION_DATA names a folder
	$(PYTHON) -m pytest -n auto -m "not slow"

test-all:  ## the slow tests too
	$(PYTHON) -m pytest -n auto

bench:  ## ratios against peers on this machine
	$(PYTHON) -m benchmarks.augmentation
	$(PYTHON) -m benchmarks.data
	$(PYTHON) -m benchmarks.trainer
	$(PYTHON) -m benchmarks.models
