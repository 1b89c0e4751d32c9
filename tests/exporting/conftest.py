"""The model and the empty folder of the tests of prediction."""

from tests.prediction.conftest import folder, model_file

__all__ = ["folder", "model_file"]
