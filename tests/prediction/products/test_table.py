"""table.csv, read by the standard library and counted by NumPy and SciPy."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from scipy import ndimage

from prediction.products.rows import Rows
from prediction.products.table import COLUMNS, RunTable
from tests.conftest import ROOT
from tests.prediction.products.vector_case import (
    CLASSES,
    facts_of,
    feed,
    in_rows,
    random_ids,
    real_masks,
)
from tests.report_case import HOSTILE
from utils.files.data_file import DataError
from utils.files.geo_file import GeoReference

UTM = GeoReference(CRS.from_epsg(32633).to_wkt(), (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_200_000.0))


def read(folder):
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add(table, ids, folder, name="some/im.png", step=7, **options):
    confidence = options.pop("confidence", np.full(ids.shape, 0.5, np.float32))
    product = table.product(facts_of(ids, folder, name=name, **options))
    feed(product, ids, step, confidence=confidence)
    return product


@pytest.mark.parametrize("step", [1, 7, 100])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_feature_lines_are_what_is_in_the_mask(tmp_path, blur, step):
    ids = random_ids(3, 45, 60, blur=blur)
    ids[ids == 2] = 255
    confidence = np.random.default_rng(0).random(ids.shape, np.float32)
    table = RunTable(tmp_path)
    product = add(table, ids, tmp_path, step=step, confidence=confidence, ignore_index=255)
    assert list(product.needs) == ["confidence"]
    table.close()
    lines = read(tmp_path)
    assert [(line["class_id"], line["class"]) for line in lines] == [
        ("0", "background"), ("1", "road"), ("2", "tree"), ("3", "car"), ("255", "(unsure)"),
    ]  # fmt: skip
    for line in lines:
        mask = ids == int(line["class_id"])
        assert int(line["pixels"]) == mask.sum()
        assert float(line["share"]) == pytest.approx(mask.mean(), rel=1e-7)
        assert int(line["regions"]) == ndimage.label(mask)[1]
        assert line["image"] == "some/im.png" and line["area"] == line["unit"] == ""
        if mask.any():
            mean = float(line["mean_confidence"])
            assert mean == pytest.approx(confidence[mask].mean(), rel=1e-5)
        else:
            assert line["mean_confidence"] == "" and line["class"] == "tree"
    assert sum(float(line["share"]) for line in lines) == pytest.approx(1)


def test_feature_real_masks(tmp_path):
    table = RunTable(tmp_path)
    classes = [f"class {n}" for n in range(20)]
    masks = real_masks()
    for number, ids in enumerate(masks):
        add(table, ids, tmp_path, f"{number}.png", 100, classes=classes)
    table.close()
    for line in read(tmp_path):
        mask = masks[int(line["image"][0])] == int(line["class_id"])
        assert (int(line["pixels"]), int(line["regions"])) == (mask.sum(), ndimage.label(mask)[1])


def test_feature_area_in_the_unit_of_the_map(tmp_path):
    """Pixels of half a metre: a quarter of a square metre each."""
    table = RunTable(tmp_path)
    add(table, np.ones((6, 10), np.uint8), tmp_path, geo=UTM)
    table.close()
    lines = read(tmp_path)
    assert [line["area"] for line in lines] == ["0", "15", "0", "0"]
    assert {line["unit"] for line in lines} == {"square metre"}


def test_feature_without_confidence_its_cells_are_empty(tmp_path):
    table = RunTable(tmp_path)
    ids = np.ones((6, 10), np.uint8)
    feed(table.product(facts_of(ids, tmp_path)), ids)
    table.close()
    assert {line["mean_confidence"] for line in read(tmp_path)} == {""}


def test_feature_images_of_earlier_runs_are_kept_or_replaced(tmp_path):
    ids = np.zeros((4, 5), np.uint8)
    for names, value in ((["c", "a", "b"], 1), (["b", "d"], 2), ([], 3)):
        table = RunTable(tmp_path)
        for name in names:
            add(table, ids + value, tmp_path, name)
        table.close()
    pixels = {(line["image"], line["class"]): int(line["pixels"]) for line in read(tmp_path)}
    assert [line["image"] for line in read(tmp_path)] == [n for n in "abcd" for _ in CLASSES]
    for name, value in {"a": "road", "b": "tree", "c": "road", "d": "tree"}.items():
        assert {kind: pixels[name, kind] for kind in CLASSES} == {
            kind: 20 * (kind == value) for kind in CLASSES
        }
    assert sorted(p.name for p in tmp_path.iterdir()) == [".table.csv.lock", "table.csv"]


def test_feature_which_images_it_has(tmp_path):
    ids = np.zeros((4, 5), np.uint8)
    first = RunTable(tmp_path / "new")
    assert not first.has(Path("a/b.png"))
    add(first, ids, tmp_path, "a/b.png")
    unfinished = first.product(facts_of(ids, tmp_path, name="c.png"))
    unfinished.write(Rows(0, ids))
    unfinished.discard()
    second = RunTable(tmp_path / "new")  # of another process, or after a kill
    assert first.has(Path("a/b.png")) and second.has(Path("a/b.png"))
    second.close()
    third = RunTable(tmp_path / "new")
    assert third.has(Path("a/b.png")) and not third.has(Path("c.png"))


def test_feature_a_table_that_an_editor_has_saved(tmp_path):
    """With a byte order mark, other ends of lines, other quotes, in another order."""
    table = RunTable(tmp_path)
    for name in "ab":
        add(table, np.ones((4, 5), np.uint8), tmp_path, name)
    table.close()
    head, *lines = (tmp_path / "table.csv").read_text().splitlines()
    text = "\r\n".join([head, *(line.replace("b,", '"b",') for line in lines[::-1]), "", ""])
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = RunTable(tmp_path)
    assert table.has(Path("a")) and table.has(Path("b"))
    add(table, np.ones((4, 5), np.uint8), tmp_path, "c")
    table.close()
    assert sorted((line["image"], line["class"]) for line in read(tmp_path)) == sorted(
        (name, kind) for name in "abc" for kind in CLASSES
    )


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"\x89PNG\r\n\xff", ",".join(COLUMNS).encode() + b"\n1,2\n"]
)
def test_exception_a_foreign_table_is_not_replaced(tmp_path, content):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"table\.csv: was not written by this program"):
        RunTable(tmp_path)
    assert (tmp_path / "table.csv").read_bytes() == content


def test_exception_a_table_that_becomes_foreign_keeps_the_lines(tmp_path):
    table = RunTable(tmp_path)
    add(table, np.ones((4, 5), np.uint8), tmp_path, "a")
    (tmp_path / "table.csv").write_text("mine")
    with pytest.raises(DataError):
        table.close()
    (tmp_path / "table.csv").unlink()
    table = RunTable(tmp_path)
    assert table.has(Path("a"))
    table.close()
    assert len(read(tmp_path)) == len(CLASSES)


def test_feature_hostile_names_are_text_on_one_line(tmp_path):
    names = [
        *HOSTILE,
        "=1+2.png",
        "-x",
        "+x",
        "@x",
        "a,b;=c.png",
        "a\nb",
        "a\tb",
        "a\\nb",
        '"',
        "'",
    ]
    table = RunTable(tmp_path)
    classes = ["=cmd()", "b\nc", "\udcff", '"', "x"]
    for name in names:
        add(table, np.ones((4, 5), np.uint8), tmp_path, name, classes=classes)
    table.close()
    content = (tmp_path / "table.csv").read_text("utf-8")
    assert len(content.splitlines()) == 1 + len(names) * len(classes)
    cells = [cell for line in csv.reader(content.splitlines()) for cell in line]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert len({line[0] for line in csv.reader(content.splitlines()[1:])}) == len(names)
    again = RunTable(tmp_path)
    assert all(again.has(Path(name)) for name in names)


SHARD = """
import pathlib, sys
import numpy as np
from prediction.products.table import RunTable
from tests.prediction.products.vector_case import facts_of, feed

