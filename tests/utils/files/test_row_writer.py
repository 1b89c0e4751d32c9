"""Rows that come in any number, in blocks of one height."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.row_files import blocks, random_cuts
from utils.files.row_writer import RowBlocks

PATH = Path("a.png")


@given(cuts=random_cuts(40), height=st.integers(1, 45), axis=st.sampled_from([0, 1]))
def test_feature_blocks_of_one_height(cuts, height, axis):
    rows = np.arange(40 * 3).reshape(40, 3)
    if axis == 1:
        rows = np.stack([rows, -rows])
    taken, found = RowBlocks(PATH, 40, height, axis), []
    for block in blocks(cuts, 40):
        part = np.take(rows, range(block.start, block.stop), axis)
        found += [each.copy() for each in taken.push(part)]
        part[:] = 99  # the caller may use its array again
    found += taken.rest()
    assert np.array_equal(np.concatenate(found, axis), rows)
    sizes = [each.shape[axis] for each in found]
    assert sizes == [height] * (40 // height) + [40 % height] * (40 % height > 0)
    assert taken.rows == 40


def test_exception_other_than_the_height_of_the_image():
    taken = RowBlocks(PATH, 4, 2)
    with pytest.raises(ValueError, match=r"a\.png: row 5 of 4"):
        list(taken.push(np.zeros((5, 2))))
    taken = RowBlocks(PATH, 4, 2)
    assert len(list(taken.push(np.zeros((3, 2))))) == 1
    with pytest.raises(ValueError, match=r"a\.png: 3 of 4"):
        list(taken.rest())
    assert len(list(RowBlocks(PATH, None, 2).push(np.zeros((5, 2))))) == 2
