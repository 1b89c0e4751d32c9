"""utils/config/foreign.py: a config of another program, and where its values belong here."""

import json

import pytest
import torch

import evaluate
import inference
import train
from models.smp import ARCHITECTURES
from tests.utils.config.test_check_config import check, minimal, problems_of
from tests.utils.config.test_file import parse_text
from utils.config.errors import ConfigError
from utils.config.file import parse_config
from utils.config.foreign import refuse_foreign
from utils.config.foreign_values import SMP_ARCHITECTURES, known_values

SMP_YAML = """
dataset:
  train_images_dir: "/path/to/train/images/"
  train_masks_dir: "/path/to/train/masks/"
  val_images_dir: "/path/to/val/images/"
  val_masks_dir: "/path/to/val/masks/"
model_name: "DeepLabV3Plus"
encoder: "resnet34"
encoder_weights: "imagenet"
classes: [ground, road]
batch_size: 4
epochs: 30
learning_rate: 3e-4
optimizer: AdamW
scheduler: OneCycleLR
loss: BinaryCrossEntropy + DiceLoss
"""

# Each program's file, and the paths of its values here.
FOREIGN = {
    "Detectron2": (
        {
            "MODEL": {"META_ARCHITECTURE": "PanopticFPN", "WEIGHTS": "a.pkl"},
            "SOLVER": {"BASE_LR": 0.02, "IMS_PER_BATCH": 16, "MAX_ITER": 90000},
            "DATALOADER": {"NUM_WORKERS": 2},
            "OUTPUT_DIR": "out",
        },
        ["SOLVER.BASE_LR: here it is optimizer.args.lr", "MODEL.WEIGHTS: here it is init_from",
         "SOLVER.IMS_PER_BATCH: here it is train_loader.args.batch_size",
         "SOLVER.MAX_ITER: here it is trainer.epochs",
         "OUTPUT_DIR: here it is trainer.save_dir"],
    ),
    "YACS": (
        {
            "MODEL": {"NAME": "seg_hrnet"}, "DATASET": {"ROOT": "data/", "NUM_CLASSES": 19},
            "TRAIN": {"LR": 0.01, "END_EPOCH": 484, "BATCH_SIZE_PER_GPU": 3, "WD": 0.0005,
                      "IMAGE_SIZE": [1024, 512], "IGNORE_LABEL": 255, "FLIP": True},
            "WORKERS": 4,
        },
        ["MODEL.NAME: here it is arch.type", "TRAIN.END_EPOCH: here it is trainer.epochs",
         "DATASET.NUM_CLASSES: here it is train_loader.args.classes",
         "WORKERS: here it is train_loader.args.num_workers"],
    ),
    "MMSegmentation": (
        {
            "model": {"type": "EncoderDecoder", "decode_head": {"num_classes": 4}},
            "data": {"samples_per_gpu": 2, "workers_per_gpu": 2},
            "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
            "train_pipeline": [], "work_dir": "w", "load_from": "x.pth",
        },
        ["optimizer.lr: here it is optimizer.args.lr", "load_from: here it is init_from",
         "work_dir: here it is trainer.save_dir"],
    ),
    "Lightning": (
        {
            "model": {"class_path": "a.B", "init_args": {"lr": 0.1}},
            "trainer": {"max_epochs": 3, "accumulate_grad_batches": 2},
            "data": {"init_args": {"batch_size": 2}},
        },
        ["trainer.max_epochs: here it is trainer.epochs"],
    ),
    "nnU-Net": (
        {"labels": {"background": 0, "tumour": 1}, "numTraining": 3, "file_ending": ".png"},
        ["labels: here it is train_loader.args.classes", '["background", "tumour"]'],
    ),
    "Hugging Face transformers": (
        {"model_type": "segformer", "architectures": ["X"], "id2label": {"1": "b", "0": "a"}},
        ["id2label: here it is train_loader.args.classes", '["a", "b"]'],
    ),
    "preprocessor_config": (
        {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.1, 0.2, 0.3]},
        ["image_mean: here it is train_loader.args.mean"],
    ),
    "YOLO": (
        {"path": "d", "train": "images/train", "val": "images/val", "names": {0: "a", 1: "b"}},
        ["names: here it is train_loader.args.classes"],
    ),
    "layout of another program": (
        {"lr": 0.1, "epochs": 3, "batch_size": 2, "num_classes": 4, "img_size": 64},
        ["lr: here it is optimizer.args.lr", "img_size: here it is train_loader.args.crop_size"],
    ),
}  # fmt: skip


def problems_and_config(tree):
    problems = problems_of(tree)
    head, _, plain = problems[-1].partition(": ")
    assert head == "as a config of this program"
    assert all(problem.isprintable() for problem in problems)
    return problems, json.loads(plain)


