"""What is kept of images from run to run."""

import hashlib
import json

import pytest

from prediction.products import summary_store
from prediction.products.journal import Journal
from prediction.products.summary_store import (
    ClassPixels,
    ImageEntry,
    Views,
    digest,
    read_entries,
    to_json,
    update,
)

ROAD, TREE = ClassPixels(1, "road", "#804080", 30), ClassPixels(2, "tree", "#00ff00", 10)
VIEWS = Views("data:image/jpeg;base64,AAAA", "data:image/png;base64,AAA=", 5, 4)


def entry(key, *classes, views=VIEWS):
    return ImageEntry(key, 8, 5, classes, views)


def merged(folder, entries, *, anew=False, errors=()):
    journal = Journal(folder / "index.html")
    for item in entries:
        journal.append(item.key, to_json(item))
    for key in errors:
        journal.append(key, {"error": "is broken"})
    with journal.merge() as places:
        return update(folder / "store", places, anew=anew)


def test_feature_totals_over_several_runs(tmp_path):
    """Image a is predicted again, b fails in the end; counted by hand."""
    merged(tmp_path, [entry("a", ROAD, TREE), entry("b", ROAD), entry("c", TREE)])
    totals = merged(tmp_path, [entry("a", ROAD), entry("0", TREE)], errors=["b", "d"])
    road, tree = ClassPixels(1, "road", "#804080", 0), ClassPixels(2, "tree", "#00ff00", 0)
    assert totals.pixels == {road: 30, tree: 20} and totals.images == {road: 1, tree: 2}
    assert (totals.num_images, totals.num_failed) == (3, 2)
    assert [item.key for item in totals.shown] == ["0", "a", "c"]
    assert [(item.key, item.error) for item in totals.failed] == [("b", "is broken"),
                                                                  ("d", "is broken")]  # fmt: skip
    assert list(read_entries(tmp_path / "store")) == sorted(
        [*totals.shown, *totals.failed], key=lambda item: item.key
    )
    totals = merged(tmp_path, [entry("b", ROAD)])
    assert (totals.num_images, totals.num_failed) == (4, 1)
    assert merged(tmp_path, [entry("x", ROAD)], anew=True).num_images == 1
    assert [item.key for item in read_entries(tmp_path / "store")] == ["x"]


def test_feature_the_images_shown_do_not_depend_on_the_order_of_runs(tmp_path, monkeypatch):
    """Those with the smallest digests, by hashlib."""
    monkeypatch.setattr(summary_store, "MAX_SHOWN", 5)
    keys = [f"{number:03d}.png" for number in range(40)]
    chosen = sorted(sorted(keys, key=digest)[:5])
    assert digest("a") == int(hashlib.blake2b(b"a", digest_size=8).hexdigest(), 16)
    for folder, runs in (("one", [keys]), ("several", [keys[30:], keys[:10], keys[10:30]])):
        (tmp_path / folder).mkdir()
        for run in runs:
            totals = merged(tmp_path / folder, [entry(key, ROAD) for key in run])
        assert [item.key for item in totals.shown] == chosen and totals.num_images == 40
        kept = [item.key for item in read_entries(tmp_path / folder / "store") if item.views]
        assert kept == chosen


def test_feature_failures_are_counted_and_some_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(summary_store, "MAX_FAILED", 3)
    totals = merged(tmp_path, [], errors="abcde")
    assert [item.key for item in totals.failed] == ["a", "b", "c"] and totals.num_failed == 5


@pytest.mark.parametrize(
    "change",
    [{"views": {"image": "http://x/y.png", "mask": "", "width": 1, "height": 1}},
     {"classes": [{"number": 1, "name": "x", "colour": "red;background:url(x)", "pixels": 1}]},
     {"height": "8"}, {"key": None}],
)  # fmt: skip
def test_exception_lines_that_are_none_are_left_out(tmp_path, change):
    """Anyone may have written into the folder."""
    good = {**to_json(entry("a", ROAD)), "key": "a"}
    lines = [b"", b"\xff\n", b"[1]\n", json.dumps({**good, **change}).encode() + b"\n",
             json.dumps(good).encode()]  # fmt: skip
    (tmp_path / "store").write_bytes(b"".join(lines))
    assert list(read_entries(tmp_path / "store")) == [entry("a", ROAD)]
    journal = Journal(tmp_path / "index.html")
    journal.append("b", {**good, **({} if "key" in change else change), "key": "b"})
    with journal.merge() as places:
        assert update(tmp_path / "store", places, anew=False).num_images == 1 + ("key" in change)
