"""What `--save` names, and what every product promises about its files."""

import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from prediction.products.kinds import FORMATS, Settings, file_labels, parse_save, parse_words
from prediction.products.rows import FIELDS, Rows
from tests.conftest import run_code
from tests.prediction.products.case import geo_reference, make_case
from tests.row_files import FOREIGN, full_disk

CLASSES = ("background", "road", "tree top", "a.tif", "a", "big, wet")
OUTPUT, RELATIVE = Path("out"), Path("a/b.0.jpg")

RASTERS = [
    "ids", "ids.npy", "ids.tif", "colour", "colour.jpg", "overlay", "confidence", "confidence.tif",
    "entropy", "probabilities", "probabilities.tif", "class:road", "class:road.tif",
]  # fmt: skip


# --- the words


def named(text, geo=False):
    return [str(kind.path(OUTPUT, RELATIVE, geo)) for kind in parse_save(text, CLASSES)]


def test_feature_files_of_an_image():
    text = "ids, colour.jpg,overlay,confidence.tif,entropy,probabilities,class:road,polygons"
    assert named(text) == [
        "out/a/b.0.png", "out/a/b.0_colour.jpg", "out/a/b.0_overlay.png",
        "out/a/b.0_confidence.tif", "out/a/b.0_entropy.png", "out/a/b.0_probabilities.npy",
        "out/a/b.0_road.png", "out/a/b.0.geojson",
    ]  # fmt: skip
    assert named("polygons.coco,polygons.labelme,ids.npy") == [
        "out/a/b.0_coco.json", "out/a/b.0.json", "out/a/b.0.npy",
    ]  # fmt: skip


def test_feature_files_of_a_geo_referenced_image():
    text = "ids,colour,overlay,confidence,entropy,probabilities,class:road,polygons"
    assert named(text, geo=True) == [
        "out/a/b.0.tif", "out/a/b.0_colour.png", "out/a/b.0_overlay.png",
        "out/a/b.0_confidence.tif", "out/a/b.0_entropy.tif", "out/a/b.0_probabilities.tif",
        "out/a/b.0_road.tif", "out/a/b.0.geojson",
    ]  # fmt: skip
    text = "ids.png,confidence.png,entropy.png,probabilities.npy,class:road.png"
    assert named(text, geo=True) == named(text, geo=False)


def test_feature_products_of_a_whole_run_have_no_file_of_an_image():
    for kind in parse_save("table,summary", CLASSES):
        assert kind.is_per_run and kind.path(OUTPUT, RELATIVE, False) is None


@pytest.mark.parametrize(
    ("text", "class_id", "form"),
    [
        ("class:road", 1, None),
        ("class:tree top", 2, None),
        ("class:tree top.tif", 2, "tif"),
        ("class:a.tif", 3, None),  # the name of a class, not one with a format
        ("class:a.tif.png", 3, "png"),
        ("class:a.png", 4, "png"),
        ('class:"big, wet"', 5, None),
        ('"class:big, wet.tif"', 5, "tif"),
    ],
)
def test_feature_a_class_by_its_name(text, class_id, form):
    parse_words(text)
    (kind,) = parse_save(text, CLASSES)
    assert (kind.name, kind.class_id, kind.format) == ("class", class_id, form)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("idz", ["'idz'", "'ids'", "overlay", "class:NAME"]),
        ("Color", ["'Color'", "'colour'"]),
        ("video", ["'video'", "choose from ids, colour"]),
        ("colour.gif", ["colour", "'gif'", "png, jpg"]),
        ("ids.tiff", ["'tiff'", "'tif'"]),
        ("overlay.", ["overlay", "png, jpg"]),
        ("", ["ids"]),
        (" , ", ["ids"]),
        ("ids,ids", ["'ids' is named twice"]),
        ("ids,ids.png", ["'ids' and 'ids.png'"]),
        ("ids.tif,ids", ["'ids.tif' and 'ids'", "geo-referenced"]),
        ("class:road,class:road.png", ["class:road.png"]),
        ("class", ["class:NAME"]),
        ("class:", ["class:NAME"]),
        ('ids,class:"a', ["double quote"]),
        ("table.xlsx", ["table", "'xlsx'", "csv"]),
    ],
)
def test_exception_words(text, expected):
    """The same before the classes are known."""
    messages = []
    for check in (parse_words, lambda words: parse_save(words, CLASSES)):
        with pytest.raises(ValueError, match="^--save: ") as error:
            check(text)
        messages.append(str(error.value))
        assert all(part in messages[-1] for part in expected), messages[-1]
    assert messages[0] == messages[1]


def test_exception_unknown_class():
    for text, shown in (("class:raod", "'raod'"), ("class:raod.tif", "'raod'")):
        parse_words(text)
        with pytest.raises(ValueError, match=rf"{shown}.*'road'.*Choose from background, road"):
            parse_save(text, CLASSES)
    many = [f"class {number}" for number in range(150)]
    with pytest.raises(ValueError) as error:
        parse_save("class:x", many)
    assert len(str(error.value)) < 700


