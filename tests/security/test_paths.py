"""Names that stand in files stay below the folder that they belong to."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import convert
from dataloaders import COCO
from dataloaders.camvid import CamVid
from dataloaders.cocovoc21 import COCOVOC21
from dataloaders.folder import Folder
from dataloaders.voc import VOC
from tests.dataset_trees import voc_tree
from utils.files.data_file import DataError
from utils.files.paths import STORES, Root
from utils.files.raster_io import band_siblings
from utils.samples.pairing import read_list

IMAGE = np.zeros((8, 8, 3), np.uint8)
MASK = np.zeros((8, 8), np.uint8)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """`data`, and beside it `store`, which nothing in `data` may lead to."""
    monkeypatch.delenv(STORES, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("data", "store"):
        for kind, pixels in (("images", IMAGE), ("masks", MASK)):
            (tmp_path / name / kind).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / name / kind / "1.png")
    (tmp_path / "data/inner").mkdir()
    (tmp_path / "data/link.png").symlink_to(tmp_path / "store/images/1.png")
    (tmp_path / "data/linked").symlink_to(tmp_path / "store/images")
    (tmp_path / "data/chain").symlink_to("linked")
    (tmp_path / "data/own").symlink_to("images")
    (tmp_path / "data/circle").symlink_to("circle")
    (tmp_path / "linked_data").symlink_to("data")
    return tmp_path


OUTSIDE = [
    "../store/images/1.png", "../../etc/passwd", "/etc/passwd", "images/../../store/images/1.png",
    "..", "../data2/1.png", "link.png", "linked/1.png", "chain/1.png", "own/../../store/1.png",
    "linked/../images/1.png/../../../store", "./link.png", "images/../linked/1.png", "a\0b", "\0",
]  # fmt: skip
INSIDE = ["images/1.png", "./images//1.png", "images/../images/1.png", "own/1.png", "none.png",
          "..a/1.png", "a..b", "inner/../images/1.png", "linked/../images/1.png",
          ".../1.png"]  # fmt: skip


@pytest.mark.parametrize("root", ["data", "linked_data", "absolute", "./data/", "data/inner/.."])
def test_feature_inside(places, root):
    """What a root remembers of a folder does not change what the next name gets."""
    folder = places / "data" if root == "absolute" else root
    known = Root(folder, "list")
    for _ in range(2):
        for name in INSIDE:
            for path in (known.inside(name), Root(folder, "list").inside(name)):
                assert os.path.normpath(path) == os.path.normpath(os.path.join(folder, name))
                assert ".." not in path.parts
        for name in OUTSIDE:
            for found in (known, Root(folder, "list")):
                with pytest.raises(DataError, match="list: ") as caught:
                    found.inside(name)
                assert "\n" not in str(caught.value) and "\0" not in str(caught.value)
    # An absolute name is as good as a relative one that leads to the same place.
    assert Root(folder, "list").inside(places / "data/images/1.png").is_file()
    if root != "absolute":
        assert Root(folder, "list").inside(places / "linked_data/images/1.png").is_file()


def test_feature_stores_that_the_user_names(places, monkeypatch):
    with pytest.raises(DataError, match=rf"set {STORES}={places}/store/images in the env"):
        Root("data", "list").inside("linked/1.png")
    monkeypatch.setenv(STORES, os.pathsep.join([str(places / "other"), str(places / "store")]))
    for name in ("linked/1.png", "link.png", "chain/1.png"):
        assert Root("data", "list").inside(name).is_file()
    with pytest.raises(DataError, match="lies outside"):
        Root("data", "list").inside("../../etc/passwd")


def test_feature_a_root_whose_name_begins_alike_is_another(places):
    (places / "data2").mkdir()
    (places / "data/next").symlink_to(places / "data2")
    with pytest.raises(DataError, match="is a link, or lies behind one"):
        Root("data", "list").inside("next/1.png")


# --- every reader of names


LINES = [
    ("../store/{kind}/1.png", "lies outside"), ("/etc/passwd", "lies outside"),
    ("{store}/{kind}/1.png", "lies outside"), ("link/1.png", "is a link, or lies behind one"),
]  # fmt: skip


def write_lists(places, line, folder="data"):
    for kind in ("images", "masks"):
        link = places / folder / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(places / "store" / kind)
        text = line.format(kind=kind, store=places / "store")
        (places / folder / f"{kind}.txt").write_text(text + "\n")


@pytest.mark.parametrize(("line", "words"), LINES)
def test_exception_lists_of_folder(places, line, words):
    write_lists(places, line)
    for args in (
        {"images": "data/images.txt", "masks": "data/masks.txt"},
        {"data_dir": "data", "images": "images.txt", "masks": "masks.txt"},
        {"data_dir": "data", "images": "images.txt", "masks": "masks"},
        {"data_dir": "data", "images": "images", "masks": "masks.txt"},
        {"data_dir": "data", "images": "images.txt", "masks": "masks", "band_suffixes": ["1"]},
    ):
        with pytest.raises(DataError, match=rf"(images|masks)\.txt: .*{words}"):
            Folder(classes=2, **args)


def test_feature_data_dir_is_the_way_out_for_lists(places):
    (places / "lists").mkdir()
    for kind in ("images", "masks"):
        (places / f"lists/{kind}.txt").write_text(f"../store/{kind}/1.png\n")
    args = {"images": "lists/images.txt", "masks": "lists/masks.txt"}
    with pytest.raises(DataError, match='name a folder that contains all files as "data_dir"'):
        Folder(classes=2, **args)
    assert len(Folder(classes=2, data_dir=".", **args)) == 1


@pytest.mark.parametrize("argument", ["images", "masks", "split"])
@pytest.mark.parametrize("name", ["../store", "/etc", "images/../../store", ".."])
def test_exception_names_of_a_config_below_data_dir(places, argument, name):
    args = {"split": "x"} if argument == "split" else {"images": "images", "masks": "masks"}
    with pytest.raises(ValueError, match=f"{argument}: .* leads out of data_dir"):
        Folder(classes=2, data_dir="data", **{**args, argument: name})


def test_feature_links_that_are_folders_of_the_user(places):
    """What is found by walking a folder is the user's own, wherever its links lead."""
    for kind in ("images", "masks"):
        shutil.rmtree(places / "data" / kind)
        (places / "data" / kind).symlink_to(places / "store" / kind)
    assert len(Folder(classes=2, data_dir="data")) == 1
    assert len(Folder(classes=2, data_dir="linked_data")) == 1
    for kind in ("images", "masks"):
        (places / "data" / kind).unlink()
        (places / "data" / kind).mkdir()
        (places / "data" / kind / "a.png").symlink_to(places / "store" / kind / "1.png")
    assert len(Folder(classes=2, data_dir="data")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "../../store/images/1", "/../store/images/1.png /SegmentationClass/1.png",
        "/JPEGImages/1.jpg /../store/masks/1.png", "/JPEGImages/1.jpg /linked/1.png",
        "linked/1.png", "/linked/1.png /SegmentationClass/1.png",
    ],
)  # fmt: skip
def test_exception_lists_of_voc(places, line):
    root = voc_tree(places / "VOC2012", "1")
    (root / "linked").symlink_to(places / "store/masks")
    for split in ("train", "test"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(line + "\n")
        with pytest.raises(DataError, match=rf"{split}\.txt: .*(lies outside|is a link)"):
            VOC(str(places), split)


def test_exception_lists_of_sbd(places):
    root = places / "benchmark_RELEASE/dataset"
    for name in ("img", "cls"):
        (root / name).mkdir(parents=True)
    (root / "img/1.jpg").symlink_to(places / "store/images/1.png")
    (root / "train.txt").write_text("1\n")
    with pytest.raises(DataError, match=r"train\.txt: img/1\.jpg is a link"):
        VOC(str(places), "sbd_train")
    (root / "train.txt").write_text("../1\n")
    with pytest.raises(DataError, match="expected one id a line"):
        VOC(str(places), "sbd_train")


@pytest.mark.parametrize("name", ["../../store/images/1", "linked", "mask"])
def test_exception_lists_of_coco_stuff(places, name):
    root = places / "coco"
    for folder in ("images", "annotations", "imageLists"):
        (root / folder).mkdir(parents=True)
    (root / "images/linked.jpg").symlink_to(places / "store/images/1.png")
    (root / "annotations/mask.mat").symlink_to(places / "store/masks/1.png")
    (root / "imageLists/train.txt").write_text(f"{name}\n")
    with pytest.raises(DataError, match=r"train\.txt: .*(lies outside|is a link)"):
        COCO(str(root), "train", partition="CocoStuff10k", num_classes=182)


def instances(file_name):
    return json.dumps({
        "images": [{"id": 1, "file_name": file_name, "width": 8, "height": 8}],
        "annotations": [{"image_id": 1, "category_id": 1, "id": 1,
                         "segmentation": [[0, 0, 8, 0, 8, 8, 0, 8]]}],
        "categories": [{"id": 1, "name": "person"}],
    })  # fmt: skip


@pytest.mark.parametrize(
    "name", ["../../../store/images/1.png", "/etc/passwd", "linked.jpg", "sub/1.png", "a\0b.jpg"]
)
def test_exception_names_in_coco_annotations(places, name):
    root = places / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "images/train2017").mkdir(parents=True)
    (root / "images/train2017/linked.jpg").symlink_to(places / "store/images/1.png")
    (root / "images/train2017/sub").symlink_to(places / "store/images")
    (root / "annotations/instances_train2017.json").write_text(instances(name))
    with pytest.raises(DataError, match=r"instances_train2017\.json: "):
        COCOVOC21(str(root), "train2017", min_pixels=0)


