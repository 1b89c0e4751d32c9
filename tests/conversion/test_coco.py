"""convert.py coco: instance annotations, on small files made here and on real ones."""

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from dataloaders.folder import Folder
from tests.conversion.calls import dump, files, pixels, printed_arguments, run, save, some_ids

coco = pytest.importorskip("pycocotools.coco")


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
def convert(tmp_path, instances):
    """Convert the instances, which a test may change before, into `masks`."""

    def run_it(*options):
        return run("coco", dump(tmp_path / "i.json", instances), "-o", tmp_path / "masks", *options)

    return run_it


@pytest.fixture
def instances():
    """Category ids with gaps and out of order; the small object comes before the large one."""
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
    """The mask of the fixture's first image, by hand."""
    ids = np.zeros((8, 10), int)
    ids[5:8] = crowd
    ids[1:7, 1:7] = dog
    ids[2:4, 2:5] = cat
    return ids


def test_feature_smaller_over_larger_over_crowds(tmp_path, convert, capsys):
    output = tmp_path / "masks"
    assert convert() == 0
    assert files(output) == ["a.0.png", "sub/empty.png"]
    assert np.array_equal(pixels(output / "a.0.png"), painted())
    assert np.array_equal(pixels(output / "sub/empty.png"), np.zeros((5, 4)))
    arguments = printed_arguments(capsys.readouterr().out)
    assert arguments["classes"] == ["background", "dog", "cat"]
    assert arguments["ignore_index"] == 255


def test_feature_output_fits_folder(tmp_path, convert, capsys):
    save(tmp_path / "images/a.0.jpg", np.zeros((8, 10, 3), np.uint8))
    save(tmp_path / "images/sub/empty.jpg", np.zeros((5, 4, 3), np.uint8))
    assert convert("--images", tmp_path / "images") == 0
    dataset = Folder(**printed_arguments(capsys.readouterr().out))
    assert [sample.name for sample in dataset.samples] == ["a.0", "sub/empty"]
    assert np.array_equal(dataset.load(0)[1], painted())


@pytest.mark.parametrize(
    ("options", "expected", "names"),
    [
        (["--classes", "cat"], painted(crowd=0, dog=0, cat=1), ["background", "cat"]),
        (["--classes", "background", "cat", "dog"], painted(dog=2, cat=1),
         ["background", "cat", "dog"]),
        (["--classes", "names.txt"], painted(dog=2, cat=1), ["background", "cat", "dog"]),
        ({"2": 3, "cat": -1}, painted(dog=3, cat=255),
         ["background", "class 1", "class 2", "dog"]),
        ({"2": 1, "44": 1}, painted(dog=1, cat=1), ["background", "dog/cat"]),
        ({"2": 0, "44": 1}, painted(crowd=0, dog=0, cat=1), ["background", "cat"]),
    ],
)  # fmt: skip
def test_feature_chosen_classes(tmp_path, convert, capsys, monkeypatch, options, expected, names):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("cat\r\n\ndog\n")
    if isinstance(options, dict):
        options = ["--label-map", dump(tmp_path / "map.json", options)]
    assert convert(*options) == 0
    assert np.array_equal(pixels(tmp_path / "masks/a.0.png"), expected)
    assert printed_arguments(capsys.readouterr().out)["classes"] == names


def test_feature_of_more_than_255_classes(tmp_path, instances, convert, capsys):
    """255 is then a class, so that ignored pixels need another id."""
    instances["categories"] += [{"id": 100 + i, "name": f"c{i}"} for i in range(253)]
    assert convert() == 0
    assert np.array_equal(pixels(tmp_path / "masks/a.0.png"), painted(crowd=65535))
    assert printed_arguments(capsys.readouterr().out)["ignore_index"] == 65535


@pytest.mark.parametrize("size", [(1, 1), (8, 10), (1, 9)])
def test_feature_compressed_run_lengths(tmp_path, instances, convert, size):
    """Written by pycocotools from random masks."""
    mask = some_ids(1, size, classes=2)
    encoded = coco.maskUtils.encode(np.asfortranarray(mask.astype(np.uint8)))
    outline = {"size": list(size), "counts": encoded["counts"].decode()}
    instances["images"][0].update(height=size[0], width=size[1])
    instances["annotations"] = [{"image_id": 7, "category_id": 44, "segmentation": outline}]
    assert convert() == 0
    assert np.array_equal(pixels(tmp_path / "masks/a.0.png"), 2 * mask)


