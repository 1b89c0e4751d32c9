"""convert.py labelme: what is drawn, and files of other programs."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from conversion.labelme_masks import Shape, SizedShapes, draw_shapes
from tests.conversion.calls import dump, files, pixels, printed_arguments, run


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


def test_feature_draws_in_the_order_of_the_file(tmp_path, capsys):
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


def test_feature_geometry_by_hand():
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


def test_feature_rectangles_of_x_anylabeling():
    """All four corners, in the order of the drawing, also turned."""
    y, x = np.mgrid[:40, :50]
    upright = drawn("rectangle", (20, 8), (10, 8), (10, 5), (20, 5))
    assert np.array_equal(upright, 7 * ((x >= 10) & (x <= 20) & (y >= 5) & (y <= 8)))
    turned = drawn("rotation", (25, 10), (35, 20), (25, 30), (15, 20))
    assert np.array_equal(turned, 7 * (abs(x - 25) + abs(y - 20) <= 10))


def test_feature_bitmaps():
    cross = np.eye(4, 6, dtype=bool)
    expected = np.zeros((40, 50), int)
    expected[10:14, 20:26] = 7 * cross
    assert np.array_equal(drawn("mask", (20, 10), (25, 13), mask=bitmap(cross)), expected)
    expected = np.zeros((40, 50), int)
    expected[38:40, 46:50] = 7 * cross[:2, :4]
    assert np.array_equal(drawn("mask", (46.0, 38.0), (51, 41), mask=bitmap(cross)), expected)


def test_feature_special_labels_and_given_classes(tmp_path, capsys):
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
    # Unlabelled images are background where the classes are given.
    dump(tmp_path / "none/b.json", drawing())
    assert run("labelme", tmp_path / "none", "-o", tmp_path / "out2", "--classes", names) == 0
    assert not pixels(tmp_path / "out2/b.png").any()


def test_feature_spaces_around_labels_and_byte_order_marks(tmp_path, capsys):
    corners = ((0, 0), (9, 9))
    for name, label in (("a", "cat "), ("b", "cat"), ("c", "\t__ignore__")):
        path = dump(tmp_path / f"in/{name}.json", 0)
        text = json.dumps(drawing(shape(label, "rectangle", *corners)))
        path.write_text(text, encoding="utf-8-sig")
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out") == 0
    assert printed_arguments(capsys.readouterr().out)["classes"] == ["background", "cat"]
    for name, value in (("a", 1), ("b", 1), ("c", 255)):
        assert pixels(tmp_path / f"out/{name}.png")[5, 5] == value


def test_feature_old_versions_and_images_inside(tmp_path, capsys):
    """Version 3 has no shape types and no size; the image is decoded only if asked for."""
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
        ("{", "is not a labelme file"),
        ({"images": []}, "missing required field `shapes`"),
        (drawing(shape("car", "polygon", (1, 1), (2, 2))), r"shape 0 \(car\): .* has 2 points"),
        (drawing(shape("car", "rectangle", (1, 1))), "rectangle has 1 points; expected 2"),
        (drawing(shape("car", "rectangle", *[(1, 1)] * 3)), "rectangle has 3 points; expected 2"),
        (drawing(shape("car", "rotation", (1, 1))), "rotation has 1 points; expected 4"),
        (drawing(shape("car", "pollygon", (1, 1))), "is unknown; did you mean 'polygon'"),
        (drawing(shape("car", "circle", (1, 1), (1e9, 1))), "far outside"),
        (drawing(shape("car", "mask", (1, 1), (3, 3), mask="????")), "its mask is not"),
        (drawing(shape("car", "mask", (1, 1), (3, 3), mask=bitmap(np.eye(2, dtype=bool)))),
         "its mask is 2x2 in a box of 3x3"),
        (drawing(imageWidth=10**6, imageHeight=10**6), "claims 1000000x1000000"),
    ],
)  # fmt: skip
def test_exception_broken_file_is_skipped(tmp_path, capsys, broken, message):
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
        ("0 0.5 0.5 0.25 1\n", "a.txt", "YOLO boxes", "not masks"),
        ("1 0.1 0 .3 1.0 0.5 0.6 \n", "a.txt", "YOLO polygons", "coco FILE.json -o {out}"),
        ({"imgHeight": 1, "imgWidth": 1, "objects": []}, "a.json", "Cityscapes", '"CityScapes"'),
        ([{"data": {}, "annotations": []}], "a.json", "Label Studio", "convert.py coco"),
        ({"arch": {}, "trainer": {}}, "a.json", "this program", "labelme's files"),
    ],
)
def test_exception_says_once_whose_folder_it_is(tmp_path, capsys, content, name, kind, command):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(3):
        path = folder / f"{name[0]}{number}{name[1:]}"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert run("labelme", folder, "-o", out) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and not captured.out
    for fact in (f"{folder}: contains no labelme file", "3 of 3 files", kind):
        assert fact in captured.err
    assert command.format(folder=folder, out=out) in captured.err
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "a.png\n", "0 1 2 3 4\n", "0.5 0.5 0.5 0.5 0.5\n"])
def test_exception_text_that_is_nobodys(tmp_path, capsys, text):
    (tmp_path / "classes.txt").write_text(text)
    assert run("labelme", tmp_path, "-o", tmp_path / "out") == 2
    assert f"{tmp_path}: contains no JSON file" in capsys.readouterr().err


def test_feature_files_beside_others(tmp_path, capsys):
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


def test_exception_unknown_label(tmp_path, capsys):
    dump(tmp_path / "in/a.json", drawing(*SHAPES))
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out", "--classes", "cars", "road") == 2
    error = capsys.readouterr().err
    assert "car, tree are unknown; did you mean 'cars'" in error
    assert "labels found (shapes): car (3), road (3), tree (2)" in error
    assert not (tmp_path / "out").exists()
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "in") == 2
    assert "is the folder of the input" in capsys.readouterr().err
    assert run("labelme", tmp_path / "out", "-o", tmp_path / "in") == 2
    assert "is not a folder" in capsys.readouterr().err