def test_feature_lists_of_camvid_are_stems(places):
    """Its lists have paths of the author's machine, of which only the stem counts."""
    root = places / "camvid"
    for folder in ("train", "trainannot"):
        (root / folder).mkdir(parents=True)
        Image.fromarray(MASK if "annot" in folder else IMAGE).save(root / folder / "1.png")
    (root / "train.txt").write_text("../../store/images/1.png /etc/passwd\n")
    (sample,) = CamVid(str(root), "train").samples
    assert sample.image == str(root / "train/1.png")


def run(*words):
    return convert.main([str(word) for word in words])


@pytest.mark.parametrize(
    "name", ["../x.jpg", "/tmp/x.jpg", "a/../../x.jpg", "sub/x.jpg", "..\\x.jpg", "a\0b.jpg", ".."]
)
def test_exception_masks_that_would_be_written_elsewhere(places, capsys, name):
    (places / "i.json").write_text(instances(name))
    (places / "out").mkdir()
    (places / "elsewhere").mkdir()
    (places / "out/sub").symlink_to(places / "elsewhere")
    before = sorted(places.rglob("*"))
    for more in ([], ["--overwrite"]):
        assert run("coco", "i.json", "-o", "out", *more) == 2
        assert "leads out" in capsys.readouterr().err
    assert sorted(places.rglob("*")) == before


