"""NumPy files written row by row, read by NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.row_files import check_guarantees, random_cuts, write_all
from utils.files.npy_writer import NpyWriter


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("shape", [(23, 31), (4, 23, 31), (1, 1, 1)])
def test_feature_numpy_reads_what_was_written(tmp_path, shape, dtype):
    array = (np.random.default_rng(0).random(shape) * 250).astype(dtype)
    write_all(NpyWriter(tmp_path / "a.npy", shape, dtype), array, [], len(shape) - 2)
    loaded = np.load(tmp_path / "a.npy")
    assert loaded.dtype == dtype and np.array_equal(loaded, array)
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@given(cuts=random_cuts(23), planes=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_feature_the_cuts_do_not_matter(tmp_path_factory, cuts, planes):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    array = np.random.default_rng(0).random((planes, 23, 7), np.float32)
    write_all(NpyWriter(path, array.shape, np.float16), array, cuts, 1)
    assert np.array_equal(np.load(path), array.astype(np.float16))


def test_exception_too_many_or_too_few_rows(tmp_path):
    writer = NpyWriter(tmp_path / "a.npy", (2, 5, 3), np.float32)
    with pytest.raises(ValueError, match="row 6 of 5"):
        writer.write(np.zeros((2, 6, 3), np.float32))
    writer.write(np.zeros((2, 4, 3), np.float32))
    with pytest.raises(ValueError, match="4 of 5"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_feature_files_are_whole_or_not_there(tmp_path):
    rows = np.zeros((2, 100, 300), np.float32)

    def open_one(path, overwrite=False):
        return NpyWriter(path, rows.shape, rows.dtype, overwrite=overwrite)

    check_guarantees(tmp_path, "a.npy", open_one, rows, rows.nbytes, axis=1)
