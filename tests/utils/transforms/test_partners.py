import numpy as np
import pytest

from tests.utils.transforms.cases import make_label
from utils.files.data_file import DataError
from utils.transforms.partners import PARTNER_DRAWS, draw_partner, draw_partner_with, mask_of


class Partners:
    """Plain images: number i has value i and class i % 5 everywhere."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.read = [*getattr(self, "read", []), index]
        return np.full((6, 7, 3), index, np.uint8), np.full((6, 7), index % 5, np.uint8)


class TestPartners:
    def test_feature_all_are_drawn(self):
        partners, rng = Partners(), np.random.default_rng(0)
        like = np.zeros((2, 2, 3), np.uint8)
        drawn = {int(draw_partner(partners, like, rng)[0][0, 0, 0]) for _ in range(300)}
        assert drawn == set(range(20))

    def test_feature_the_search_is_bounded(self):
        like = np.zeros((2, 2, 3), np.uint8)
        found = []
        for seed in range(200):
            partners = Partners()
            pair = draw_partner_with(partners, like, [3, 77], np.random.default_rng(seed))
            assert len(partners.read) <= PARTNER_DRAWS
            if pair is None:
                assert all(index % 5 != 3 for index in partners.read)
            else:
                assert partners.read[-1] % 5 == 3 and (pair[1] == 3).all()
            found.append(pair is not None)
        # Four draws of which each has the class with probability 1/5.
        assert abs(np.mean(found) - (1 - 0.8**4)) < 0.12

    @pytest.mark.parametrize(
        "like", [np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.float32)]
    )
    def test_exception_another_kind(self, like):
        with pytest.raises(DataError, match="of one kind"):
            draw_partner(Partners(), like, np.random.default_rng(0))

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16])
    def test_feature_mask(self, dtype):
        """Truth: numpy.isin."""
        label = make_label(40, 50, dtype=dtype)
        assert np.array_equal(mask_of(label, [1, 4]) > 0, np.isin(label, [1, 4]))
        assert not mask_of(label, []).any()
