"""Lists of images and masks as other programs and people write them."""

import io
import json
import os
import re
import unicodedata

import pytest
from PIL import Image

import convert
from dataloaders.folder import Folder
from utils.files.data_file import DataError
from utils.samples.list_files import read_list_file
from utils.samples.listings import Listings

BUFFER = io.BytesIO()
Image.new("L", (4, 4)).save(BUFFER, "PNG")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(BUFFER.getvalue())


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Images p0 to p4 and masks q0 to q4, so that only a list can pair them."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, *(f"data/images/p{i}.jpg" for i in range(5)))
    touch(tmp_path, *(f"data/masks/q{i}.png" for i in range(5)))
    return tmp_path / "data"


EXPECTED = {(f"images/p{i}.jpg", f"masks/q{i}.png") for i in range(5)}


def write(folder, name, *lines, newline="\n"):
    (folder / name).write_bytes(newline.join([*lines, ""]).encode())
    return name


def pairs(dataset, folder):
    files = ((sample.image, sample.label) for sample in dataset.samples)
    return {tuple(os.path.relpath(path, folder) for path in pair) for pair in files}


def folder_of(images, masks=None, data_dir="data"):
    return Folder(classes=2, data_dir=data_dir, images=images, masks=masks)


@pytest.mark.parametrize("separator", ["\t", " ", ",", "  ", ", ", ";", "\\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_feature_image_and_mask_in_a_line(data, separator, newline):
    separator = separator.replace("\\t", " \t")
    lines = [f"images/p{i}.jpg{separator}masks/q{i}.png" for i in range(5)]
    name = write(data, "list.txt", *lines, newline=newline)
    for masks in (None, name):
        dataset = folder_of(name, masks)
        assert pairs(dataset, data) == EXPECTED
        assert not dataset.problems and not dataset.notes
    # A column can be used with another source.
    touch(data, *(f"other/p{i}.png" for i in range(5)))
    other = {label for _, label in pairs(folder_of(name, "other"), data)}
    assert other == {f"other/p{i}.png" for i in range(5)}


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("image,mask", "im"), ("filename,label", "im"), ("mask_path,image_path", "mi"),
        ("id,ImageFile,LabelFile,split", "nims"), ("split,annotation,img", "smi"),
        ("image;mask", "im"), ("Unnamed;sat_image_path;gt", "nim"), ("image,xyz", "im"),
    ],
)  # fmt: skip
def test_feature_tables_with_a_header(data, header, order):
    separator = ";" if ";" in header else ","
    cells = {"i": "images/p{}.jpg", "m": '"masks/q{}.png"', "n": "{}", "s": "train"}
    row = separator.join(cells[letter] for letter in order)
    rows = [row.format(*[i] * len(order)) for i in range(5)]
    name = write(data, "list.csv", header, *rows)
    assert pairs(folder_of(name), data) == EXPECTED


def test_feature_tables_without_a_header(data):
    rows = [f"{i},images/p{i}.jpg,masks/q{i}.png,train" for i in range(5)]
    assert pairs(folder_of(write(data, "list.csv", *rows)), data) == EXPECTED
    # One column of files is a list of images.
    name = write(data, "images.csv", "file,width", *(f"images/p{i}.jpg,4" for i in range(5)))
    masks = write(data, "masks.csv", "mask", *(f"masks/q{i}.png" for i in range(5)))
    assert pairs(folder_of(name, masks), data) == EXPECTED


@pytest.mark.parametrize("header", [None, "before,after,mask3d", "a,b,c"])
def test_exception_tables_that_leave_doubt(data, header):
    touch(data, *(f"depth/r{i}.png" for i in range(5)))
    rows = [f"images/p{i}.jpg,masks/q{i}.png,depth/r{i}.png" for i in range(5)]
    name = write(data, "list.csv", *([] if header is None else [header]), *rows)
    with pytest.raises(DataError, match=r"list\.csv: .*image,mask,-"):
        folder_of(name)
    if header == "a,b,c":
        write(data, "list.csv", "a,b", *(row.rpartition(",")[0] for row in rows))
        with pytest.raises(DataError, match=r"list\.csv: .*image,mask"):
            folder_of(name)
    write(data, "list.csv", "image,mask,-", *rows)
    assert pairs(folder_of(name), data) == EXPECTED


def test_exception_tables_with_holes(data):
    name = write(data, "list.csv", "image,mask", "images/p0.jpg,masks/q0.png", "images/p1.jpg,")
    with pytest.raises(DataError, match=r"list\.csv: the line 'images/p1\.jpg"):
        folder_of(name)
    write(data, "list.csv", "images/p0.jpg,masks/q0.png", "images/p0.jpg,masks/q1.png")
    with pytest.raises(DataError, match=r"two masks of data/images/p0\.jpg: .*q0\.png and .*q1"):
        folder_of(name)


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_exception_one_line_of_pairs_without_a_mask(tmp_path, separator, place):
    touch(tmp_path, *(f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(4)))
    lines = [f"images/{n}.png{separator}masks/{n}.png" for n in range(4)]
    lines[place] = f"images/{place}.png"
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"'images/{place}.png'.*give the former its mask"):
        read_list_file(tmp_path / "pairs.txt")


