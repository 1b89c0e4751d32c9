"""Names of images and of what is made of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from prediction.jobs.image_file import ImageFile, is_address
from tests.conftest import ROOT

NAMES = ["a.jpg", "im.0.jpg", "deep/er.x/b.tif", ".hidden.png", "no_extension", "ü\udcff,\n'.jpeg"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", ["out", "/tmp/a.b", "."])
def test_feature_outputs_are_named_as_pathlib_names_them(name, folder):
    relative = Path(name)
    expected = Path(folder) / relative.with_name(relative.stem + "_overlay.png")
    assert Path(ImageFile(f"x/{name}", name).output(folder, "_overlay.png")) == expected
    assert ImageFile(f"x/{name}", name).relative == relative


def test_feature_addresses():
    assert is_address("http://a/b.jpg") and is_address("HTTPS://a")
    assert not any(map(is_address, ("http:/a", "https", "a/http://b", "ftp://a", "httpx://a")))


def test_feature_nothing_heavy_is_imported():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "prediction/jobs").glob("*.py")
    ]
    assert len(modules) > 10
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "sys.exit(bool({'torch', 'numpy', 'cv2', 'pyarrow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, *modules], cwd=ROOT, check=True)
