"""Masks of floating-point numbers, as QGIS and NumPy write them by default."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from dataloaders.folder import Folder
from tests.bad_files import PHOTO, png
from utils.files.data_file import DataError
from utils.files.image_io import read_mask
from utils.samples.labels import LabelMap

IDS = np.array([[0, 1, 2], [3, 200, 7], [7, 7, -1], [0, 70000, 0]])


def write(path: Path, values: np.ndarray, nodata: str | None = None) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]  # GDAL_NODATA
        tifffile.imwrite(path, values, extratags=tags, metadata=None)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_feature_whole_numbers_are_ids(tmp_path: Path, name: str, kind: type) -> None:
    mask = read_mask(write(tmp_path / name, IDS.astype(kind)))
    assert mask.dtype == np.int32 and np.array_equal(mask, IDS)


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
@pytest.mark.parametrize("odd", [0.5, np.nan, np.inf, -np.inf, 3e9, -3.4e38])
def test_exception_the_first_odd_value(tmp_path: Path, name: str, odd: float) -> None:
    values = IDS.astype(np.float32)
    values[2, 1] = values[3, 0] = odd
    with pytest.raises(DataError, match="row 2, column 1, and 1 more") as caught:
        read_mask(write(tmp_path / name, values))
    assert f"{name}: has {np.float32(odd):.6g} " in str(caught.value)


@pytest.mark.parametrize(
    ("nodata", "value"), [("nan", np.nan), ("-3.4028234663852886e+38", np.finfo(np.float32).min)]
)
def test_feature_missing_pixels_are_ignored(tmp_path: Path, nodata: str, value: float) -> None:
    values = np.array([[0, 1], [1, value]], np.float32)
    mask = read_mask(write(tmp_path / "a.tif", values, nodata))
    assert LabelMap(2, 255)(mask, "a.tif").tolist() == [[0, 1], [1, 255]]
    values[0, 0] = 255  # may be a class: nobody can tell
    with pytest.raises(DataError, match="row 1, column 1, and 0 more"):
        read_mask(write(tmp_path / "a.tif", values, nodata))


def test_feature_an_id_stays_an_id(tmp_path: Path) -> None:
    """QGIS calls 0 no data unless told otherwise, and -9999 is for the label map."""
    values = np.array([[0, 1], [-9999, 1]], np.float32)
    for nodata in ("0", "-9999"):
        mask = read_mask(write(tmp_path / "a.tif", values, nodata))
        assert mask.tolist() == [[0, 1], [-9999, 1]]
    labels = LabelMap(2, 255, ids={0: 0, 1: 1, -9999: -1})(mask, "a.tif")
    assert labels.tolist() == [[0, 1], [255, 1]]


def test_feature_a_folder_of_them(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    (tmp_path / "images/a.png").write_bytes(png(PHOTO, 2))
    ids = np.arange(PHOTO.shape[0] * PHOTO.shape[1]).reshape(PHOTO.shape[:2]) % 3
    write(tmp_path / "masks/a.tif", ids.astype(np.float32))
    dataset = Folder(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"), classes=3)
    assert np.array_equal(dataset.load(0).mask, ids)
