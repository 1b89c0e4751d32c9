import numpy as np
import pytest

from utils.transforms.mosaic import assemble, sample_quarters


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
