"""Names of images in tables and pages."""

from pathlib import Path

import pytest

from prediction.products.image_name import image_name
from tests.report_case import HOSTILE


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b c.png", "a/b c.png"), ("\u00e4.png", "\u00e4.png"), ("a\nb", "a\\nb"),
     ("=x", "=x"), ("\udcff", "\\udcff"), ("a\\b", "a\\\\b"), ("\u202ea", "\\u202ea")],
)  # fmt: skip
def test_feature_escapes(path, name):
    """By hand."""
    assert image_name(Path(path)) == name


def test_feature_no_two_images_have_one_name():
    paths = [*HOSTILE, "a\nb", "a\tb", "a\\nb", "a\\\\nb", "\udcfe", "\udcff", "\\udcff"]
    names = {image_name(Path(path)) for path in paths}
    assert len(names) == len(paths)
    assert all(len(name.splitlines()) == 1 and name.encode() for name in names)
