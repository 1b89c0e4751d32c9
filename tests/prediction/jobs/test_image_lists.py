"""Lists of images: text, tables, and what they may not be."""

import csv
import os
import random
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from prediction.jobs.find_images import find_images, leave_out_masks
from prediction.jobs.image_lists import read_image_list

ODD = [
    "a b.jpg",
    "ü,;.jpg",
    "'q\".jpg",
    "=1+1.jpg",
    os.fsdecode(b"\xff.jpg"),
    "%20#.jpg",
    "\u2028x",
]


@pytest.fixture
def data(here):
    """Images in data/, and a way to write a list beside them."""
    for name in ("a.jpg", "sub/b.jpg", "sub/c.jpg", *(f"odd/{name}" for name in ODD)):
        path = here / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def write(text, name="data/list.txt"):
        Path(name).write_bytes(text if isinstance(text, bytes) else os.fsencode(text))
        return Path(name)

    return write


def names(path, **options):
    return [image.name for image in read_image_list(path, **options)]


def test_feature_lines(data):
    path = data("\ufeff# a comment\n\nsub/b.jpg\r\n  sub/c.jpg  \n./sub/../sub/b.jpg\n")
    images = read_image_list(path)
    assert [tuple(image) for image in images] == [
        ("data/sub/b.jpg", "b.jpg"),
        ("data/sub/c.jpg", "c.jpg"),
    ]
    assert names(data("a.jpg\nsub/b.jpg\n#a.jpg")) == ["a.jpg", "sub/b.jpg"]
    assert names(data("./a.jpg")) == ["a.jpg"]


def test_feature_names_depend_on_the_files_alone(data, here, monkeypatch):
    """Absolute or not, in any order, from any folder."""
    relative = ["a.jpg", "sub/b.jpg", "sub/c.jpg", *(f"odd/{name}" for name in ODD[:-1])]
    for seed in range(3):
        random.Random(seed).shuffle(relative)
        assert names(data("\n".join(relative))) == relative
        whole = [str(here / "data" / name) for name in relative]
        assert names(data("\n".join(whole), "elsewhere.lst")) == relative
    monkeypatch.chdir(here / "data" / "odd")
    images = read_image_list(here / "elsewhere.lst")
    assert {image.name for image in images} == set(relative)
    assert all(image.path.is_file() for image in images)


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_feature_tables_of_pythons_writer(data, ending):
    """Also with names that need quotes; the column by its name, by choice, or the only one."""
    rows = [(f"odd/{name}", str(n)) for n, name in enumerate(ODD)] + [("sub/b.jpg", "x")]
    for header, column in ((("Path", "n"), None), (("n2", "n"), "n2"), (("n", "FILENAME"), None)):
        swap = header[0] == "n"
        with open(f"data/t.{ending}", "w", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if ending == "tsv" else ",")
            writer.writerows([header, (), *(row[::-1] if swap else row for row in rows)])
        found = read_image_list(Path(f"data/t.{ending}"), column)
        assert [image.name for image in found] == [row[0] for row in rows]
        assert all(image.path.is_file() for image in found)
    assert names(data("x\nsub/b.jpg\na.jpg\n", "data/one.csv")) == ["sub/b.jpg", "a.jpg"]
    assert names(data("image;n\nsub/b.jpg;1,5\na.jpg;2\n", "data/s.csv")) == ["sub/b.jpg", "a.jpg"]


def test_feature_parquet(data):
    """As pandas and others write it: the column as in a table of text."""
    paths = ["sub/b.jpg", "odd/a b.jpg", "odd/ü,;.jpg", "sub/b.jpg"]
    parquet.write_table(pyarrow.table({"n": [1.0, 2, 3, 4], "Path": paths}), "data/t.parquet")
    found = read_image_list(Path("data/t.parquet"))
    assert [image.name for image in found] == ["sub/b.jpg", "odd/a b.jpg", "odd/ü,;.jpg"]
    assert all(image.path.is_file() for image in found)
    parquet.write_table(pyarrow.table({"n": paths, "image": ["x"] * 4}), "data/t.parquet")
    assert find_images(["data/t.parquet"], (".jpg",), Path("out"), column="n") == found


