"""Files that a pattern names, as `Folder` and `convert.py split` take them."""

import json
import re
from pathlib import PurePath

import pytest

import convert
from dataloaders.folder import Folder
from tests.utils.samples.test_list_files import pairs, touch
from utils.files.data_file import DataError
from utils.files.paths import STORES
from utils.samples.file_patterns import files_of_pattern, fixed_text, is_pattern


def keys(pattern, root):
    return [key for key, _ in files_of_pattern(root / pattern, (".png", ".jpg"))]


def folder_of(images, masks, data_dir=None, **more):
    return Folder(classes=2, data_dir=data_dir, images=images, masks=masks, **more)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.delenv(STORES, raising=False)
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        touch(tmp_path, f"data/photos/{i}.jpg", f"data/photos/{i}_mask.png")
        touch(tmp_path, f"data/cases/c{i}/image.png", f"data/cases/c{i}/mask.png")
        touch(tmp_path, f"data/deep/a/{i}/img_{i}.png", f"data/truth/a/{i}/{i}.lbl.png")
        touch(tmp_path, f"data/same/{i}.jpg", f"data/same/{i}.png")
    touch(tmp_path, "data/photos/.hidden.jpg", "data/photos/notes.txt", "store/s.jpg")
    return tmp_path / "data"


PHOTOS = {(f"photos/{i}.jpg", f"photos/{i}_mask.png") for i in range(3)}


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        ("photos/*.jpg", "photos/*_mask.png", PHOTOS),
        ("photos/*", "photos/*_mask.*", PHOTOS),
        ("photos", "photos/*_mask.png", PHOTOS),
        ("photos/[0-9].jpg", "photos/?_mask.png", PHOTOS),
        ("cases/*/image.png", "cases/*/mask.png",
         {(f"cases/c{i}/image.png", f"cases/c{i}/mask.png") for i in range(3)}),
        ("cases/**/image.png", "cases/**/mask.png",
         {(f"cases/c{i}/image.png", f"cases/c{i}/mask.png") for i in range(3)}),
        ("deep/**/img_*.png", "truth/**/*.lbl.png",
         {(f"deep/a/{i}/img_{i}.png", f"truth/a/{i}/{i}.lbl.png") for i in range(3)}),
        ("same/*.jpg", "same/*.png", {(f"same/{i}.jpg", f"same/{i}.png") for i in range(3)}),
        ("same/*.jp*g", "same/*.p?g", {(f"same/{i}.jpg", f"same/{i}.png") for i in range(3)}),
    ],
)  # fmt: skip
def test_feature_patterns_pair_what_their_wildcards_stand_for(data, images, masks, expected):
    for data_dir, lead in (("data", ""), (None, "data/"), (None, f"{data}/")):
        dataset = folder_of(lead + images, lead + masks, data_dir)
        found = pairs(dataset, data)
        assert found == expected
        assert not dataset.problems and not dataset.notes


def test_feature_patterns_go_with_arguments_and_names(data):
    dataset = folder_of("photos/*.jpg", "photos/*.png", "data", mask_suffix="_mask")
    assert pairs(dataset, data) == PHOTOS
    assert [sample.name for sample in dataset.samples] == ["0", "1", "2"]
    assert dataset.mask_suffix == "_mask"
    assert folder_of("photos/*.jpg", "photos/*_mask.png", "data").mask_suffix == "_mask"
    assert folder_of("cases/*/image.png", "cases/*/mask.png", "data").mask_suffix == ""
    touch(data, *(f"photos/{i}_gt.png" for i in range(3)))
    with pytest.raises(DataError, match=r'3 of 3 .*photos/0\.jpg.*"masks": "photos/\*_mask\.png"'):
        folder_of("photos/*.jpg", "photos/*.jpg", "data")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/img_*_mask.png", ("img_", "_mask")), ("img_*_mask.*", ("img_", "_mask")),
        ("*.t[ie]f*", ("", "")), ("a?b*c", ("a", "c")), ("*/image.png", ("", "")),
    ],
)  # fmt: skip
def test_feature_fixed_text(pattern, expected):
    assert fixed_text(PurePath(pattern)) == expected


