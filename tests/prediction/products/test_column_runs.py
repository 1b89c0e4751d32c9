"""Run lengths by columns, against those of pycocotools for whole masks."""

import numpy as np
import pytest
from pycocotools import mask as masks
from scipy import ndimage

from prediction.products import regions
from prediction.products.column_runs import ColumnRuns
from prediction.products.regions import RegionFinder
from tests.prediction.products.vector_case import random_ids

# Two walls that meet at the bottom, and a stair that comes together from the right, row by row.
STAIR = np.array([[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1], [1, 0, 0, 1, 1, 0], [1, 0, 1, 1, 0, 1],
                  [1, 1, 1, 0, 1, 1], [1, 0, 0, 1, 1, 0]], np.uint8)  # fmt: skip


def counts_of(ids, step):
    """The compressed counts of each region by its first pixel."""
    finder, runs, firsts = RegionFinder(ids.shape[1]), ColumnRuns(*ids.shape), []
    for top in range(0, len(ids), step):
        for found in finder.add(ids[top : top + step]):
            runs.add(found)
            firsts += found.ended.firsts.tolist()
    firsts = np.sort(np.append(firsts, finder.rest().firsts)).astype(int)
    size = list(ids.shape)
    return {
        first: masks.frPyObjects({"size": size, "counts": counts}, *size)["counts"]
        for first, counts in zip(firsts.tolist(), runs.counts(firsts), strict=True)
    }


def expected(ids):
    """By pycocotools, of each mask as a whole."""
    found = {}
    for number in np.unique(ids):
        labels, count = ndimage.label(ids == number)
        for region in range(1, count + 1):
            mask = np.asfortranarray(labels == region, np.uint8)
            found[np.flatnonzero(labels == region)[0]] = masks.encode(mask)["counts"]
    return found


@pytest.mark.parametrize("step", [1, 4, 40])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_feature_counts_are_those_of_the_whole_mask(monkeypatch, blur, step):
    monkeypatch.setattr(regions, "CHUNK_PIXELS", 60)  # two rows
    for seed in range(6):
        ids = random_ids(seed, 31, 29, num_classes=2, blur=blur)
        assert counts_of(ids, step) == expected(ids)


@pytest.mark.parametrize("ids", [STAIR, STAIR.T, STAIR[::-1], STAIR[:, ::-1], STAIR[:1],
                                 STAIR[:, 5:], np.zeros((4, 3), np.uint8)])  # fmt: skip
def test_feature_regions_that_join_late_and_runs_that_end_a_column(ids):
    for step in (1, 2):
        assert counts_of(ids, step) == expected(ids)
