"""What several tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def run_code(code: str, *words: object) -> subprocess.CompletedProcess:
    """Run code in an interpreter of its own, in the root of the repository."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # With more threads than free cores a step waits for itself, many times its own length. For the
    # whole session: a fixture of a module comes before those of a test, and computes other numbers.
    torch.set_num_threads(1)


@pytest.fixture
def real_data() -> Path:
    """The folder with real datasets, where there is one."""
    folder = os.environ.get("SEGMENTATION_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SEGMENTATION_DATA names no folder")
    return Path(folder).resolve()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to be in, as a user is in one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def marker(tmp_path) -> Path:
    """What a hostile file makes if it runs."""
    return tmp_path / "hacked"


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)
