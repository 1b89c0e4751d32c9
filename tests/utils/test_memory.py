import sys

import numpy as np
import pytest

from utils import memory
from utils.memory import parse_bytes, peak_of


def test_feature_free_memory_is_that_of_the_container(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("5000\n")
    (tmp_path / "current").write_text("2000\n")
    monkeypatch.setattr(memory, "CGROUPS", ((tmp_path / "max", tmp_path / "current"),))
    assert memory.free_memory() == 3000
    (tmp_path / "max").write_text("max\n")
    assert memory.free_memory() > 10**6


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2_000_000_000), ("512mb", 512_000_000), ("1.5 GiB", 1610612736), ("300M", 300_000_000),
     ("123456", 123456), ("1TB", 10**12)],
)  # fmt: skip
def test_feature_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2XB", "0", "two", "1e9", "nan"])
def test_exception_sizes(text):
    with pytest.raises(ValueError, match="expected a number of bytes such as 2GB"):
        parse_bytes(text)


@pytest.mark.parametrize("has_peak", [True, False])
def test_feature_peak_is_what_was_allocated(has_peak, monkeypatch):
    """Freed before the end: only a peak shows it."""
    if has_peak and sys.platform != "linux":
        pytest.skip("Linux keeps a peak")
    if not has_peak:
        monkeypatch.setattr(memory, "_reset_peak", lambda: False)

    def work():
        array = np.ones(100_000_000, np.uint8)
        assert array.sum() == 100_000_000

    assert 95e6 < peak_of(work) < 150e6
    assert peak_of(lambda: None) < 10e6