def test_feature_backslashes(data):
    images = write(data, "i.txt", *(f"images\\p{i}.jpg" for i in range(5)))
    masks = write(data, "m.txt", *(f".\\masks\\q{i}.png" for i in range(5)), newline="\r\n")
    assert pairs(folder_of(images, masks), data) == EXPECTED
    both = write(data, "both.txt", *(f"images\\p{i}.jpg\tmasks\\q{i}.png" for i in range(5)))
    assert pairs(folder_of(both), data) == EXPECTED
    # A file that is called so is what the line means.
    touch(data, "images\\p0.jpg")
    assert ("images\\p0.jpg", "masks/q0.png") in pairs(folder_of(images, masks), data)


@pytest.mark.parametrize("line", ["..\\secret.png", "images\\..\\..\\secret.png"])
def test_exception_backslashes_lead_nowhere_else(data, line):
    touch(data.parent, "secret.png")
    images = write(data, "i.txt", line, "images/p1.jpg")
    dataset = folder_of(images, write(data, "m.txt", "masks/q0.png", "masks/q1.png"))
    assert not any("secret" in sample.image for sample in dataset.samples)
    with pytest.raises(DataError, match="do not exist"):
        folder_of(write(data, "both.txt", f"{line}\tmasks/q0.png"))


def test_feature_paths_with_spaces(data):
    touch(data, *(f"my images/a b {i}.jpg" for i in range(3)))
    touch(data, *(f"my masks/c d {i}.png" for i in range(3)))
    expected = {(f"my images/a b {i}.jpg", f"my masks/c d {i}.png") for i in range(3)}
    images = write(data, "i.txt", *(f"my images/a b {i}.jpg" for i in range(3)))
    masks = write(data, "m.txt", *(f"my masks/c d {i}.png" for i in range(3)))
    assert pairs(folder_of(images, masks), data) == expected
    for separator in (" ", ",", "\t"):
        lines = [f"my images/a b {i}.jpg{separator}my masks/c d {i}.png" for i in range(3)]
        assert pairs(folder_of(write(data, "both.txt", *lines)), data) == expected
    touch(data, "x y.jpg", "x", "y.jpg")  # one path that exists stays one
    write(data, "i.txt", "x y.jpg")
    found = pairs(folder_of(images, write(data, "m.txt", "masks/q0.png")), data)
    assert found == {("x y.jpg", "masks/q0.png")}


def test_feature_unicode_forms_in_lists(data):
    forms = [unicodedata.normalize(form, "bücher/ä") for form in ("NFC", "NFD")]
    touch(data, f"{forms[1]}1.jpg", f"{forms[1]}1_.png")
    images = write(data, "i.txt", f"{forms[0]}1.jpg")
    dataset = folder_of(images, write(data, "m.txt", f"{forms[0]}1_.png"))
    assert pairs(dataset, data) == {(f"{forms[1]}1.jpg", f"{forms[1]}1_.png")}
    assert data / f"{forms[0]}1.jpg" not in Listings()


def test_feature_paths_relative_to_data_dir(data):
    (data / "lists").mkdir()
    lines = [f"images/p{i}.jpg masks/q{i}.png" for i in range(5)]
    assert pairs(folder_of(write(data, "lists/both.txt", *lines)), data) == EXPECTED
    images = write(data, "lists/i.txt", *(line.split()[0] for line in lines))
    masks = write(data, "lists/m.txt", *(line.split()[1] for line in lines))
    assert pairs(folder_of(images, masks), data) == EXPECTED


# --- line by line


def test_feature_lists_without_a_common_stem_pair_line_by_line(data):
    images = write(data, "i.txt", *(f"images/p{i}.jpg" for i in (3, 1, 2)))
    masks = write(data, "m.txt", *(f"masks/q{i}.png" for i in (0, 4, 1)))
    dataset = folder_of(images, masks)
    assert pairs(dataset, data) == {
        ("images/p3.jpg", "masks/q0.png"), ("images/p1.jpg", "masks/q4.png"),
        ("images/p2.jpg", "masks/q1.png"),
    }  # fmt: skip
    (note,) = dataset.guesses
    assert "line by line" in note and "p3.jpg with q0.png" in note and note in dataset.notes


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["p0.jpg", "p1.jpg"], ["q0.png", "q1.png", "q2.png"]),  # not as many
        (["p0.jpg", "p1.jpg", "p1.jpg"], ["q0.png", "q1.png", "q2.png"]),
        (["p0.jpg", "p1.jpg"], ["p1.png", "q0.png"]),  # a stem of both
        (["a_0.jpg", "a_1.jpg"], ["b_1.png", "b_0.png"]),  # the names say otherwise
    ],
)
def test_exception_lists_that_are_not_read_line_by_line(data, images, masks):
    touch(data, *(f"images/{n}" for n in images), *(f"masks/{n}" for n in masks))
    listed = write(data, "i.txt", *(f"images/{name}" for name in images))
    other = write(data, "m.txt", *(f"masks/{name}" for name in masks))
    try:
        dataset = folder_of(listed, other)
    except DataError as error:
        assert "have no mask" in str(error)
    else:
        assert dataset.problems and not dataset.guesses


