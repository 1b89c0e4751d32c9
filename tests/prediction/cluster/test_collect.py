"""Reports: counted, and written into the manifest."""

from pathlib import Path

import pytest

from prediction.cluster.calls import Report, Result
from prediction.cluster.collect import Collector
from prediction.jobs.image_file import ImageFile
from prediction.jobs.manifest import open_manifest
from prediction.jobs.results_file import read_results
from utils.files.file_notes import FileNote

FILES = {f"{letter}.jpg": f"/in/{letter}.jpg" for letter in "abcd"}
A = Result("a.jpg", "", False, "ia", {"ids": ("a.png", "da")}, 0.5)
B = Result("b.jpg", "", True)
C = Result("c.jpg", "it is broken", False, "ic", {}, 0.25)
D = Result("d.jpg", "d.png exists")


def test_feature_counts_and_messages(capsys, caplog):
    notes = ["memory is low"]
    reports = [
        Report([A, B], notes, [FileNote("x.jpg", "JPEG", "no end marker")]),
        Report([C], notes, [FileNote("y.jpg", "JPEG", "no end marker")]),
    ]
    counts = Collector(FILES, None, None).collect([D], reports)
    assert tuple(counts) == (1, 1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["skipped /in/d.jpg: d.png exists", "skipped /in/c.jpg: it is broken"]
    assert [
        record.getMessage() for record in caplog.records if record.name.endswith("collect")
    ] == ["memory is low", "2 JPEGs have no end marker, first: x.jpg; read anyway"]


def test_feature_rows_of_a_manifest(tmp_path):
    path = tmp_path / "m.csv"
    with open_manifest(path, Path()) as manifest:
        for name in ("b.jpg", "c.jpg"):
            manifest.begin(ImageFile(FILES[name], name), [f"{name[0]}.png"], overwrite=True)
        Collector(FILES, manifest, ("m", "s")).collect([D], [Report([A, B, C])])
    rows = {row.path: row for row in read_results(path)}
    assert rows["a.jpg"][1:4] == ("ia", "m", "s") and rows["a.jpg"][5:] == (0.5, "")
    assert rows["a.jpg"].files() == {"ids": ("a.png", "da")}
    assert rows["b.jpg"].error == "not finished"  # what is kept has its row; here it has another
    assert rows["c.jpg"].error == "it is broken" and rows["c.jpg"].image_sha256 == "ic"
    assert ("c.png", "") in rows["c.jpg"].files().values()
    assert rows["d.jpg"].error == "d.png exists"


def test_exception_an_actor_that_gives_up(capsys):
    with pytest.raises(ValueError, match="the disk is full"):
        Collector(FILES, None, None).collect([], [Report([A]), Report(stop="the disk is full")])


def test_exception_an_image_without_a_word():
    """That would be a fault of ours, and no run may end as if all were well."""
    with pytest.raises(AssertionError, match=r"no word about \['b\.jpg'\]"):
        Collector({"a.jpg": "a", "b.jpg": "b"}, None, None).collect([], [Report([A])])


def test_exception_an_image_twice():
    with pytest.raises(KeyError):
        Collector(FILES, None, None).collect([], [Report([A]), Report([A])])
