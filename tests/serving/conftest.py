"""The model of the tests of prediction, and a server of it."""

import pytest

from tests.prediction.conftest import folder, model_file
from tests.serving.server import Server

__all__ = ["folder", "model_file"]


@pytest.fixture(scope="module")
def server(model_file):
    words = ["--max-bytes", "2MB", "--max-pixels", "1e6", "--upload-timeout", "2"]
    with Server(model_file, words=words) as one:
        yield one
    assert "Traceback" not in one.errors, one.errors
