"""utils/config/folder_section.py: a loader of somebody's own gets a `Folder` section to paste."""

import json
import re

import pytest
from PIL import Image

from builders.sections import SECTIONS
from dataloaders.folder import Folder
from tests.utils.config.test_check_config import check, minimal, problems_of
from utils.config.folder_section import folder_args


def with_loader(name, **args):
    tree = minimal()
    tree["train_loader"] = {"type": name, "args": args}
    return tree


def pasted(problem):
    """The section that a message holds, as a user pastes it."""
    return json.loads(re.search(r"or use Folder: (\{.*\}\})", problem)[1])


# What a fork's section holds beside what pytorch-segmentation's loaders took.
FORK = {
    "data_dir": "no/such/data", "split": "train", "batch_size": "16", "crop_size": 380,
    "base_size": 400, "scale": "True", "augment": True, "flip": True, "rotate": True,
    "blur": False, "num_workers": 4, "shuffle": True, "my_switch": 3, "return_id": False,
    "in_memory": "yes", "val_split": None, "class_names": ["road", "car"], "mode": "fine",
}  # fmt: skip


def test_exception_a_loader_of_ones_own():
    (problem,) = problems_of(with_loader("MyData", **FORK))
    assert problem.startswith("train_loader.type: no data loader named 'MyData'; ")
    for fact in ("dataloaders/__init__.py", "docs/data.md", "A dataset of your own"):
        assert fact in problem
    assert "\n" not in problem
    section = pasted(problem)
    assert section == {
        "type": "Folder",
        "args": {
            "data_dir": "no/such/data", "split": "train", "classes": ["road", "car"],
            "batch_size": 16, "crop_size": 380, "base_size": 400, "scale": True, "augment": True,
            "flip": True, "rotate": True, "blur": False, "num_workers": 4, "shuffle": True,
            "val_split": None,
        },
    }  # fmt: skip
    assert check({**minimal(), "train_loader": section}).warnings == ()


@pytest.mark.parametrize(
    ("folders", "split", "expected"),
    [
        (["images/train", "masks/train"], "train", ("images/train", "masks/train")),
        (["train/images", "train/masks"], "train", ("train/images", "train/masks")),
        (["JPEGImages", "SegmentationClass"], "train", ("JPEGImages", "SegmentationClass")),
        (["img", "label"], None, ("img", "label")),
        (["imgs", "masks"], None, ("imgs", "masks")),
        (["leftImg8bit/val", "gtFine/val"], "val", ("leftImg8bit/val", "gtFine/val")),
        (["img_dir/val", "ann_dir/val"], "val", ("img_dir/val", "ann_dir/val")),
    ],
)
def test_feature_folders_that_are_there(tmp_path, folders, split, expected):
    for folder in folders:
        (tmp_path / "d" / folder).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "d" / folder / "1.png")
    args = {"data_dir": str(tmp_path / "d"), "batch_size": 2}
    tree = with_loader("MyData", **args, **({} if split is None else {"split": split}))
    section = pasted(problems_of(tree)[0])
    assert (section["args"]["images"], section["args"]["masks"]) == expected
    assert "split" not in section["args"]  # Folder refuses it beside the two
    assert check({**minimal(), "train_loader": section})
    assert len(Folder(**{k: v for k, v in section["args"].items() if k != "batch_size"})) == 1


def test_feature_nothing_outside_data_dir_is_looked_at(tmp_path, monkeypatch):
    (tmp_path / "outside/images").mkdir(parents=True)
    (tmp_path / "outside/masks").mkdir()
    (tmp_path / "data").mkdir()
    for split in ("../outside", str(tmp_path / "outside"), "{}/../../outside"):
        args = {"data_dir": str(tmp_path / "data"), "split": split, "batch_size": 1}
        section = pasted(problems_of(with_loader("MyData", **args))[0])
        assert section["args"] == {
            "data_dir": str(tmp_path / "data"), "classes": ["background", "object"],
            "batch_size": 1,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, {"images": "my_data/images", "masks": "my_data/masks", "batch_size": 8}),
        ({"num_classes": 7}, {"classes": 7}),
        ({"nclass": "7", "root": "d"}, {"classes": 7, "data_dir": "d"}),
        ({"image_dir": "/a", "mask_dir": "/b"}, {"images": "/a", "masks": "/b"}),
        ({"bs": 4, "workers": 2}, {"batch_size": 4, "num_workers": 2}),
        ({"crop_size": "big", "batch_size": -1, "flip": 3}, {"batch_size": 8}),
        ({"data_dir": 5, "classes": ["a", "a"], "split": None}, {"images": "my_data/images"}),
        ({"data_dir": "x" * 9000, "classes": ["y" * 900]}, {"images": "my_data/images"}),
        ({"data_dir": "a\u202eb\nc"}, {"data_dir": "a\u202eb\nc"}),
    ],
)
def test_feature_what_is_pasted_is_valid(args, expected):
    (problem,) = problems_of(with_loader("MyData", **args))
    assert problem.isprintable() and len(problem) < 2000
    section = pasted(problem)
    assert expected.items() <= section["args"].items()
    assert check({**minimal(), "train_loader": section})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("train_loader", "num_classes", 3), ("val_loader", "class_names", ["a", "b", "c"]),
     ("arch", "num_classes", "3"), (None, "n_classes", 3)],
)  # fmt: skip
def test_feature_both_loaders_get_the_same_classes(section, key, value):
    tree = with_loader("MyData", batch_size=2)
    tree["val_loader"] = {"type": "MyData", "args": {"batch_size": 1}}
    tree["arch"] = {"type": "UNet", "args": {}}
    (tree[section]["args"] if section else tree)[key] = value
    problems = [problem for problem in problems_of(tree) if "use Folder" in problem]
    expected = value if isinstance(value, list) else 3
    assert [pasted(problem)["args"]["classes"] for problem in problems] == [expected] * 2


def test_feature_a_near_miss_stays_one():
    assert "did you mean 'Folder'?" in problems_of(with_loader("Foldr"))[0]
    assert "use Folder" not in problems_of(with_loader("Foldr"))[0]


@pytest.mark.parametrize(
    ("section", "folder", "choice"),
    [("arch", "models", "PSPNet"), ("loss", "utils/losses", "Dice")],
)
def test_exception_a_model_or_loss_of_ones_own(section, folder, choice):
    tree = {**minimal(), section: {"type": "Zzzz", "args": {"a": 1}}}
    (problem,) = problems_of(tree)
    for fact in ("'Zzzz'", f"{folder}/__init__.py", "CONTRIBUTING.md", "choose from", choice):
        assert fact in problem


def test_feature_architectures_of_smp():
    tree = {**minimal(), "arch": {"type": "DeepLabV3Plus", "args": {"backbone": "resnet18"}}}
    (problem,) = problems_of(tree)
    section = json.loads(re.search(r"of SMP: (\{.*\}\})", problem)[1])
    assert section["args"] == {"architecture": "DeepLabV3Plus", "encoder_name": "resnet18"}
    assert check({**minimal(), "arch": section}).arch.type == "SMP"
    # Our own spelling comes first.
    tree["arch"]["type"] = "Unet"
    assert "did you mean 'UNet'?" in problems_of(tree)[0]


def test_feature_every_argument_of_folder_is_kept():
    known = SECTIONS["train_loader"].schema("Folder")
    args = {"palette": [[0, 0, 0]], "mask_suffix": "_gt", "data_dir": "d", "batch_size": 1}
    assert args.items() <= folder_args(args, known).items()