PARQUET_MISTAKES = {
    "empty cell": ({"image": ["a.jpg", None]}, None, "row 2 of data/t.parquet has no image"),
    "numbers": ({"n": [1, 2]}, None, "row 1 of data/t.parquet has no n, but 1"),
    "two columns": ({"a": ["a.jpg"], "b": ["b.jpg"]}, None, "choose with --column from a, b"),
    "unknown column": ({"a": ["a.jpg"]}, "c", "has not one column c, but a"),
    "no rows": ({"image": pyarrow.array([], pyarrow.string())}, None, "names no image"),
    "no parquet": (None, None, "data/t.parquet is no table: "),
}


@pytest.mark.parametrize("case", PARQUET_MISTAKES)
def test_exception_parquet(data, case):
    columns, column, said = PARQUET_MISTAKES[case]
    data("path\na.jpg\n", "data/t.parquet")
    if columns is not None:
        parquet.write_table(pyarrow.table(columns), "data/t.parquet")
    with pytest.raises(ValueError, match=said):
        read_image_list(Path("data/t.parquet"), column)


MISTAKES = {
    "empty": ("# nothing\n\n", "list.txt", None, "names no image"),
    "NUL": ("a\0.jpg\n", "list.txt", None, "NUL"),
    "other folder": ("x/a.jpg\nx/b.jpg\n", "list.txt", None, "data/x/a.jpg"),
    "two columns": ("image,path\na.jpg,b\n", "t.csv", None, "--column from image, path"),
    "no known column": ("a,b\na.jpg,b\n", "t.csv", None, "--column from a, b"),
    "unknown column": ("a,b\na.jpg,b\n", "t.csv", "c", "a, b"),
    "one name twice": ("a,a\na.jpg,b\n", "t.csv", "a", "a, a"),
    "no header": ("a.jpg\nsub/b.jpg\n", "t.csv", None, "no header"),
    "short row": ("n,image\n1,a.jpg\n2\n", "t.csv", None, "line 3"),
    "empty cell": ("n,image\n1,\n", "t.csv", None, "line 2"),
    "no table": ('image\n"a.jpg\n', "t.csv", None, "no table"),
    "no rows": ("image,n\n", "t.csv", None, "names no image"),
    "no file": ("", "t.csv", None, "names no image|--column"),
    "address": ("a.jpg\nhttps://host/a.jpg\n", "list.txt", None, "--allow-download"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_exception_mistakes(data, case):
    text, name, column, said = MISTAKES[case]
    with pytest.raises(ValueError, match=said) as error:
        read_image_list(data(text, f"data/{name}"), column)
    assert f"data/{name}" in str(error.value) or case == "address"


def test_feature_one_missing_file_fails_alone(data):
    assert names(data("gone.jpg\na.jpg\n")) == ["gone.jpg", "a.jpg"]


def test_feature_addresses_have_names_of_their_own(data):
    lines = "https://h/x/a.jpg\nhttps://g/x/a.jpg\nsub/b.jpg\nhttps://h/x/a.jpg\n"
    found = names(data(lines), allow_download=True)
    assert found == ["h/x/a.jpg", "g/x/a.jpg", "b.jpg"]


def test_feature_lists_among_other_sources(data, here):
    path = data("sub/c.jpg\nodd/%20#.jpg\n")
    images = find_images(["data/sub", str(path), "data/a.jpg"], (".jpg",), here / "out")
    assert [tuple(image) for image in images] == [
        ("data/sub/b.jpg", "b.jpg"),
        ("data/sub/c.jpg", "sub/c.jpg"),  # the list names it, too
        ("data/odd/%20#.jpg", "odd/%20#.jpg"),
        ("data/a.jpg", "a.jpg"),
    ]
    table = data("image,other\na.jpg,sub/b.jpg\n", "data/t.csv")
    (image,) = find_images([str(table)], (".jpg",), here / "out", column="other")
    assert image.name == "b.jpg"
    with pytest.raises(ValueError, match="--column"):
        find_images([str(path)], (".jpg",), here / "out", column="other")
    with pytest.raises(ValueError, match="no file or folder gone.txt"):
        find_images(["gone.txt"], (".jpg",), here / "out")


def test_feature_masks_that_a_list_names_are_meant(data):
    path = data("a_gt.jpg\na.jpg\nb_gt.jpg\n")
    images = read_image_list(path)
    left = leave_out_masks(images, "", "_gt", [str(path)])
    # But not where their images are named, too.
    assert [image.name for image in left] == ["a.jpg", "b_gt.jpg"]
