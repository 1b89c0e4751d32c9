import numpy as np
import pytest
from scipy import ndimage

from tests.utils.transforms.test_geometry import make_image, make_label
from utils.files.data_file import DataError
from utils.transforms.mixing import (
    PARTNER_DRAWS,
    assemble,
    draw_partner,
    draw_partner_with,
    mask_of,
    paste,
    sample_objects,
    sample_quarters,
)


class Partners:
    """Plain pictures: number i has value i and class i % 5 everywhere."""

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
        with pytest.raises(DataError, match="need pictures of one kind"):
            draw_partner(Partners(), like, np.random.default_rng(0))


class TestObjects:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16])
    def test_feature_mask(self, dtype):
        """Truth: numpy.isin."""
        label = make_label(40, 50, dtype=dtype)
        assert np.array_equal(mask_of(label, [1, 4]) > 0, np.isin(label, [1, 4]))
        assert not mask_of(label, []).any()

    def test_feature_whole_objects(self):
        """Truth: scipy.ndimage.label with corners."""
        label = make_label(60, 70, block=6)
        objects, count = ndimage.label(np.isin(label, [1, 4]), structure=np.ones((3, 3)))
        shares = []
        for seed in range(60):
            mask = sample_objects(label, [1, 4], np.random.default_rng(seed))
            assert mask.dtype == np.uint8 and mask.any()
            chosen = [i for i in range(1, count + 1) if mask[objects == i].any()]
            assert np.array_equal(mask > 0, np.isin(objects, chosen))
            shares.append(len(chosen) / count)
        assert count > 5 and 0.4 < np.mean(shares) < 0.65

    def test_feature_one_or_none(self):
        label = np.zeros((9, 9), np.uint8)
        assert not sample_objects(label, [1], np.random.default_rng(0)).any()
        label[2:4, 2:4] = 1
        for seed in range(10):
            mask = sample_objects(label, [1], np.random.default_rng(seed))
            assert np.array_equal(mask, label)


class TestPaste:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
    @pytest.mark.parametrize("label_dtype", [np.uint8, np.int16])
    def test_feature_equals_where(self, channels, dtype, label_dtype):
        """Truth: numpy.where."""
        images = [make_image(20, 30, channels, dtype, seed) for seed in (0, 1)]
        labels = [make_label(20, 30, dtype=label_dtype, seed=seed) for seed in (0, 1)]
        for array in (*images, *labels):
            array.flags.writeable = False
        mask = (np.random.default_rng(2).random((20, 30)) < 0.3).astype(np.uint8)
        image, label = paste(images[0], labels[0], (images[1], labels[1]), mask)
        assert image.dtype == dtype and label.dtype == label_dtype
        assert np.array_equal(image, np.where(mask[..., None], images[1], images[0]))
        assert np.array_equal(label, np.where(mask, labels[1], labels[0]))


class TestMosaic:
    @pytest.mark.parametrize("side", [2, 3, 5, 64])
    def test_cardinality_quarters(self, side):
        first = set()
        for seed in range(60):
            areas = sample_quarters(np.random.default_rng(seed), side)
            hits = np.zeros((side, side), int)
            for area in areas:
                hits[area] += 1
                assert hits[area].size
            assert (hits == 1).all() and len(areas) == 4
            assert min(hits[area].shape[0] for area in areas) >= side // 4
            first.add((areas[0][0].start > 0, areas[0][1].start > 0))
        assert len(first) == 4

    def test_feature_assemble(self):
        areas = sample_quarters(np.random.default_rng(0), 20)
        pairs = []
        for i, (rows, columns) in enumerate(areas):
            size = (rows.stop - rows.start, columns.stop - columns.start)
            pairs.append((np.full((*size, 5), i, np.float32), np.full(size, i, np.int16)))
        image, label = assemble(pairs, areas, 20)
        assert image.shape == (20, 20, 5) and (image.dtype, label.dtype) == (np.float32, np.int16)
        for i, area in enumerate(areas):
            assert (image[area] == i).all() and (label[area] == i).all()
