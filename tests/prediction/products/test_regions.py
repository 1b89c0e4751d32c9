"""Connected regions, against scipy.ndimage.label."""

import numpy as np
import pytest
from scipy import ndimage

from prediction.products import regions
from prediction.products.regions import RegionFinder, Regions, label_regions
from tests.prediction.products.vector_case import random_ids, real_masks

COMB = np.array([[1, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1],
                 [1, 1, 1, 1, 1]], np.uint8)  # fmt: skip


def expected(ids, confidence):
    """(first pixel, id, pixels, mean confidence) of each region, by scipy."""
    found = []
    for number in np.unique(ids):
        labels, count = ndimage.label(ids == number)
        for region in range(1, count + 1):
            where = np.flatnonzero(labels == region)
            mean = confidence.ravel()[where].mean()
            found.append((where[0], number, len(where), mean))
    return sorted(found)


def found_in(ids, confidence, step):
    finder = RegionFinder(ids.shape[1])
    ended = []
    for top in range(0, len(ids), step):
        for found in finder.add(ids[top : top + step], confidence[top : top + step]):
            ended.append(found.ended)
    whole = Regions.join([*ended, finder.rest()])
    return list(zip(whole.firsts, whole.ids, whole.pixels, whole.confidence / whole.pixels,
                    strict=True))  # fmt: skip


@pytest.mark.parametrize("step", [1, 2, 5, 40])
@pytest.mark.parametrize("blur", [0.0, 0.8, 2.0])
def test_feature_regions_across_blocks_are_those_of_scipy(monkeypatch, blur, step):
    monkeypatch.setattr(regions, "CHUNK_PIXELS", 90)  # three rows
    for seed in range(8):
        ids = random_ids(seed, 37, 30, num_classes=3, blur=blur)
        confidence = np.random.default_rng(seed).random(ids.shape, np.float32)
        known = expected(ids, confidence)
        found = found_in(ids, confidence, step)
        assert [row[:3] for row in found] == [row[:3] for row in known]
        assert np.allclose([row[3] for row in found], [row[3] for row in known], atol=1e-6)


def test_feature_the_teeth_of_a_comb_become_one_region():
    """The second in row 2, the third in row 4; counted by hand."""
    assert label_regions(COMB)[1] == 3
    assert [row[:3] for row in found_in(COMB, COMB * 1.0, 1)] == [(0, 1, 17), (1, 0, 2), (3, 0, 6)]
    finder = RegionFinder(5)
    told = [found for row in range(5) for found in finder.add(COMB[row : row + 1])]
    assert [found.joined.tolist() for found in told] == [[], [], [[2, 0]], [], [[4, 0]]]
    assert [found.ended.firsts.tolist() for found in told] == [[], [], [1], [], [3]]


def test_feature_real_masks():
    for ids in real_masks():
        confidence = np.linspace(0, 1, ids.size).reshape(ids.shape)
        assert [row[:3] for row in found_in(ids, confidence, 100)] == [
            row[:3] for row in expected(ids, confidence)
        ]


def test_feature_ids_of_16_bits_and_rows_of_one_pixel():
    ids = np.array([[300], [300], [7], [300]], np.uint16)
    assert [row[:3] for row in found_in(ids, ids * 1.0, 3)] == [(0, 300, 2), (2, 7, 1), (3, 300, 1)]


def test_feature_without_confidence_it_is_not_a_number():
    finder = RegionFinder(5)
    list(finder.add(COMB))
    assert np.isnan(finder.rest().confidence).all()