def test_exception_the_config_yml_of_smp(tmp_path):
    tree = parse_text(tmp_path, SMP_YAML, "config.yml")
    problems, config = problems_and_config(tree)
    assert "config.yml" in problems[0] and "docs/migration.md" in problems[0]
    expected = {
        "model_name": "arch.args.architecture", "encoder": "arch.args.encoder_name",
        "encoder_weights": "arch.args.encoder_weights",
        "dataset.train_images_dir": "train_loader.args.images",
        "dataset.train_masks_dir": "train_loader.args.masks",
        "dataset.val_images_dir": "val_loader.args.images",
        "dataset.val_masks_dir": "val_loader.args.masks", "classes": "train_loader.args.classes",
        "batch_size": "train_loader.args.batch_size", "epochs": "trainer.epochs",
        "learning_rate": "optimizer.args.lr", "optimizer": "optimizer.type",
        "scheduler": "lr_scheduler.type",
    }  # fmt: skip
    assert set(problems[1:-1]) == {f"{key}: here it is {expected[key]}" for key in expected}
    checked = check(config)
    assert checked.warnings == ()
    encoder = {"encoder_name": "resnet34", "encoder_weights": "imagenet"}
    assert checked.arch.args == {"architecture": "DeepLabV3Plus", **encoder}
    assert checked.train_loader.args["images"] == "/path/to/train/images/"
    assert checked.val_loader.args["masks"] == "/path/to/val/masks/"
    assert (checked.trainer.epochs, checked.optimizer.args["lr"]) == (30, 3e-4)
    assert (checked.loss[0].type, checked.binary) == ("BCE_DiceLoss", True)


@pytest.mark.parametrize("name", FOREIGN)
def test_exception_configs_of_other_programs(name):
    tree, expected = FOREIGN[name]
    problems, config = problems_and_config(json.loads(json.dumps(tree)))
    assert name in problems[0]
    for fact in expected:
        assert any(fact in problem for problem in problems), (fact, problems)
    assert check(config)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"images": [], "annotations": [], "categories": []}, "convert.py coco"),
        ({"shapes": [], "imagePath": "a.jpg"}, "convert.py labelme"),
        ({"__version__": "2.0", "transform": {}}, '"albumentations"'),
    ],
)
def test_exception_files_that_are_no_config(tree, expected):
    (problem,) = problems_of(tree)
    assert expected in problem


@pytest.mark.parametrize(
    ("name", "expected"),
    [("c.py", "is not run"), ("c.pth", "--resume"), ("c.toml", "TOML"), ("c.ipynb", "notebook")],
)
def test_exception_files_of_other_kinds(tmp_path, name, expected):
    (tmp_path / name).write_text("open('hacked', 'w')\n")
    with pytest.raises(ConfigError, match=expected) as caught:
        parse_config(tmp_path / name)
    assert name in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_exception_every_program_says_it(tmp_path, capsys):
    path = tmp_path / "config.yml"
    path.write_text(SMP_YAML)
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "a.pth")
    model = ["--model", str(tmp_path / "a.pth"), "--config", str(path), "--device", "cpu"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"")
    for run in (
        lambda: train.main(["--config", str(path)]),
        lambda: evaluate.main(model),
        lambda: inference.main([*model, "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]),
    ):
        assert run() == 2
        assert "model_name: here it is arch.args.architecture" in capsys.readouterr().err


def test_feature_architectures_are_those_of_the_model():
    assert set(SMP_ARCHITECTURES) == set(ARCHITECTURES.names)


@pytest.mark.parametrize(
    ("tree", "path", "value"),
    [
        ({"model": {"name": "DeepLabV3+"}}, "arch.args.architecture", "DeepLabV3Plus"),
        ({"model": {"name": "my_net"}}, "arch.type", None),
        ({"val": {"img_size": [512, 256]}}, "val_loader.args.crop_size", 256),
        ({"wd": "5e-4"}, "optimizer.args.weight_decay", 5e-4),
        ({"workers": 0}, "train_loader.args.num_workers", 0),
        ({"label2id": {"b": 1, "a": 0}}, "train_loader.args.classes", ["a", "b"]),
    ],
)
def test_feature_known_values(tree, path, value):
    assert [found[1:] for found in known_values(tree)] == [(path, value)]


def test_feature_values_that_cannot_be_meant_are_left_out():
    tree = {"lr": -1, "nc": 0, "epochs": 2.5, "seed": True, "classes": ["a", "a"], "own": 3}
    assert known_values(tree) == []


def test_feature_a_fork_is_no_other_program():
    tree = minimal()
    tree["model"] = tree.pop("arch")
    assert problems_of(tree) == [
        "model: no such key; it is called 'arch' here",
        "arch: required key is missing",
    ]
    (problem, *_) = problems_of({"trainer": {"epochs": 3}, "optimizer": {"type": "SGD"}})
    assert problem.endswith("required key is missing")


def test_feature_a_section_alone_is_ours():
    """As `evaluate.py --config` takes it."""
    refuse_foreign({"test_loader": minimal()["val_loader"], "epochs": 3, "lr": 0.1}, "c.json")


def test_feature_a_large_config_stays_a_short_message():
    tree = {f"a{i}": {"lr": 0.1, "epochs": i, "x" * 40: "y" * 300} for i in range(400)}
    tree["epochs"], tree["batch_size"] = 3, 4
    message = "\n".join(problems_of(tree))
    assert len(message) < 5000