def test_feature_words_are_checked_without_heavy_modules():
    code = (
        "import sys\n"
        "from prediction.products.kinds import parse_words\n"
        "parse_words('ids,class:road.tif,polygons.coco')\n"
        "sys.exit(bool({'torch', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    result = run_code(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "classes",
    [
        ["a b", "a_b", "a/b", "A B"],
        ["a b", "a_b", "a_b_0", "a_b_1"],
        ["colour", "Overlay", "coco", "", "..", "\u65e5\u672c", "x" * 300, "x" * 299 + "y"],
        ["ids", "confidence", "probabilities", "entropy", "polygons"],
    ],
)
def test_feature_files_of_classes_have_distinct_names(classes):
    labels = file_labels(classes)
    assert len({label.casefold() for label in labels}) == len(classes)
    others = ["ids", "colour", "overlay", "confidence", "entropy", "probabilities", "polygons",
              "polygons.coco", "polygons.labelme"]  # fmt: skip
    words = [*others, *(f'class:"{name}"' for name in classes if name)]
    kinds = parse_save(",".join(words), classes)
    for geo in (False, True):
        paths = [str(kind.path(OUTPUT, RELATIVE, geo)).casefold() for kind in kinds]
        assert len(set(paths)) == len(paths)
        assert all(Path(path).parent == Path("out/a") for path in paths)


def test_feature_names_of_classes_are_kept_where_they_can_be():
    names = ["road", "tree top", "Ger\u00e4t", "\u65e5\u672c", "a-b_c"]
    assert file_labels(names) == ["road", "tree_top", "Ger\u00e4t", "\u65e5\u672c", "a-b_c"]


@pytest.mark.parametrize("more", [{"strength": 1.1}, {"strength": -0.1}, {"min_area": -1.0},
                                  {"simplify": float("nan")}])  # fmt: skip
def test_exception_settings(more):
    with pytest.raises(ValueError, match=str(next(iter(more.values())))):
        Settings(**more)


# --- every product


def test_feature_a_product_needs_what_its_kind_says(tmp_path):
    """The kind says it before the image is read, the product reads no other field of its rows."""
    case = make_case(20, 30)
    for name in RASTERS:
        (kind,) = parse_save(name, case.facts.classes)
        product = kind.open(kind.path(tmp_path, RELATIVE, False), case.facts, Settings())
        assert set(product.needs) == set(kind.needs) <= set(FIELDS)
        product.discard()
    names = ",".join([*FORMATS, "polygons.coco"]).replace("class", "class:road")
    kinds = parse_save(names, case.facts.classes)
    assert {kind.name for kind in kinds} == set(FORMATS)
    assert set(chain.from_iterable(kind.needs for kind in kinds)) == set(FIELDS)


@pytest.mark.parametrize("geo", [False, True])
@pytest.mark.parametrize("name", RASTERS)
def test_feature_the_bytes_do_not_depend_on_the_blocks(tmp_path, name, geo):
    if geo:
        pytest.importorskip("rasterio")
    case = make_case(70, 90, ignored=True, geo=geo_reference() if geo else None)
    whole = case.write(name, tmp_path / "whole").read_bytes()
    for number, cuts in enumerate(([35], range(70), [0, 1, 1, 60])):
        assert case.write(name, tmp_path / str(number), cuts).read_bytes() == whole


@pytest.mark.parametrize("geo", [False, True])
@pytest.mark.parametrize("name", RASTERS)
def test_feature_products_are_whole_or_not_there(tmp_path, name, geo):
    if geo:
        pytest.importorskip("rasterio")
    case = make_case(200, 300, geo=geo_reference() if geo else None)
    # Noise, so that no file is small.
    ids = np.random.default_rng(0).integers(0, 5, (200, 300), np.uint8)
    case = case._replace(whole=case.whole._replace(ids=ids))
    (kind,) = parse_save(name, case.facts.classes)
    path = kind.path(tmp_path, Path("x.jpg"), geo)

    def attempt(settings, rows):
        product = kind.open(path, case.facts, settings)
        try:
            for each in rows:
                product.write(each)
            product.finish()
        finally:
            product.discard()

    half, rest = case.blocks([100])
    with full_disk(3000), pytest.raises(OSError):
        attempt(Settings(), [half, rest])
    assert os.listdir(tmp_path) == []
    product = kind.open(path, case.facts, Settings())
    product.write(half)
    product.discard()
    product.discard()
    assert os.listdir(tmp_path) == []
    path.write_bytes(FOREIGN)
    with pytest.raises(FileExistsError, match=f"{path.name} already exists"):
        kind.open(path, case.facts, Settings())
    assert path.read_bytes() == FOREIGN
    attempt(Settings(overwrite=True), [half, rest])
    assert path.read_bytes() != FOREIGN and os.listdir(tmp_path) == [path.name]


def test_feature_folders_of_products_are_made(tmp_path):
    case = make_case(4, 5)
    (kind,) = parse_save("ids", case.facts.classes)
    path = tmp_path / "deep/er/x.png"
    product = kind.open(path, case.facts, Settings())
    product.write(Rows(0, case.whole.ids))
    product.finish()
    assert path.exists()
