"""The converters, on small files made here and on real ones where there are some."""

import base64
import functools
import io
import itertools
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import convert
from base.samples import Samples
from conversion.conversion import Legend, MaskJob, write_masks
from conversion.labelme_masks import Shape, SizedShapes, draw_shapes
from conversion.parallel import run_each
from conversion.split_lists import count_values
from conversion.splits import make_split
from conversion.stratify import Units, deal
from dataloaders.folder import Folder
from tests.conftest import ROOT
from utils.transforms.augmentation import Augmentation

coco = pytest.importorskip("pycocotools.coco")


def run(*arguments):
    return convert.main([str(argument) for argument in arguments])


def pixels(path):
    return np.array(Image.open(path))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def printed_arguments(text):
    """The arguments of `Folder` that a command printed, read back as JSON."""
    lines = text.partition('of "Folder":')[2]
    arguments = json.loads(f"{{{lines}}}")
    arguments["palette"] = [tuple(colour) for colour in arguments["palette"]]
    return arguments


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("words", [[], ["coco"], ["labelme"], ["colours"], ["split"]])
def test_smoke_help_is_light(words):
    code = (
        f"import sys, convert\ntry: convert.main({[*words, '--help']})\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit(bool({'torch', 'numpy', 'cv2', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def as_program(*words, **more):
    command = [sys.executable, ROOT / "convert.py", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, **more)


def test_feature_names_of_any_letters(tmp_path):
    """A name that is not UTF-8, and letters that the output cannot show."""
    name = os.fsdecode(b"caf\xe9_1.png")
    save(tmp_path / "masks/a.png", np.uint8([[0]]))
    try:
        (tmp_path / "masks/a.png").rename(tmp_path / "masks" / name)
    except OSError:
        pytest.skip("such names cannot be had here")
    words = ["colours", "masks", "-o", "\u732b", "--palette", "wei\u00df\u732b=0,0,0"]
    for encoding, shown in (("utf-8", "wei\u00df\u732b"), ("latin-1", r"wei\u00df\u732b")):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        more = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE}
        result = as_program(*words, "--overwrite", **more)
        assert (result.returncode, result.stderr) == (0, b"")
        assert f'"classes": ["{shown}"]' in result.stdout.decode(encoding)
    assert os.listdir(tmp_path / "\u732b") == [name]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes(b"")
    (tmp_path / "images/b.png").write_bytes(b"")
    save(tmp_path / "masks/b.png", np.uint8([[0]]))
    result = as_program("split", ".", "-o", "lists", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert rb"caf\udce9_1.png': a name that is not UTF-8 cannot stand in a list" in result.stderr
    assert not (tmp_path / "lists").exists()


def test_feature_reader_that_stops_is_no_error(tmp_path):
    save(tmp_path / "masks/a.png", np.uint8([[0]]))
    reader, writer = os.pipe()
    os.close(reader)
    for unbuffered in ("", "1"):  # the rest comes at the end, or each line at once
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        words = ["colours", "masks", "--list"]
        result = as_program(*words, cwd=tmp_path, env=environment, stdout=writer)
        assert (result.returncode, result.stderr) == (141, b"")
    os.close(writer)


# --------------------------------------------------------------------------------------------------
# COCO


def box(x, y, width, height):
    """The polygon of the pixels x..x+width-1, y..y+height-1."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def run_lengths(mask):
    """Plain run lengths, column by column, of a mask; a naive loop."""
    counts, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@pytest.fixture
def instances():
    """Category ids with gaps and out of order; the small object stands before the large one."""
    crowd = np.zeros((8, 10), int)
    crowd[5:8] = 1
    return {
        "images": [
            {"id": 7, "file_name": "a.0.jpg", "width": 10, "height": 8},
            {"id": 3, "file_name": "sub/empty.jpg", "width": 4, "height": 5},
        ],
        "categories": [{"id": 44, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 44, "segmentation": [box(2, 2, 3, 2)]},
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": [box(1, 1, 6, 6)]},
            {"id": 3, "image_id": 7, "category_id": 2, "iscrowd": 1,
             "segmentation": run_lengths(crowd)},
        ],
    }  # fmt: skip


def painted(crowd=255, dog=1, cat=2):
    """The mask of the fixture's first picture, by hand."""
    ids = np.zeros((8, 10), int)
    ids[5:8] = crowd
    ids[1:7, 1:7] = dog
    ids[2:4, 2:5] = cat
    return ids


def test_feature_coco_smaller_over_larger_over_crowds(tmp_path, instances, capsys):
    source, output = dump(tmp_path / "i.json", instances), tmp_path / "masks"
    assert run("coco", source, "--output", output) == 0
    assert files(output) == ["a.0.png", "sub/empty.png"]
    assert np.array_equal(pixels(output / "a.0.png"), painted())
    assert np.array_equal(pixels(output / "sub/empty.png"), np.zeros((5, 4)))
    arguments = printed_arguments(capsys.readouterr().out)
    assert arguments["classes"] == ["background", "dog", "cat"]
    assert arguments["ignore_index"] == 255


def test_feature_coco_output_fits_folder(tmp_path, instances, capsys):
    save(tmp_path / "images/a.0.jpg", np.zeros((8, 10, 3), np.uint8))
    save(tmp_path / "images/sub/empty.jpg", np.zeros((5, 4, 3), np.uint8))
    source = dump(tmp_path / "i.json", instances)
    images, output = tmp_path / "images", tmp_path / "masks"
    assert run("coco", source, "--output", output, "--images", images) == 0
    dataset = Folder(**printed_arguments(capsys.readouterr().out))
    assert [sample.name for sample in dataset.samples] == ["a.0", "sub/empty"]
    assert np.array_equal(dataset.load(0)[1], painted())


@pytest.mark.parametrize(
    ("options", "expected", "names"),
    [
        (["--classes", "cat"], painted(crowd=0, dog=0, cat=1), ["background", "cat"]),
        (["--classes", "background", "cat", "dog"], painted(dog=2, cat=1),
         ["background", "cat", "dog"]),
        ({"2": 3, "cat": -1}, painted(dog=3, cat=255),
         ["background", "class 1", "class 2", "dog"]),
        ({"2": 1, "44": 1}, painted(dog=1, cat=1), ["background", "dog/cat"]),
        ({"2": 0, "44": 1}, painted(crowd=0, dog=0, cat=1), ["background", "cat"]),
    ],
)  # fmt: skip
def test_feature_coco_chosen_classes(tmp_path, instances, capsys, options, expected, names):
    if isinstance(options, dict):
        options = ["--label-map", dump(tmp_path / "map.json", options)]
    source, output = dump(tmp_path / "i.json", instances), tmp_path / "masks"
    assert run("coco", source, "--output", output, *options) == 0
    assert np.array_equal(pixels(output / "a.0.png"), expected)
    assert printed_arguments(capsys.readouterr().out)["classes"] == names


def test_feature_coco_classes_from_a_file(tmp_path, instances):
    (tmp_path / "names.txt").write_text("cat\r\n\ndog\n")
    source, output = dump(tmp_path / "i.json", instances), tmp_path / "masks"
    assert run("coco", source, "--output", output, "--classes", tmp_path / "names.txt") == 0
    assert np.array_equal(pixels(output / "a.0.png"), painted(dog=2, cat=1))


def test_feature_coco_of_more_than_255_classes(tmp_path, instances, capsys):
    """255 is then a class, so that what does not count needs another id."""
    instances["categories"] += [{"id": 100 + i, "name": f"c{i}"} for i in range(253)]
    source, output = dump(tmp_path / "i.json", instances), tmp_path / "masks"
    assert run("coco", source, "--output", output) == 0
    assert np.array_equal(pixels(output / "a.0.png"), painted(crowd=65535))
    assert printed_arguments(capsys.readouterr().out)["ignore_index"] == 65535


@pytest.mark.parametrize("size", [(1, 1), (8, 10), (1, 9)])
def test_feature_coco_compressed_run_lengths(tmp_path, instances, size):
    """Written by pycocotools from random masks."""
    mask = some_ids(1, size, classes=2)
    encoded = coco.maskUtils.encode(np.asfortranarray(mask.astype(np.uint8)))
    outline = {"size": list(size), "counts": encoded["counts"].decode()}
    instances["images"][0].update(height=size[0], width=size[1])
    instances["annotations"] = [{"image_id": 7, "category_id": 44, "segmentation": outline}]
    assert run("coco", dump(tmp_path / "i.json", instances), "-o", tmp_path / "out") == 0
    assert np.array_equal(pixels(tmp_path / "out/a.0.png"), 2 * mask)


@pytest.mark.parametrize("split", ["train", "val"])
def test_feature_coco_real_masks_equal_pycocotools(tmp_path, real_data, split):
    """Against `annToMask` of pycocotools, one annotation at a time."""
    source = real_data / f"coco_voc21_layout/annotations/instances_{split}2017.json"
    images = real_data / f"coco_voc21_layout/images/{split}2017"
    assert run("coco", source, "--output", tmp_path, "--images", images) == 0
    peer = coco.COCO(source)
    classes = {key: i for i, key in enumerate(sorted(peer.cats), 1)}
    for key, picture in peer.imgs.items():
        expected = np.zeros((picture["height"], picture["width"]), int)
        found = [(peer.annToMask(a), a) for a in peer.imgToAnns[key]]
        found.sort(key=lambda pair: (not pair[1]["iscrowd"], -pair[0].sum(dtype=int)))
        for mask, annotation in found:
            value = 255 if annotation["iscrowd"] else classes[annotation["category_id"]]
            expected[mask == 1] = value
        assert np.array_equal(pixels(tmp_path / f"{picture['file_name'][:-4]}.png"), expected)


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 1, 5, 5]], "annotation 1: has a polygon of 4 numbers; expected x and y of three"),
        ([[1, 1, 5, 5, 2, 2, 3]], "has a polygon of 7 numbers"),
        ([[1, 1, 5, 5, 1e9, 2]], r"has a point at 1e\+09, far outside"),
        ("text", "annotation 1: Expected"),
        ({"size": [8, 9], "counts": [72]}, "run lengths for 9x8 in a picture of 10x8"),
        ({"size": [8, 10], "counts": [3, 100]}, "do not add up to 80 pixels"),
        ({"size": [8, 10], "counts": [-3, 83]}, "do not add up"),
        ({"size": [8, 10], "counts": "zzzz"}, "do not add up"),
        ({"size": [8, 10], "counts": "zzzzzzzzzz"}, "do not add up"),
    ],
)
def test_exception_coco_broken_outline_is_skipped(tmp_path, instances, capsys, outline, message):
    instances["annotations"][0]["segmentation"] = outline
    source, output = dump(tmp_path / "i.json", instances), tmp_path / "masks"
    assert run("coco", source, "--output", output) == 2
    assert files(output) == ["sub/empty.png"]
    captured = capsys.readouterr()
    assert re.search(rf"skipped a\.0\.jpg: .*{message}", captured.err)
    assert "1 of 2 masks written" in captured.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "missing required field `categories`"),
        (lambda d: d["images"].clear(), "names no picture"),
        (lambda d: d["images"][1].update(id=7), "the id 7 stands for more than one picture"),
        (lambda d: d["categories"][1].update(id=44), "the id 44 stands for more than one category"),
        (lambda d: d["categories"][1].update(name="cat"), "one name; .*: 'cat' stands twice"),
        (lambda d: d["images"][1].update(file_name="a.0.png"), "would both become .*a.0.png"),
        (lambda d: d["images"][1].update(file_name="a.0.jpg"), "would both become .*a.0.png"),
        (lambda d: d["images"][1].update(file_name="../b.jpg"), "'../b.jpg' leads out"),
        (lambda d: d["images"][1].update(file_name="/b.jpg"), "'/b.jpg' leads out"),
        (lambda d: d["annotations"][1].update(category_id=5), "annotation 2 is of category 5"),
        (
            lambda d: d["images"][0].update(width=10.5),
            r"Expected `int`, got `float` - at `\$.images",
        ),
        (
            lambda d: [a.update(segmentation=[]) for a in d["annotations"]],
            "none of the 3 annotations has an outline; boxes alone are no masks",
        ),
    ],
)
def test_exception_coco_wrong_file(tmp_path, instances, capsys, change, message):
    change(instances)
    source = dump(tmp_path / "i.json", instances)
    assert run("coco", source, "--output", tmp_path / "masks") == 2
    error = capsys.readouterr().err
    assert re.match(f"error: .*{message}", error)
    assert error.count("\n") == 1
    assert not (tmp_path / "masks").exists()


