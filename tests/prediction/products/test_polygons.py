"""The formats, and what is said where a package is missing."""

import subprocess
import sys

import pytest

from prediction.products.polygons import FORMATS, check_available
from tests.conftest import ROOT


@pytest.mark.parametrize("format", FORMATS)
def test_smoke_all_formats_are_available_here(format):
    check_available(format, simplify=1.0)


@pytest.mark.parametrize(
    ("format", "package", "hidden"),
    [("geojson", "rasterio", "rasterio"), ("geojson", "'shapely>=2.1'", "shapely"),
     ("coco", "pycocotools", "pycocotools"), ("labelme", None, "rasterio")],
)  # fmt: skip
def test_exception_a_missing_package_is_named_with_its_command(format, package, hidden):
    """In a process of its own, where the package cannot be found."""
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == '{hidden}':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import utils.files.gdal as gdal\n"
        f"gdal.has_rasterio = lambda: '{hidden}' != 'rasterio'\n"
        "from prediction.products.polygons import check_available\n"
        f"try: check_available('{format}', simplify=1.0)\n"
        "except ValueError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (f"pip install {package}" in result.stdout) == bool(package)
    assert bool(result.stdout.strip()) == bool(package)
