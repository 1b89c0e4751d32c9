"""The temporary raster, read by rasterio."""

import numpy as np
import pytest
import rasterio

from prediction.products.id_raster import IdRaster
from tests.prediction.products.vector_case import random_ids


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_feature_rows_come_back(tmp_path, kind):
    ids = random_ids(0, 50, 40).astype(kind) * (300 if kind == np.uint16 else 1)
    raster = IdRaster(tmp_path / "a.geojson", 50, 40)
    for top in range(0, 50, 9):
        raster.write(top, ids[top : top + 9])
    for _ in range(2):
        with raster.band() as band:
            assert (band.ds.read(1) == ids).all()
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(".") and path.suffix == ".tmp"
    raster.remove()
    raster.remove()
    assert not any(tmp_path.iterdir())


def test_exception_a_folder_that_is_gone(tmp_path):
    raster = IdRaster(tmp_path / "gone/a.geojson", 5, 4)
    with pytest.raises(OSError):
        raster.write(0, np.zeros((5, 4), np.uint8))
    raster.remove()
    assert issubclass(rasterio.errors.RasterioIOError, OSError)