def test_feature_coco_numbers_as_other_programs_write_them(tmp_path, instances):
    instances["images"][0].update(width=10.0, height=8.0)
    instances["images"][1].update(width="4")
    for item in instances["annotations"]:
        item.setdefault("iscrowd", None)
        item["category_id"] = str(item["category_id"])
    instances["annotations"][2]["iscrowd"] = 1.0
    source = tmp_path / "i.json"
    source.write_text(json.dumps(instances), encoding="utf-8-sig")
    label_map = tmp_path / "map.json"
    label_map.write_text('{"dog": 1, "cat": 2}', encoding="utf-8-sig")
    assert run("coco", source, "-o", tmp_path / "out", "--label-map", label_map) == 0
    assert np.array_equal(pixels(tmp_path / "out/a.0.png"), painted())
    assert pixels(tmp_path / "out/sub/empty.png").shape == (5, 4)


def test_feature_coco_boxes_alone_are_left_out_and_counted(tmp_path, instances, capsys):
    box_only = {"image_id": 7, "category_id": 44, "bbox": [0, 0, 10, 8]}
    instances["annotations"] += [
        {"id": 4, "segmentation": [], **box_only},
        {"id": 5, "segmentation": None, **box_only},
        {"id": 6, **box_only},
        {"id": 7, **box_only, "category_id": 2},
    ]
    source = tmp_path / "i.json"
    source.write_text(json.dumps(instances, indent=1))  # what json prints as [ ] with a space
    source.write_text(source.read_text().replace("[]", "[ ]"))
    assert run("coco", source, "-o", tmp_path / "out", "--classes", "cat") == 0
    expected = painted(crowd=0, dog=0, cat=1)
    assert np.array_equal(pixels(tmp_path / "out/a.0.png"), expected)
    captured = capsys.readouterr()
    assert captured.err == (
        "warning: left out 3 annotations without an outline, as a box alone is no mask: "
        "annotation 4, annotation 5, annotation 6\n"
    )
    assert "2 of 2 masks written" in captured.out


