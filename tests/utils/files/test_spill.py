import numpy as np
import pytest

from utils.files.spill import Spill


@pytest.mark.parametrize("limit", [0, 100, 10**9])
def test_feature_gives_back_what_it_was_given(limit, tmp_path):
    generator = np.random.default_rng(0)
    kept = {}
    with Spill(limit, tmp_path) as spill:
        for number in range(40):
            key = number % 7
            shape = tuple(generator.integers(1, 9, 3 if number % 2 else 2))
            array = generator.integers(0, 255, shape).astype([np.uint8, np.float32][number % 2])
            spill.put(key, array)
            kept[key] = array
            for other, expected in kept.items():
                np.testing.assert_array_equal(
                    spill.rows(other, 1, expected.shape[-2]), expected[..., 1:, :]
                )
        for key, expected in kept.items():
            np.testing.assert_array_equal(spill.take(key), expected)
            assert spill.take(key) is None
    assert list(tmp_path.iterdir()) == []


def test_feature_memory_is_used_first(tmp_path):
    with Spill(100, tmp_path) as spill:
        spill.put("a", np.zeros((10, 9), np.uint8))
        assert spill._file is None
        spill.put("b", np.zeros((10, 9), np.uint8))
        assert spill._file is not None
        spill.take("a")
        spill.put("b", np.ones((10, 9), np.uint8))
        assert spill.rows("b", 0, 1).tolist() == [[1] * 9]


def test_feature_a_place_in_the_file_is_used_again(tmp_path):
    with Spill(0, tmp_path) as spill:
        for number in range(50):
            for key in "abc":
                spill.put(key, np.full((4, 5), number, np.uint8))
        assert spill._end == 60