def test_feature_what_matches(data):
    assert keys("photos/*.jpg", data) == ["0", "1", "2"]  # nothing hidden
    assert keys("photos/.*.jpg", data) == ["hidden"]
    assert keys("same/**", data) == ["0", "0", "1", "1", "2", "2"]
    assert keys("**/c1/**/*.png", data) == ["cases/image", "cases/mask"]
    assert keys("**/**/c1/*.png", data) == ["cases/image", "cases/mask"]
    touch(data, "a[1]/x1.png", "a[1]/x2.png", "[3]")
    assert keys("a[1]/x*.png", data) == ["1", "2"]  # a folder that is called so
    assert not is_pattern(data / "[3]") and is_pattern(data / "[4]")
    (data / "photos/up").symlink_to("../photos")
    assert keys("photos/**/*.jpg", data)[:3] == ["0", "1", "2"]  # and no end that never comes


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("photos/*.gif", r"photos/\*\.gif: matches no file"),
        ("photo/*.jpg", "there is no folder data/photo"),
        ("photos/*.txt", "matches 1 files, none of them .jpg"),
        ("photos/*.{jpg,png}", "'{a,b}'"),
        ("photos/*/../*.jpg", "'..' is not allowed"),
    ],
)
def test_exception_patterns(data, pattern, words):
    with pytest.raises(DataError, match=words):
        folder_of(f"data/{pattern}", "data/photos/*_mask.png")


@pytest.mark.parametrize(
    "pattern",
    ["../*/*.jpg", "/etc/*", "*/../../store/*.jpg", "photos/../../store/*.jpg", "../store/*"],
)
@pytest.mark.parametrize("argument", ["images", "masks"])
def test_exception_patterns_stay_below_data_dir(data, pattern, argument):
    other = {"images": "photos/*.jpg", "masks": "photos/*_mask.png"}
    with pytest.raises(ValueError, match=r"leads out of data_dir|is not allowed"):
        folder_of(**{**other, argument: pattern}, data_dir="data")


@pytest.mark.parametrize("pattern", ["linked/*.jpg", "*/s.jpg", "**/s.jpg", "photos/*.jpg", "l*/*"])
def test_exception_links_lead_out_of_data_dir(data, pattern, monkeypatch):
    (data / "linked").symlink_to("../store")
    (data / "photos/9.jpg").symlink_to("../../store/s.jpg")
    with pytest.raises(DataError, match=rf"is a link, or lies behind one.*set {STORES}="):
        folder_of(pattern, "photos/*_mask.png", "data")
    monkeypatch.setenv(STORES, str(data.parent / "store"))
    dataset = folder_of("photos/*.jpg", "photos/*_mask.png", "data")
    assert "9" not in {sample.name for sample in dataset.samples}
    # Without data_dir, what a pattern finds is the user's own, as in folders.
    monkeypatch.delenv(STORES)
    folder_of("data/photos/*.jpg", "data/photos/*_mask.png")


def test_feature_split_of_patterns(data, capsys):
    for images, masks, expected in (
        ("photos/*.jpg", "photos/*_mask.png", '"mask_suffix": "_mask"'),
        ("cases/*/image.png", "cases/*/mask.png", None),
    ):
        options = ["--images", images, "--masks", masks, "--val", "0.34", "--overwrite"]
        assert convert.main(["split", "data", "-o", f"{images[:5]}lists", *options]) == 0
        lines = re.findall(r"^    (?:train|val): (.*)$", capsys.readouterr().out, re.M)
        assert ("masks" in json.loads(f"{{{lines[0]}}}")) == (expected is not None)
        assert expected is None or expected in lines[0]
        found = [Folder(classes=2, **json.loads(f"{{{line}}}")) for line in lines]
        assert not any(dataset.notes for dataset in found)
        whole = pairs(folder_of(images, masks, "data"), data)
        assert set.union(*(pairs(dataset, data) for dataset in found)) == whole


def test_feature_split_takes_the_arguments_of_folder(data, capsys):
    touch(data, *(f"sat/{i}_sat.jpg" for i in range(4)), *(f"sat/m_{i}.png" for i in range(4)))
    options = ["--images", "sat", "--masks", "sat", "--image-suffix", "_sat", "--mask-prefix", "m_"]
    assert convert.main(["split", "data", "-o", "lists", "--val", "0.25", *options]) == 0
    (line,) = re.findall(r"^    train: (.*)$", capsys.readouterr().out, re.M)
    args = json.loads(f"{{{line}}}")
    dataset = Folder(classes=2, **args)
    assert len(dataset) == 3 and not dataset.notes
    assert (args["image_suffix"], args["mask_prefix"]) == ("_sat", "m_")