def test_exception_coco_classes_and_map(tmp_path, instances, capsys):
    source = dump(tmp_path / "i.json", instances)
    for options, message in (
        (["--classes", "doge"], "doge is unknown; did you mean 'dog'"),
        (["--classes", "dog", "dog"], "'dog' stands twice"),
        (["--classes", "no.txt"], "no.txt: cannot be read"),
        (["--label-map", dump(tmp_path / "a.json", {"9": 1})], "9 is unknown"),
        (["--label-map", dump(tmp_path / "b.json", {"2": -2})], "expected classes from 0 on"),
        (["--label-map", dump(tmp_path / "c.json", [1])], "expected categories and their classes"),
    ):
        assert run("coco", source, "--output", tmp_path / "masks", *options) == 2
        assert message in capsys.readouterr().err


def test_exception_coco_pictures_that_do_not_fit(tmp_path, instances, capsys):
    turned = Image.fromarray(np.zeros((10, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    turned.save(tmp_path / "images/a.0.jpg", exif=exif)
    instances["annotations"].append({"image_id": 99, "category_id": 2})
    source = dump(tmp_path / "i.json", instances)
    assert run("coco", source, "-o", tmp_path / "m", "--images", tmp_path / "images") == 2
    error = capsys.readouterr().err
    assert "skipped a.0.jpg: is 8x10, and annotated as 10x8; its EXIF note turns it" in error
    assert re.search(r"skipped sub/empty\.jpg: \S*sub/empty\.jpg: no such file", error)
    assert "skipped 1 annotations of pictures that are not described" in error


def test_exception_coco_without_pycocotools(tmp_path, instances, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert run("coco", dump(tmp_path / "i.json", instances), "-o", tmp_path / "m") == 2
    assert "pip install pycocotools" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# labelme


def shape(label, kind, *points, **more):
    return {"label": label, "shape_type": kind, "points": [list(p) for p in points], **more}


def drawing(*shapes, **more):
    return {
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "a.jpg",
        "imageData": None, "imageHeight": 40, "imageWidth": 50, **more,
    }  # fmt: skip


def bitmap(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


SHAPES = [
    shape("road", "polygon", (3.5, 2), (30, 4.2), (25, 33), (6, 20)),
    shape("car", "rectangle", (40, 30), (20.4, 12)),
    shape("road", "circle", (30, 20), (36, 24)),
    shape("tree", "line", (2, 38), (48, 10)),
    shape("car", "linestrip", (1, 1), (20, 9), (45, 3)),
    shape("tree", "point", (10, 30)),
    shape("road", "oriented_rectangle", (40, 5), (45, 10), (42, 13), (37, 8)),
    shape("car", "points", (47, 37), (3, 20)),
]


def by_labelme(item):
    """What labelme 5 draws for one shape, with Pillow: https://github.com/wkentaro/labelme."""
    mask = Image.new("L", (50, 40))
    pen, points = ImageDraw.Draw(mask), [tuple(point) for point in item["points"]]
    (x, y), kind = points[0], item["shape_type"]
    if kind == "circle":
        r = math.dist(*points)
        pen.ellipse([x - r, y - r, x + r, y + r], outline=1, fill=1)
    elif kind == "rectangle":
        pen.rectangle([tuple(np.min(points, 0)), tuple(np.max(points, 0))], outline=1, fill=1)
    elif kind in ("line", "linestrip"):
        pen.line(points, fill=1, width=10)
    elif kind in ("point", "points"):
        for x, y in points:
            pen.ellipse([x - 5, y - 5, x + 5, y + 5], outline=1, fill=1)
    else:
        pen.polygon(points, outline=1, fill=1)
    return np.array(mask) == 1


def test_feature_labelme_draws_in_the_order_of_the_file(tmp_path, capsys):
    dump(tmp_path / "in/a.0.json", drawing(*SHAPES))
    dump(tmp_path / "in/sub/b.json", drawing(*SHAPES[::-1], version=None))
    assert run("labelme", tmp_path / "in", "--output", tmp_path / "out") == 0
    values = {"car": 1, "road": 2, "tree": 3}
    for name, shapes in (("a.0.png", SHAPES), ("sub/b.png", SHAPES[::-1])):
        expected = np.zeros((40, 50), int)
        for item in shapes:
            expected[by_labelme(item)] = values[item["label"]]
        assert np.array_equal(pixels(tmp_path / "out" / name), expected)
    names = printed_arguments(capsys.readouterr().out)["classes"]
    assert names == ["background", "car", "road", "tree"]


def drawn(kind, *points, **more):
    item = Shape("x", list(points), kind, **more)
    return draw_shapes(SizedShapes(40, 50, [item]), {"x": 7})


def test_feature_labelme_geometry_by_hand():
    """Without Pillow: corners are inside, a disc is a distance, a polygon is half planes."""
    y, x = np.mgrid[:40, :50]
    inside = (x >= 10) & (x <= 20) & (y >= 5) & (y <= 8)
    assert np.array_equal(drawn("rectangle", (20, 8), (10, 5)), 7 * inside)
    assert np.array_equal(drawn(None, (10, 5), (20, 5), (20, 8), (10, 8)), 7 * inside)
    distance = np.hypot(x - 25, y - 20)
    for ids, radius in ((drawn("circle", (25, 20), (37, 25)), 13), (drawn("point", (25, 20)), 5)):
        assert (ids[distance < radius - 0.5] == 7).all()
        assert (ids[distance > radius + 0.5] == 0).all()
    triangle = drawn("polygon", (5, 5), (45, 5), (5, 35))
    slack = 30 * (x - 5) + 40 * (y - 5) - 1200
    assert (triangle[(x >= 5) & (y >= 5) & (slack < -50)] == 7).all()
    assert (triangle[(x < 5) | (y < 5) | (slack > 50)] == 0).all()


def test_feature_labelme_rectangles_of_x_anylabeling():
    """All four corners, in the order of the drawing, also turned."""
    y, x = np.mgrid[:40, :50]
    upright = drawn("rectangle", (20, 8), (10, 8), (10, 5), (20, 5))
    assert np.array_equal(upright, 7 * ((x >= 10) & (x <= 20) & (y >= 5) & (y <= 8)))
    turned = drawn("rotation", (25, 10), (35, 20), (25, 30), (15, 20))
    assert np.array_equal(turned, 7 * (abs(x - 25) + abs(y - 20) <= 10))


def test_feature_labelme_bitmaps():
    cross = np.eye(4, 6, dtype=bool)
    expected = np.zeros((40, 50), int)
    expected[10:14, 20:26] = 7 * cross
    assert np.array_equal(drawn("mask", (20, 10), (25, 13), mask=bitmap(cross)), expected)
    expected = np.zeros((40, 50), int)
    expected[38:40, 46:50] = 7 * cross[:2, :4]
    assert np.array_equal(drawn("mask", (46.0, 38.0), (51, 41), mask=bitmap(cross)), expected)


def test_feature_labelme_special_labels_and_given_classes(tmp_path, capsys):
    everywhere = ((0, 0), (49, 39))
    shapes = [
        shape("tree", "rectangle", *everywhere),
        shape("_background_", "rectangle", (0, 0), (9, 9)),
        shape("__ignore__", "rectangle", (20, 20), (29, 29)),
    ]
    dump(tmp_path / "in/a.json", drawing(*shapes))
    names = tmp_path / "names.txt"
    names.write_text("__ignore__\n_background_\nroad\ntree\n")
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out", "--classes", names) == 0
    expected = np.full((40, 50), 2)
    expected[:10, :10] = 0
    expected[20:30, 20:30] = 255
    assert np.array_equal(pixels(tmp_path / "out/a.png"), expected)
    arguments = printed_arguments(capsys.readouterr().out)
    assert arguments["classes"] == ["background", "road", "tree"]
    # Unlabelled pictures are background where the classes are given.
    dump(tmp_path / "none/b.json", drawing())
    assert run("labelme", tmp_path / "none", "-o", tmp_path / "out2", "--classes", names) == 0
    assert not pixels(tmp_path / "out2/b.png").any()


def test_feature_labelme_spaces_around_labels_and_byte_order_marks(tmp_path, capsys):
    corners = ((0, 0), (9, 9))
    for name, label in (("a", "cat "), ("b", "cat"), ("c", "\t__ignore__")):
        path = dump(tmp_path / f"in/{name}.json", 0)
        text = json.dumps(drawing(shape(label, "rectangle", *corners)))
        path.write_text(text, encoding="utf-8-sig")
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out") == 0
    assert printed_arguments(capsys.readouterr().out)["classes"] == ["background", "cat"]
    for name, value in (("a", 1), ("b", 1), ("c", 255)):
        assert pixels(tmp_path / f"out/{name}.png")[5, 5] == value


def test_feature_labelme_old_versions_and_pictures_inside(tmp_path, capsys):
    """Version 3 has no shape types and no size; the picture stays closed unless asked for."""
    old = {"shapes": [{"label": "car", "points": [[0, 0], [3, 0], [3, 2], [0, 2]]}]}
    image = bitmap(np.zeros((5, 6), np.uint8))
    dump(tmp_path / "in/a.json", {**old, "imageData": image})
    dump(tmp_path / "in/b.json", {**old, "imageHeight": 5, "imageWidth": 6, "imageData": "\u00fc!"})
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out") == 2
    assert "a.json: has no imageHeight and imageWidth; --image-data" in capsys.readouterr().err
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out2", "--image-data") == 0
    expected = np.zeros((5, 6), int)
    expected[:3, :4] = 1
    for name in ("a.png", "b.png"):
        assert np.array_equal(pixels(tmp_path / "out2" / name), expected)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", "is no labelme file"),
        ({"images": []}, "missing required field `shapes`"),
        (drawing(shape("car", "polygon", (1, 1), (2, 2))), r"shape 0 \(car\): a polygon has 3 or "),
        (drawing(shape("car", "rectangle", (1, 1))), "a rectangle has 2 points, not 1"),
        (drawing(shape("car", "rectangle", *[(1, 1)] * 3)), "a rectangle has 2 points, not 3"),
        (drawing(shape("car", "rotation", (1, 1))), "a rotation has 4 points, not 1"),
        (drawing(shape("car", "pollygon", (1, 1))), "is unknown; did you mean 'polygon'"),
        (drawing(shape("car", "circle", (1, 1), (1e9, 1))), "far outside the picture"),
        (drawing(shape("car", "mask", (1, 1), (3, 3), mask="????")), "its mask is no picture"),
        (drawing(shape("car", "mask", (1, 1), (3, 3), mask=bitmap(np.eye(2, dtype=bool)))),
         "its mask is 2x2 in a box of 3x3"),
        (drawing(imageWidth=10**6, imageHeight=10**6), "claims 1000000x1000000"),
    ],
)  # fmt: skip
def test_exception_labelme_broken_file_is_skipped(tmp_path, capsys, broken, message):
    dump(tmp_path / "in/good.json", drawing(*SHAPES))
    bad = dump(tmp_path / "in/bad.json", broken)
    if isinstance(broken, str):
        bad.write_text(broken)
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out") == 2
    assert files(tmp_path / "out") == ["good.png"]
    captured = capsys.readouterr()
    assert re.search(rf"skipped \S*bad\.json: .*{message}", captured.err)
    assert "1 of 2 masks written" in captured.out


COCO_FILE = {"images": [], "annotations": [], "categories": []}
VIA_FILE = {"a.jpg12": {"filename": "a.jpg", "size": 12, "regions": [], "file_attributes": {}}}
CVAT_FILE = "<?xml version='1.0'?>\n<annotations><version>1.1</version></annotations>"


@pytest.mark.parametrize(
    ("content", "name", "kind", "command"),
    [
        (COCO_FILE, "a.json", "COCO annotations", "convert.py coco {folder}/a0.json -o {out}"),
        ({"objects": [], "size": {}, "tags": []}, "a.json", "Supervisely", "convert.py coco"),
        (VIA_FILE, "a.json", "VIA annotations", "convert.py coco"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, "a.json", "VIA", "convert.py coco"),
        (CVAT_FILE, "a.xml", "CVAT annotations", "convert.py coco"),
        ("<annotation><object/></annotation>", "a.xml", "Pascal VOC boxes", "SegmentationClass"),
        ("0 0.5 0.5 0.25 1\n", "a.txt", "YOLO boxes", "no masks"),
        ("1 0.1 0 .3 1.0 0.5 0.6 \n", "a.txt", "YOLO polygons", "coco FILE.json -o {out}"),
        ({"imgHeight": 1, "imgWidth": 1, "objects": []}, "a.json", "Cityscapes", '"CityScapes"'),
        ([{"data": {}, "annotations": []}], "a.json", "Label Studio", "convert.py coco"),
        ({"arch": {}, "trainer": {}}, "a.json", "this program", "labelme's files"),
    ],
)
def test_exception_labelme_says_once_whose_folder_it_is(
    tmp_path, capsys, content, name, kind, command
):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(3):
        path = folder / f"{name[0]}{number}{name[1:]}"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert run("labelme", folder, "-o", out) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and not captured.out
    for fact in (f"{folder}: holds no labelme file", "3 of 3 files", kind):
        assert fact in captured.err
    assert command.format(folder=folder, out=out) in captured.err
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "a.png\n", "0 1 2 3 4\n", "0.5 0.5 0.5 0.5 0.5\n"])
def test_exception_labelme_text_that_is_nobodys(tmp_path, capsys, text):
    (tmp_path / "classes.txt").write_text(text)
    assert run("labelme", tmp_path, "-o", tmp_path / "out") == 2
    assert f"{tmp_path}: holds no JSON file" in capsys.readouterr().err


def test_feature_labelme_files_beside_others(tmp_path, capsys):
    for number in range(9):
        dump(tmp_path / f"in/a{number}.json", COCO_FILE)
    dump(tmp_path / "in/b.json", drawing(*SHAPES))
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out") == 2
    assert files(tmp_path / "out") == ["b.png"]
    assert capsys.readouterr().err.count("skipped") == 9


def test_exception_coco_of_other_programs(tmp_path, capsys):
    path = dump(tmp_path / "in/a.json", drawing(*SHAPES))
    for argument in (path, tmp_path / "in"):
        assert run("coco", argument, "-o", "out") == 2
        assert f"convert.py labelme {tmp_path / 'in'} -o out" in capsys.readouterr().err
    dump(tmp_path / "in/b.json", COCO_FILE)
    assert run("coco", tmp_path / "in", "-o", "out") == 2
    assert f"convert.py coco {tmp_path / 'in/b.json'} -o out" in capsys.readouterr().err
    assert run("labelme", tmp_path / "in/b.json", "-o", "out") == 2
    assert f"convert.py coco {tmp_path / 'in/b.json'} -o out" in capsys.readouterr().err


def test_exception_labelme_unknown_label(tmp_path, capsys):
    dump(tmp_path / "in/a.json", drawing(*SHAPES))
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out", "--classes", "cars", "road") == 2
    error = capsys.readouterr().err
    assert "car, tree are unknown; did you mean 'cars'?" in error
    assert "labels found (shapes): car (3), road (3), tree (2)" in error
    assert not (tmp_path / "out").exists()
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "in") == 2
    assert "is the folder of the input" in capsys.readouterr().err
    assert run("labelme", tmp_path / "out", "-o", tmp_path / "in") == 2
    assert "is no folder" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# Colours