def test_feature_lists_whose_names_say_the_same_as_their_lines(data):
    touch(data, *(f"images/a_{i}.jpg" for i in range(3)), *(f"masks/b_{i}.png" for i in range(3)))
    listed = write(data, "i.txt", *(f"images/a_{i}.jpg" for i in range(3)))
    other = write(data, "m.txt", *(f"masks/b_{i}.png" for i in range(3)))
    expected = {(f"images/a_{i}.jpg", f"masks/b_{i}.png") for i in range(3)}
    assert pairs(folder_of(listed, other), data) == expected


# --- what is missing


def test_exception_each_missing_file_is_blamed_on_its_list(data):
    images = write(data, "i.txt", *(f"images/p{i}.jpg" for i in range(5)), "images/x.jpg")
    lines = [*(f"masks/q{i}.png" for i in range(4)), "masks/y.png", "masks/z.png"]
    dataset = folder_of(images, write(data, "m.txt", *lines))
    assert dataset.lost == 2 and len(dataset) == 4
    first, second = dataset.problems
    assert "i.txt: 1 of the files" in first and "x.jpg" in first and "y.png" not in first
    assert "m.txt: 2 of the files" in second and "y.png" in second and "z.png" in second
    assert "relative to data" in second
    both = write(
        data, "both.txt", "images/p0.jpg\tmasks/q0.png", "images/p1.jpg\tmasks/no.png",
        "images/p2.jpg\tmasks/no.png",
    )  # fmt: skip
    (problem,) = folder_of(both).problems
    assert "both.txt: 1 of the files" in problem


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("images/none.jpg,masks/none.png", "separated by a comma"),
        ("data/images/p0.jpg", "without the leading data/"),
        ("C:\\Users\\me\\images\\p0.jpg", "without the leading C:/Users/me/"),
        ("images/P0.JPG", r"data/images/p0\.jpg exists"),
        ("images/p0", r"data/images/p0\.jpg exists"),
        ("images/p0.jpg|masks/q0.png", "separated by a tab"),
        ("p0", r"sed 's#\.\*#images/&\.jpg#' i\.txt > images\.txt"),
    ],
)
def test_exception_the_way_out_for_a_list(data, line, words):
    images = write(data, "i.txt", line)
    with pytest.raises(DataError, match=rf"i\.txt: 1 of the files .*{words}"):
        folder_of(images, write(data, "m.txt", "masks/q0.png"))


def test_exception_masks_left_out(data):
    with pytest.raises(ValueError, match="masks: required"):
        folder_of("images")
    with pytest.raises(DataError, match="give each line its mask"):
        folder_of(write(data, "i.txt", "images/p0.jpg"))


# --- convert.py split


@pytest.mark.parametrize("masks", [None, "m.txt"])
def test_feature_split_of_lists(data, capsys, masks):
    """What is divided is what comes back, also where no name says which mask belongs to what."""
    both = masks is None
    lines = [f"images/p{i}.jpg" + f"\tmasks/q{i}.png" * both for i in range(5)]
    write(data, "i.txt", *lines)
    write(data, "m.txt", *(f"masks/q{i}.png" for i in range(5)))
    options = [] if masks is None else ["--masks", f"data/{masks}"]
    assert convert.main(["split", "data/i.txt", *options, "-o", "lists", "--val", "0.4"]) == 0
    lines = re.findall(r"^    (?:train|val): (.*)$", capsys.readouterr().out, re.M)
    found = [Folder(classes=2, **json.loads(f"{{{line}}}")) for line in lines]
    assert [len(dataset) for dataset in found] == [3, 2]
    assert set.union(*(pairs(dataset, data) for dataset in found)) == EXPECTED


def test_feature_long_lists_are_read_in_a_moment(data, monkeypatch):
    """Folders are listed once; a line is not looked at on the disk by itself."""
    lines = [f"images/p{i % 5}_{i}.jpg\tmasks/q{i}_.png" for i in range(3000)]
    touch(data, "images/p0_0.jpg", "masks/q0_.png")
    calls = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: calls.append(path) or listdir(path))
    dataset = folder_of(write(data, "both.txt", *lines))
    assert dataset.lost == 2999
    assert sum(path in ("data/images", "data/masks") for path in map(str, calls)) < 10
