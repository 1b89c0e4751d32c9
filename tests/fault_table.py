"""Faults that the tests have to catch, for `tests/deliberate_faults.py`."""

from __future__ import annotations


class Fault:
    """A fault, and the tests that have to fail with it.

    Args:
        name: What is wrong.
        file: Where, relative to the root.
        old: A text that occurs there once.
        new: The text in its place.
        tests: Ids of pytest, the quickest that hold it.
    """

    def __init__(self, name: str, file: str, old: str, new: str, *tests: str) -> None:
        self.name = name
        self.file = file
        self.old = old
        self.new = new
        self.tests = tests

    def apply(self, text: str) -> str:
        """Return the text of the file with the fault."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {self.old!r} does not occur once")
        return text.replace(self.old, self.new)


LOSSES = [
    Fault(
        "an ignored pixel changes a loss",
        "utils/losses/base.py",
        "return valid.to(dtype)",
        "return torch.ones_like(valid, dtype=dtype)",
        "tests/utils/losses/test_losses.py::test_feature_ignored_pixels_change_nothing",
    ),
    Fault(
        "a batch without a valid pixel divides by zero",
        "utils/losses/base.py",
        "return total / count.where(count > 0, 1)",
        "return total / count",
        "tests/utils/losses/test_losses.py::test_feature_all_ignored_is_zero",
    ),
    Fault(
        "label smoothing sums over the classes",
        "utils/losses/cross_entropy.py",
        "values.lerp(log_probabilities.mean(dim)",
        "values.lerp(log_probabilities.sum(dim)",
        "tests/utils/losses/test_cross_entropy.py::test_feature_equals_torch",
    ),
    Fault(
        "class weights are not normalized",
        "utils/losses/cross_entropy.py",
        "self.pixel_weights(labels, valid, total.dtype).sum()",
        "valid.sum().to(total.dtype)",
        "tests/utils/losses/test_cross_entropy.py::test_feature_equals_torch",
    ),
    Fault(
        "Dice counts probabilities of ignored pixels",
        "utils/losses/overlap.py",
        "self.area(probabilities * valid.unsqueeze(1))",
        "self.area(probabilities)",
        "tests/utils/losses/test_overlap.py::test_feature_equals_a_naive_loop",
    ),
    Fault(
        "the weight of auxiliary outputs is ignored",
        "base/weighted_losses.py",
        "factor = self.aux_weight if head else 1.0",
        "factor = 1.0",
        "tests/training/test_trainer.py::test_feature_loss_is_a_weighted_sum_over_losses_and_heads",
    ),
]

METRICS = [
    Fault(
        "an absent class counts as IoU 0",
        "utils/metrics/confusion.py",
        "part.double() / whole.clamp_min(1), torch.nan)",
        "part.double() / whole.clamp_min(1), 0.0)",
        "tests/utils/metrics/test_confusion.py::test_feature_absent_class_is_left_out",
    ),
    Fault(
        "the confusion matrix is transposed",
        "utils/metrics/confusion.py",
        "labels * k + ids, k * k + 1)",
        "ids * k + labels, k * k + 1)",
        "tests/utils/metrics/test_confusion.py::test_feature_equals_scikit_learn",
    ),
    Fault(
        "bootstrap intervals have no seed",
        "utils/metrics/bootstrap.py",
        "rng = np.random.default_rng(seed)",
        "rng = np.random.default_rng()",
        "tests/utils/metrics/test_bootstrap.py::test_feature_chunks_and_seed",
    ),
]

FAULTS = [*LOSSES, *METRICS]