COLOURS = np.array([[0, 0, 255], [255, 0, 0], [1, 2, 3]], np.uint8)
PALETTE = ["water=0,0,255", "fire=255,0,0", "__ignore__=1,2,3"]


def some_ids(seed, size=(8, 10), classes=3):
    return np.random.default_rng(seed).integers(0, classes, size)


def test_feature_colours_to_ids(tmp_path, capsys):
    """RGB, RGBA and palette pictures, against the ids that they were painted from."""
    folder, ids = tmp_path / "in", [some_ids(i) for i in range(3)]
    save(folder / "a.0.png", COLOURS[ids[0]])
    save(folder / "sub/b.tif", np.dstack([COLOURS[ids[1]], np.full((8, 10), 9, np.uint8)]))
    indexed = Image.fromarray((2 - ids[2]).astype(np.uint8), "P")
    indexed.putpalette(COLOURS[::-1].tobytes())
    indexed.save(folder / "c.png")
    assert run("colours", folder, "--output", tmp_path / "out", "--palette", *PALETTE) == 0
    for name, expected in zip(("a.0.png", "sub/b.png", "c.png"), ids, strict=True):
        expected = np.where(expected == 2, 255, expected)
        assert np.array_equal(pixels(tmp_path / "out" / name), expected)
    arguments = printed_arguments(capsys.readouterr().out)
    assert arguments["classes"] == ["water", "fire"]
    assert arguments["palette"] == [(0, 0, 255), (255, 0, 0)]


