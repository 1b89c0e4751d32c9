import numpy as np
import pytest
from scipy import ndimage

from tests.utils.transforms.cases import make_image, make_label
from utils.transforms.copy_paste import paste, sample_objects


class TestObjects:
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