folder, shard = pathlib.Path(sys.argv[1]), int(sys.argv[2])
table = RunTable(folder)
for number in range(shard, 40, 4):
    ids = np.full((4, 5), number % 4, np.uint8)
    feed(table.product(facts_of(ids, folder, name=f"{number:02d}.png")), ids)
table.close()
"""


@pytest.mark.slow
def test_feature_several_processes_write_one_table(tmp_path):
    command = [sys.executable, "-c", SHARD, str(tmp_path)]
    shards = [subprocess.Popen([*command, str(n)], cwd=ROOT) for n in range(4)]
    assert [shard.wait() for shard in shards] == [0] * 4
    lines = read(tmp_path)
    assert [line["image"] for line in lines] == [f"{n:02d}.png" for n in range(40) for _ in CLASSES]
    assert all(int(line["pixels"]) == 20 * (int(line["image"][:2]) % 4 == int(line["class_id"]))
               for line in lines)  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == [".table.csv.lock", "table.csv"]


def test_feature_an_image_that_fails_leaves_no_line(tmp_path):
    table = RunTable(tmp_path)
    ids = np.ones((9, 5), np.uint8)
    product = table.product(facts_of(ids, tmp_path))
    product.write(next(in_rows(ids, 3)))
    product.discard()
    product.discard()
    table.close()
    assert not (tmp_path / "table.csv").exists()