def test_feature_colours_palette_files(tmp_path):
    ids = some_ids(0, classes=2)
    save(tmp_path / "in/1_gt.png", COLOURS[ids])
    save(tmp_path / "in/1.png", COLOURS[some_ids(1)])
    for name, palette in (
        ("a", {"water": [0, 0, 255], "fire": [255, 0, 0]}),
        ("b", COLOURS[:2].tolist()),
    ):
        path = dump(tmp_path / f"{name}.json", palette)
        options = ["--palette", path, "--mask-suffix", "_gt"]
        assert run("colours", tmp_path / "in", "-o", tmp_path / name, *options) == 0
        assert files(tmp_path / name) == ["1.png"]
        assert np.array_equal(pixels(tmp_path / name / "1.png"), ids)


def test_exception_colours_unknown_and_smoothed(tmp_path, capsys):
    picture = COLOURS[some_ids(0, (16, 16))]
    save(tmp_path / "in/good.png", picture)
    odd = picture.copy()
    odd[2:4, 3:6] = (250, 5, 5)
    save(tmp_path / "in/odd.png", odd)
    smooth = Image.fromarray(picture).resize((31, 33), Image.Resampling.BILINEAR)
    smooth.save(tmp_path / "in/smooth.png")
    smooth.save(tmp_path / "in/text.png", "JPEG")
    assert run("colours", tmp_path / "in", "-o", tmp_path / "out", "--palette", *PALETTE) == 2
    assert files(tmp_path / "out") == ["good.png"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert (
        "odd.png: a colour that --palette lacks: (250, 5, 5) on 6 pixels (nearest: fire"
        in (lines[0])
    )
    assert re.search(r"smooth\.png: \d+ colours .* smoothed edges: .*anti-aliasing", lines[1])
    assert "text.png: is a JPEG" in lines[2]


def test_exception_colours_jpeg_masks_are_named(tmp_path, capsys):
    """A GIF is read where Pillow writes it without loss; a picture beside its mask is no mask."""
    ids = some_ids(0)
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/a.png", COLOURS[ids])
    for name in ("a.jpg", "b.jpg", "c.JPEG"):
        Image.fromarray(COLOURS[ids]).save(tmp_path / "in" / name, "JPEG")
    indexed = Image.fromarray(ids.astype(np.uint8), "P")
    indexed.putpalette(COLOURS.tobytes())
    indexed.save(tmp_path / "in/d.gif")
    Image.fromarray(COLOURS[ids]).save(tmp_path / "in/e.webp", lossless=False)
    for options in (["--palette", *PALETTE, "-o", tmp_path / "out"], ["--list"]):
        assert run("colours", tmp_path / "in", *options) == 2
        lines = capsys.readouterr().err.splitlines()
        assert [re.search(r"(\w\.\w+): is a (\w+ \w+|\w+),", line)[1] for line in lines] == [
            "b.jpg", "c.JPEG", "e.webp",
        ]  # fmt: skip
    assert files(tmp_path / "out") == ["a.png", "d.png"]
    for name in ("a", "d"):
        assert np.array_equal(pixels(tmp_path / f"out/{name}.png"), np.where(ids == 2, 255, ids))


def test_exception_colours_nothing_of_that_suffix(tmp_path, capsys):
    save(tmp_path / "in/sub/a_gt.png", COLOURS[some_ids(0)])
    output = tmp_path / "out"
    for options in (["--palette", *PALETTE, "-o", output], ["--list"]):
        assert run("colours", tmp_path / "in", "--mask-suffix", "_x", *options) == 2
        captured = capsys.readouterr()
        message = "in: holds no mask whose stem ends with '_x'; there is: a_gt.png\n"
        assert captured.err.endswith(message)
        assert not captured.out
    (tmp_path / "empty").mkdir()
    for folder, message in (("empty", "holds no picture"), ("in/su", "no such folder")):
        assert run("colours", tmp_path / folder, "--list") == 2
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_feature_colours_list(tmp_path, capsys):
    ids = [some_ids(0), some_ids(1, classes=2)]
    for i, values in enumerate(ids):
        save(tmp_path / f"in/{i}.png", COLOURS[values])
    assert run("colours", tmp_path / "in", "--list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    found = {row[0]: (int(row[1]), int(row[-1])) for row in rows}
    assert found == {
        ",".join(map(str, COLOURS[i])): (sum((v == i).sum() for v in ids), 1 if i == 2 else 2)
        for i in range(3)
    }
    assert [int(row[1]) for row in rows] == sorted((int(row[1]) for row in rows), reverse=True)
    assert files(tmp_path) == ["in/0.png", "in/1.png"]


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (["a=1,2,3", "a=1,2,4"], "'a' stands twice"),
        (["a=1,2,3", "b=1,2,3"], r"'\(1, 2, 3\)' stands twice"),
        (["a=1,2,300"], "expected a name and a colour, as in a=128,64,128, not 'a=1,2,300'"),
        (["a=1,2"], "expected a name and a colour"),
        (["a=1,2,3", "red"], "expected a name and a colour"),
        (["__ignore__=1,2,3"], "names no class"),
        (["no.json"], "no.json: no such file"),
        ([], "--palette is missing"),
    ],
)
def test_exception_colours_palette(tmp_path, capsys, palette, message):
    save(tmp_path / "in/a.png", COLOURS[some_ids(0)])
    options = ["--palette", *palette] if palette else []
    assert run("colours", tmp_path / "in", "-o", tmp_path / "out", *options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_exception_colours_outputs(tmp_path, capsys):
    folder, palette = tmp_path / "in", ["--palette", *PALETTE]
    save(folder / "a.png", COLOURS[some_ids(0)])
    for output, place in ((folder, "is"), (folder / "deep/out", "lies in")):
        assert run("colours", folder, "-o", output, *palette) == 2
        assert f"{place} the folder of the input" in capsys.readouterr().err
    assert run("colours", folder, "-o", folder / "a.png", *palette) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    save(folder / "a.bmp", COLOURS[some_ids(1)])
    assert run("colours", folder, "-o", tmp_path / "out", *palette) == 2
    assert "have the same stem" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_feature_existing_masks_stay_unless_asked(tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        save(folder / f"{name}.png", COLOURS[some_ids(0, classes=2)])
    save(output / "b.png", np.zeros((1, 1), np.uint8))
    command = ["colours", folder, "-o", output, "--palette", *PALETTE]
    assert run(*command) == 2
    assert "1 of the files to write exist already: " in capsys.readouterr().err
    assert files(output) == ["b.png"]
    assert pixels(output / "b.png").shape == (1, 1)
    assert run(*command, "--overwrite") == 0
    assert np.array_equal(pixels(output / "b.png"), some_ids(0, classes=2))


def test_feature_colours_real_masks_equal_their_ids(tmp_path, real_data):
    """The data has the same labels as ids beside the colours."""
    names = ["other", "building", "lawn", "shrub", "water", "road", "ground", "vehicle", "land"]
    values = ["0,0,0", "0,0,255", "0,255,0", "0,128,0", "0,255,255", "255,255,0", "255,255,255",
              "255,0,255", "128,128,128"]  # fmt: skip
    folder = real_data / "gf2_layout/sat/valid"
    palette = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
    options = ["--mask-suffix", "_gt", "--palette", *palette]
    assert run("colours", folder / "img", "-o", tmp_path, *options) == 0
    assert files(tmp_path) == ["439.png", "440.png"]
    for name in ("439", "440"):
        expected = pixels(folder / f"lbl/{name}_gt.png")
        assert np.array_equal(pixels(tmp_path / f"{name}.png"), expected)


# --------------------------------------------------------------------------------------------------
# Work on all cores


def test_feature_processes_change_nothing(tmp_path, capsys):
    """Against the number of zeros that each mask was made with."""
    for i in range(9):
        save(tmp_path / f"{i}.png", np.repeat(np.uint8([[0, 1]]), [i + 1, 2], axis=1))
    (tmp_path / "4.png").write_bytes(b"")
    items = {str(i): str(tmp_path / f"{i}.png") for i in (3, 1, 4, 0, 8, 2)}
    outputs = []
    for processes in (1, 2):
        found = run_each(count_values, items, processes=processes)
        assert list(found) == ["3", "1", "0", "8", "2"]
        assert found == {name: {"0": int(name) + 1, "1": 2} for name in found}
        outputs.append(capsys.readouterr().err)
    assert outputs[0] == outputs[1]
    assert "skipped 4: " in outputs[0]


def test_exception_process_that_dies(tmp_path):
    job = MaskJob("a", tmp_path / "a.png", functools.partial(os._exit, 1))
    with pytest.raises(ValueError, match="a process was ended from outside"):
        write_masks([job], Legend(("a",)), overwrite=False, processes=2)


# --------------------------------------------------------------------------------------------------
# Splits


@pytest.fixture
def tree(tmp_path):
    """40 pictures of 4 videos, each with one or two of four classes; the last one is rare."""
    for i in range(40):
        mask = np.full((4, 4), 255, np.uint8)
        mask[:2] = i % 3
        mask[3] = 3 if i in (5, 22) else i % 2
        save(tmp_path / f"images/v{i // 10}/p{i}.jpg", np.zeros((4, 4, 3), np.uint8))
        save(tmp_path / f"masks/v{i // 10}/p{i}.png", mask)
    return tmp_path


def members(lists, name):
    """What `Folder` finds in the two lists of a split."""
    dataset = Folder(
        classes=4,
        data_dir=str(lists.parent),
        images=f"{lists.name}/{name}.txt",
        masks=f"{lists.name}/{name}_masks.txt",
    )
    for sample in dataset.samples:
        assert Path(sample.image).stem == Path(sample.label).stem
    dataset.load(0)
    return {Path(sample.image).stem for sample in dataset.samples}


def test_feature_split_lists_fit_folder(tree, capsys, monkeypatch):
    monkeypatch.chdir(tree)
    assert run("split", "--output", "lists", "--val", 0.2, "--test", 0.1) == 0
    found = {name: members(Path("lists"), name) for name in ("train", "val", "test")}
    assert [len(found[name]) for name in ("train", "val", "test")] == [28, 8, 4]
    assert set.union(*found.values()) == {f"p{i}" for i in range(40)}
    assert not found["train"] & found["val"] and not found["val"] & found["test"]
    out = capsys.readouterr().out
    assert "pictures  28 (70.0 %)  8 (20.0 %)  4 (10.0 %)" in out
    assert 'val: "data_dir": ".", "images": "lists/val.txt", "masks": "lists/val_masks.txt"' in out


def test_feature_split_of_lists_and_suffixes(tree, capsys, monkeypatch):
    """A list of some of the pictures, and masks of another stem; from another folder."""
    (tree / "some.txt").write_text("".join(f"images/v1/p{i}.jpg\n" for i in range(10, 18)))
    for path in (tree / "masks/v1").iterdir():
        path.rename(path.with_stem(f"{path.stem}_gt"))
    options = ["--masks", tree / "masks/v1", "--mask-suffix", "_gt", "--val", 0.25]
    assert run("split", tree / "some.txt", *options, "-o", tree / "deep/lists") == 0
    out = capsys.readouterr().out
    (line,) = re.findall(r"^    val: (.*)$", out, re.M)
    monkeypatch.chdir("/")
    dataset = Folder(classes=4, **json.loads(f"{{{line}}}"))
    assert len(dataset) == 2
    assert dataset.load(0)[1].shape == (4, 4)
    assert not (tree / "deep/lists/test.txt").exists()


def test_feature_split_of_masks_beside_pictures(tmp_path, capsys):
    for i in range(4):
        save(tmp_path / f"{i}.png", np.zeros((4, 4, 3), np.uint8))
        save(tmp_path / f"{i}_gt.png", np.zeros((4, 4), np.uint8))
    options = ["--images", ".", "--masks", ".", "--mask-suffix", "_gt", "--val", 0.25]
    assert run("split", tmp_path, "-o", tmp_path / "lists", *options) == 0
    assert not capsys.readouterr().err
    names = (tmp_path / "lists/train.txt").read_text() + (tmp_path / "lists/val.txt").read_text()
    assert sorted(names.split()) == [f"../{i}.png" for i in range(4)]


@pytest.mark.parametrize("suffixes", [["_VV", "_HH"], None])
def test_feature_split_of_arrays_and_bands(tmp_path, capsys, suffixes):
    """What was saved comes back through the lists and the lines for the config."""
    (tmp_path / "images").mkdir()
    for i in range(4):
        array = np.random.default_rng(i).normal(size=(6, 7, 2)).astype(np.float32)
        if suffixes is None:
            np.save(tmp_path / f"images/{i}.npy", array)
        for suffix, band in zip(suffixes or (), (0, 1), strict=False):
            np.save(tmp_path / f"images/{i}{suffix}.npy", array[..., band])
        save(tmp_path / f"masks/{i}.png", np.full((6, 7), i, np.uint8))
    options = ["--band-suffixes", *suffixes] if suffixes else []
    assert run("split", tmp_path, "-o", tmp_path / "lists", "--val", 0.25, *options) == 0
    (line,) = re.findall(r"^    train: (.*)$", capsys.readouterr().out, re.M)
    dataset = Folder(classes=4, mean=[0, 0], std=[1, 1], **json.loads(f"{{{line}}}"))
    assert len(dataset) == 3
    for index, sample in enumerate(dataset.samples):
        number = int(Path(sample.label).stem)
        expected = np.random.default_rng(number).normal(size=(6, 7, 2)).astype(np.float32)
        assert np.array_equal(dataset.load(index)[0], expected)


def test_feature_split_keeps_groups_together(tree, tmp_path, capsys):
    lines = "".join(f"v{i // 10}/p{i}{'.jpg' * (i % 2)},g{i % 5}\n" for i in range(40))
    (tmp_path / "groups.csv").write_text(lines)
    for number, (groups, group_of) in enumerate(
        (
            (r"^v\d", lambda stem: int(stem[1:]) // 10),
            (r"p\d?(\d)$", lambda stem: int(stem[1:]) % 10),
            (tmp_path / "groups.csv", lambda stem: int(stem[1:]) % 5),
        )
    ):
        lists = tmp_path / str(number)
        options = ["--groups", groups, "--stratify", "--val", 0.25]
        assert run("split", tree, "-o", lists, *options) == 0
        train, val = (set(map(group_of, members(lists, name))) for name in ("train", "val"))
        assert train and val and not train & val
    assert "groups    4 (80.0 %)   1 (20.0 %)" in capsys.readouterr().out


def test_feature_split_table_equals_a_naive_count(tree, capsys):
    assert run("split", tree, "-o", tree / "lists", "--val", 0.3) == 0
    out = capsys.readouterr().out
    for value in range(4):
        counts = []
        for name in ("train", "val"):
            paths = (tree / "lists" / f"{name}_masks.txt").read_text().split()
            counts.append(sum((pixels(tree / "lists" / p) == value).sum() for p in paths))
        shares = [f"{100 * count / sum(counts):.1f} %" for count in counts]
        assert re.search(rf"^class {value} +{shares[0]} +{shares[1]}\s*$", out, re.M)
    assert "class 255" not in out


def test_feature_split_stratified_has_the_rare_class_everywhere(tree, capsys):
    """Two of forty pictures have class 3: of a tenth at random, four in five lack it."""
    for seed in range(3):
        options = ["--val", 0.1, "--stratify", "--seed", seed]
        assert run("split", tree, "-o", tree / f"lists{seed}", *options) == 0
        assert len({"p5", "p22"} & members(tree / f"lists{seed}", "val")) == 1
        captured = capsys.readouterr()
        assert "warning" not in captured.err
        assert "36 (90.0 %)" in captured.out
    assert run("split", tree, "-o", tree / "plain", "--val", 0.1, "--test", 0.1) == 0
    assert "has no pixel of class 3" in capsys.readouterr().err


def counts_of(number, classes=6, seed=0):
    """Random multi-label pictures with frequent and rare classes."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(number):
        there = rng.random(classes) < 0.6 / np.arange(1, classes + 1) ** 1.3
        sizes = rng.integers(1, 1000, classes)
        found[f"p{i}"] = {str(c): int(sizes[c]) for c in range(classes) if there[c]}
    return found


def deviation(counts, chosen, share):
    """How far the classes' pictures and pixels in a split are from its share; a naive loop."""
    worst = 0
    for c in {c for found in counts.values() for c in found}:
        for weigh in (bool, int):
            total = sum(weigh(found.get(c, 0)) for found in counts.values())
            part = sum(weigh(counts[name].get(c, 0)) for name in chosen)
            worst = max(worst, abs(part / total - share))
    return worst


def test_feature_split_is_a_function_of_names_and_seed():
    counts = counts_of(60)
    shares = {"train": 0.7, "val": 0.3}
    for stratify in (False, True):
        first = make_split(counts, shares, stratify=stratify, seed=1)
        names = list(counts)
        random.Random(0).shuffle(names)
        shuffled = {n: dict(reversed(counts[n].items())) for n in names}
        again = make_split(shuffled, shares, stratify=stratify, seed=1)
        assert first.members == again.members
        assert first.members != make_split(counts, shares, stratify=stratify, seed=2).members


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_feature_split_is_the_same_in_another_process(hash_seed):
    """Python orders its sets in another way there."""
    counts = counts_of(30)
    groups = {name: f"g{int(name[1:]) // 2}" for name in counts}
    shares = {"train": 0.7, "val": 0.3}
    code = (
        "from conversion.splits import make_split\n"
        f"print(make_split({counts}, {shares}, groups={groups}, stratify=True).members)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    split = make_split(counts, shares, groups=groups, stratify=True)
    assert result.stdout.strip() == str(split.members)


def test_feature_stratified_beats_random_splits():
    """Of 200 random splits, made without any of this code, not one is as close."""
    counts = counts_of(150)
    split = make_split(counts, {"train": 0.8, "val": 0.2}, stratify=True)
    assert len(split.members[1]) == 30
    ours = deviation(counts, split.members[1], 0.2)
    rng = random.Random(0)
    others = [deviation(counts, rng.sample(list(counts), 30), 0.2) for _ in range(200)]
    assert ours < min(others)
    assert ours < 0.03


def test_feature_stratified_groups_beat_scikit_learn():
    """Against its random splits by groups, which know nothing of classes."""
    from sklearn.model_selection import GroupShuffleSplit

    counts = counts_of(200)
    groups = {name: f"g{int(name[1:]) // 4}" for name in counts}
    split = make_split(counts, {"train": 0.8, "val": 0.2}, groups=groups, stratify=True)
    names, labels = list(groups), list(groups.values())
    peer = GroupShuffleSplit(20, test_size=0.2, random_state=0)
    others = [
        deviation(counts, [names[i] for i in val], 0.2)
        for _, val in peer.split(names, groups=labels)
    ]
    assert deviation(counts, split.members[1], 0.2) < min(others)


def test_feature_stratified_single_labels_equal_scikit_learn():
    """Of one class a picture, each split has the numbers that scikit-learn gives it."""
    from sklearn.model_selection import StratifiedShuffleSplit

    labels = [0] * 50 + [1] * 30 + [2] * 20
    counts = {f"p{i}": {str(label): 10} for i, label in enumerate(labels)}
    split = make_split(counts, {"train": 0.8, "val": 0.2}, stratify=True)
    ((_, val),) = StratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(labels, labels)
    expected = np.bincount(np.array(labels)[val])
    ours = np.bincount([labels[int(name[1:])] for name in split.members[1]])
    assert ours.tolist() == expected.tolist() == [10, 6, 4]


@pytest.mark.parametrize("seed", range(12))
def test_feature_no_class_is_missing_where_it_can_be_there(seed):
    """Against all ways to deal ten pictures out to two splits, one after the other."""
    rng = np.random.default_rng(seed)
    presence = (rng.random((10, 6)) < 0.25).astype(int)
    units = Units(np.ones(10, int), presence, presence * rng.integers(1, 9, (10, 6)))
    occurs = presence.any(axis=0)

    def missing(chosen):
        parts = [presence[np.array(chosen) == s].any(axis=0) for s in (0, 1)]
        return sum(int((occurs & ~part).sum()) for part in parts)

    possible = [c for c in itertools.product((0, 1), repeat=10) if 0 < sum(c) < 10]
    chosen = deal(units, np.array([0.7, 0.3]), np.random.default_rng(0))
    assert missing(chosen) == min(map(missing, possible))


def test_feature_split_of_real_videos(tmp_path, real_data, capsys):
    """The 367 CamVid pictures are of three videos, by the first part of their names."""
    data = ["split", real_data / "camvid", "--images", "train", "--masks", "trainannot"]
    groups = ["--groups", "^[^_]+", "--stratify", "--val", 0.25, "--ignore-index", 11]
    assert run(*data, "-o", tmp_path / "videos", *groups) == 0
    found = {n: (tmp_path / f"videos/{n}.txt").read_text().split() for n in ("train", "val")}
    videos = {n: {Path(p).name.split("_")[0] for p in paths} for n, paths in found.items()}
    assert len(videos["train"] | videos["val"]) == 3 and not videos["train"] & videos["val"]
    assert len(found["train"]) + len(found["val"]) == 367
    capsys.readouterr()
    assert run(*data, "-o", tmp_path / "all", "--stratify", "--ignore-index", 11) == 0
    rows = re.findall(r"^class \d+ +\S+ % +(\S+) %", capsys.readouterr().out, re.M)
    assert len(rows) == 11
    assert all(abs(float(share) - 10) < 0.5 for share in rows)


def test_exception_split_arguments(tree, tmp_path, capsys):
    short = dump(tmp_path / "short.csv", 0)
    short.write_text("v0/p0,a\n")
    twice = dump(tmp_path / "twice.csv", 0)
    twice.write_text("v0/p0,a\nv0/p0,b\n")
    shutil.copytree(tree / "images", tree / "jpegs")
    for options, message in (
        (["--val", 0], "expected shares between 0 and 1"),
        (["--val", 0.6, "--test", 0.4], "leave something for training"),
        (["--val", "nan"], "expected shares between 0 and 1"),
        (["--groups", "("], "neither a file nor a regular expression"),
        (["--groups", "^v0"], "'^v0' finds nothing in 'v1/p10'"),
        (["--groups", "x*"], "finds nothing in"),
        (["--groups", short], "has no group for v0/p1"),
        (["--groups", twice], "puts v0/p0 into the groups a and b"),
        (["--groups", "^v", "--test", 0.1], "1 groups cannot fill 3 splits"),
        (["--images", "image"], "no such folder or list file"),
        (["--masks", "images"], "40 of 40 images are their own masks"),
        (["--masks", "jpegs"], "is a JPEG, which changes label values"),
        (["--masks", "jpegs"], "error: no mask can be used; each is named above"),
        (["--band-suffixes", "_a", "_a"], "expected one a band, all different"),
        (["--band-suffixes", "_a", "_b"], "holds no picture whose stem ends with _a or _b"),
        (["--mask-suffix", "_gt"], "have no mask of the same stem"),
    ):
        assert run("split", tree, "-o", tree / "lists", *options) == 2
        assert message in capsys.readouterr().err
    assert run("split", short, "-o", tree / "lists") == 2
    assert "--masks goes with it" in capsys.readouterr().err
    assert not (tree / "lists").exists()


def test_exception_split_existing_lists(tree, capsys):
    lists = tree / "lists"
    assert run("split", tree, "-o", lists, "--test", 0.1) == 0
    before = (lists / "train.txt").read_text()
    assert run("split", tree, "-o", lists, "--test", 0.1, "--seed", 1) == 2
    assert "6 of the files to write exist already" in capsys.readouterr().err
    assert (lists / "train.txt").read_text() == before
    assert run("split", tree, "-o", lists, "--overwrite") == 2
    assert "would stay from an earlier split" in capsys.readouterr().err
    assert run("split", tree, "-o", lists, "--test", 0.1, "--seed", 1, "--overwrite") == 0
    assert (lists / "train.txt").read_text() != before


def test_exception_arguments_come_before_existing_files(tree, capsys):
    assert run("split", tree, "-o", tree / "lists") == 0
    command = ["colours", tree / "masks/v0", "-o", tree / "ids", "--palette"]
    assert run(*command, *(f"{i}={','.join([str(i)] * 3)}" for i in (0, 1, 2, 3, 255))) == 0
    for words in (
        ["split", tree, "-o", tree / "lists", "--groups", "^v9"],
        ["split", tree, "-o", tree / "lists", "--images", "image"],
        [*command, "0=0,0"],
        [*command, "0=0,0,0", "--mask-suffix", "_x"],
    ):
        capsys.readouterr()
        assert run(*words) == 2
        assert "exist already" not in capsys.readouterr().err


def test_exception_split_broken_masks_are_left_out(tree, capsys):
    (tree / "masks/v0/p3.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    save(tree / "masks/v0/p4.png", noise)
    assert run("split", tree, "-o", tree / "lists") == 2
    error = capsys.readouterr().err
    assert "p3.png: is empty (0 bytes)" in error
    assert re.search(r"p4\.png: holds \d+ colours; make ids of them first", error)
    listed = (tree / "lists/train.txt").read_text() + (tree / "lists/val.txt").read_text()
    assert len(listed.split()) == 38
    assert "p3.jpg" not in listed and "p4.jpg" not in listed


@pytest.mark.parametrize("other", [None, 1])
def test_feature_split_of_black_and_white_masks_says_what_255_is(tmp_path, capsys, other):
    """Its lines train; beside another value 255 is what nobody has labelled."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for n in range(10):
        Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(tmp_path / f"images/{n}.png")
        mask = np.zeros((8, 8), np.uint8)
        mask[:4] = 255
        if other is not None:
            mask[0] = other
        Image.fromarray(mask).save(tmp_path / f"masks/{n}.png")
    assert run("split", tmp_path, "-o", tmp_path / "lists", "--val", 0.2) == 0
    printed = capsys.readouterr()
    assert ("0 and 255" in printed.err) == (other is None)
    line = re.search(r"train: (.*)", printed.out)[1]
    dataset = Folder(classes=2, **json.loads("{" + line + "}"))
    labels = Samples(dataset, Augmentation(), seed=0, ignore_index=255).labels(0)
    expected = {0, 1} if other is None else {0, 1, 255}
    assert set(np.unique(labels).tolist()) == expected
    again = run("split", tmp_path, "-o", tmp_path / "l", "--val", 0.2, "--ignore-index", 255)
    assert again == 0
    assert "label_map" not in capsys.readouterr().out
