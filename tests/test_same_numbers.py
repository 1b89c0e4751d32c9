"""What the augmentations make of 200 samples, held against what they made when recorded.

Labels are moved by whole numbers and chosen by the nearest pixel, which every processor does
alike, so their digests are recorded; of the images, whose last bits depend on the processor, the
mean and the standard deviation are. `python -m tests.same_numbers COMMIT` compares everything, to
the last bit, here and now.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import same_numbers

GOLDEN = Path(__file__).parent / "golden" / "augmentation" / "samples.json"


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    same_numbers.make_files(data)
    return describe(data)


def describe(data):
    return {
        name: {
            "labels": same_numbers.digest([label for _, label in samples]),
            "mean": float(np.mean([image.mean(dtype=np.float64) for image, _ in samples])),
            "std": float(np.mean([image.std(dtype=np.float64) for image, _ in samples])),
        }
        for name, samples in same_numbers.augmented(data)
    }


@pytest.mark.slow
def test_feature_samples_are_those_that_were_recorded(described):
    golden = json.loads(GOLDEN.read_text())
    assert list(described) == list(golden)
    for name, expected in golden.items():
        assert described[name]["labels"] == expected["labels"], name
        for key in ("mean", "std"):
            assert described[name][key] == pytest.approx(expected[key], rel=1e-4), (name, key)


@pytest.mark.slow
def test_feature_each_augmentation_makes_other_samples(described):
    """Else a digest that stays the same would say nothing."""
    seen = [(case["labels"], case["mean"]) for case in described.values()]
    assert len(set(seen)) == len(seen)


if __name__ == "__main__":  # records anew: python -m tests.test_same_numbers FOLDER
    same_numbers.make_files(Path(sys.argv[1]))
    GOLDEN.write_text(json.dumps(describe(Path(sys.argv[1])), indent=1) + "\n")