@pytest.mark.parametrize("split", ["train", "val"])
def test_feature_real_masks_equal_pycocotools(tmp_path, real_data, split):
    """Against `annToMask` of pycocotools, one annotation at a time."""
    source = real_data / f"coco_voc21_layout/annotations/instances_{split}2017.json"
    images = real_data / f"coco_voc21_layout/images/{split}2017"
    assert run("coco", source, "--output", tmp_path, "--images", images) == 0
    peer = coco.COCO(source)
    classes = {key: i for i, key in enumerate(sorted(peer.cats), 1)}
    for key, image in peer.imgs.items():
        expected = np.zeros((image["height"], image["width"]), int)
        found = [(peer.annToMask(a), a) for a in peer.imgToAnns[key]]
        found.sort(key=lambda pair: (not pair[1]["iscrowd"], -pair[0].sum(dtype=int)))
        for mask, annotation in found:
            value = 255 if annotation["iscrowd"] else classes[annotation["category_id"]]
            expected[mask == 1] = value
        assert np.array_equal(pixels(tmp_path / f"{image['file_name'][:-4]}.png"), expected)


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 1, 5, 5]], "annotation 1: has a polygon of 4 numbers"),
        ([[1, 1, 5, 5, 2, 2, 3]], "has a polygon of 7 numbers"),
        ([[1, 1, 5, 5, 1e9, 2]], r"point at 1e\+09"),
        ("text", "annotation 1: Expected"),
        ({"size": [8, 9], "counts": [72]}, "run lengths for 9x8 in .* 10x8"),
        ({"size": [8, 10], "counts": [3, 100]}, "do not add up to 80 pixels"),
        ({"size": [8, 10], "counts": [-3, 83]}, "do not add up"),
        ({"size": [8, 10], "counts": "zzzz"}, "do not add up"),
        ({"size": [8, 10], "counts": "zzzzzzzzzz"}, "do not add up"),
    ],
)
def test_exception_broken_outline_is_skipped(
    tmp_path, instances, convert, capsys, outline, message
):
    instances["annotations"][0]["segmentation"] = outline
    assert convert() == 2
    assert files(tmp_path / "masks") == ["sub/empty.png"]
    captured = capsys.readouterr()
    assert re.search(rf"skipped a\.0\.jpg: .*{message}", captured.err)
    assert "1 of 2 masks written" in captured.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "missing required field `categories`"),
        (lambda d: d["images"].clear(), "names no image"),
        (lambda d: d["images"][1].update(id=7), "duplicate image id 7"),
        (lambda d: d["categories"][1].update(id=44), "duplicate category id 44"),
        (lambda d: d["categories"][1].update(name="cat"), "--label-map.*: duplicate 'cat'"),
        (lambda d: d["images"][1].update(file_name="a.0.png"), "would both become .*a.0.png"),
        (lambda d: d["images"][1].update(file_name="a.0.jpg"), "would both become .*a.0.png"),
        (lambda d: d["images"][1].update(file_name="../b.jpg"), "'../b.jpg' leads out"),
        (lambda d: d["images"][1].update(file_name="/b.jpg"), "'/b.jpg' leads out"),
        (lambda d: d["annotations"][1].update(category_id=5), "annotation 2 is of category 5"),
        (lambda d: d["images"][0].update(width=10.5), r"Expected `int`, got `float` - at `\$.im"),
        (lambda d: [a.update(segmentation=[]) for a in d["annotations"]],
         "none of the 3 annotations has an outline"),
    ],
)  # fmt: skip
def test_exception_wrong_file(tmp_path, instances, convert, capsys, change, message):
    change(instances)
    assert convert() == 2
    error = capsys.readouterr().err
    assert re.match(f"error: .*{message}", error)
    assert error.count("\n") == 1
    assert not (tmp_path / "masks").exists()


def test_feature_numbers_as_other_programs_write_them(tmp_path, instances):
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


def test_feature_boxes_alone_are_left_out_and_counted(tmp_path, instances, capsys):
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
    assert np.array_equal(pixels(tmp_path / "out/a.0.png"), painted(crowd=0, dog=0, cat=1))
    captured = capsys.readouterr()
    words = "warning: left out 3 annotations .*: annotation 4, annotation 5, annotation 6\n"
    assert re.fullmatch(words, captured.err)
    assert "2 of 2 masks written" in captured.out


def test_exception_classes_and_map(tmp_path, convert, capsys):
    for options, message in (
        (["--classes", "doge"], "doge is unknown; did you mean 'dog'"),
        (["--classes", "dog", "dog"], "--classes: duplicate 'dog'"),
        (["--classes", "no.txt"], "no.txt: cannot be read"),
        (["--label-map", dump(tmp_path / "a.json", {"9": 1})], "9 is unknown"),
        (["--label-map", dump(tmp_path / "b.json", {"2": -2})], "expected classes from 0 on"),
        (["--label-map", dump(tmp_path / "c.json", [1])], "expected categories"),
    ):
        assert convert(*options) == 2
        assert message in capsys.readouterr().err


def test_exception_images_that_do_not_fit(tmp_path, instances, convert, capsys):
    turned = Image.fromarray(np.zeros((10, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    turned.save(tmp_path / "images/a.0.jpg", exif=exif)
    instances["annotations"].append({"image_id": 99, "category_id": 2})
    assert convert("--images", tmp_path / "images") == 2
    error = capsys.readouterr().err
    assert re.search(r"skipped a\.0\.jpg: is 8x10, .* 10x8; its EXIF", error)
    assert re.search(r"skipped sub/empty\.jpg: \S*sub/empty\.jpg: no such file", error)
    assert "skipped 1 annotations" in error


def test_exception_without_pycocotools(convert, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert convert() == 2
    assert "pip install pycocotools" in capsys.readouterr().err