def test_exception_pictures_that_are_compared_lie_in_their_folder(places, capsys):
    (places / "i.json").write_text(instances("linked/1.png"))
    assert run("coco", "i.json", "-o", "out", "--images", "data") == 2
    assert "leads out of the folder data" in capsys.readouterr().err


def test_exception_lists_that_convert_reads(places, capsys):
    write_lists(places, "../store/{kind}/1.png")
    assert run("split", "data/images.txt", "--masks", "data/masks", "-o", "lists") == 2
    assert "lies outside the dataset's folder" in capsys.readouterr().err


def test_exception_band_names_from_a_checkpoint(places):
    """A checkpoint says what the names of further bands end with."""
    for suffix in ("/../../../store/images/1", "/etc/passwd", "\0"):
        with pytest.raises(ValueError):
            band_siblings(places / "data/images/1.png", ("", suffix))


def test_feature_long_lists_are_quick(places, monkeypatch):
    """A folder is looked up once, not each of its files: that takes minutes on a network drive."""
    folder = places / "data/many"
    folder.mkdir()
    (folder / "19999.png").symlink_to(places / "store/images/1.png")
    names = [f"many/{i}.png" for i in range(20_000)]
    (places / "data/list.txt").write_text("\n".join(names[:-1]))
    looked_up = []
    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: looked_up.append(path) or realpath(path))
    assert len(read_list(places / "data/list.txt")[0]) == 19_999
    assert len(looked_up) < 5
    (places / "data/list.txt").write_text("\n".join(names))
    with pytest.raises(DataError, match="is a link"):
        read_list(places / "data/list.txt")
