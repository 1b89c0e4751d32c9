"""Configs of other programs: which program it is, and the same as a config of this one."""

import json
from collections.abc import Callable
from typing import Any

from utils.config.errors import ConfigError
from utils.config.folder_section import CLASSES
from utils.config.foreign_values import Tree, as_dict, known_values
from utils.config.keys import LOADERS

OURS = ("arch", *LOADERS)  # a config with one of these is ours, or of a fork
MAX_LINES = 24
SMP_ARGS = ("architecture", "encoder_name", "encoder_weights")


def _has(*names: str) -> Callable[[Tree], bool]:
    return lambda tree: set(names) <= tree.keys()


# What a program's file is called, and how it is told from others: by keys that only it has.
PROGRAMS: tuple[tuple[str, Callable[[Tree], bool]], ...] = (
    ("the config.yml of a Segmentation Models PyTorch training", lambda tree: (
        bool({"model_name", "encoder", "encoder_name"} & tree.keys())
        and bool({"dataset", "encoder_weights", "encoder"} & tree.keys()))),
    ("a config of Detectron2", lambda tree: "MODEL" in tree and bool(
        {"SOLVER", "DATASETS"} & tree.keys())),
    ("a config of a YACS program (HRNet and the like)", lambda tree: bool(
        {"MODEL", "TRAIN", "DATASET", "DATA"} & tree.keys())),
    ("a config of MMSegmentation", lambda tree: bool(
        {"train_pipeline", "train_dataloader", "default_hooks", "train_cfg"} & tree.keys())
        or ({"model", "data"} <= tree.keys() and "type" in as_dict(tree["model"]))),
    ("a config of the Lightning CLI", lambda tree: "class_path" in as_dict(tree.get("model"))),
    ("a dataset.json of nnU-Net", lambda tree: "labels" in tree and bool(
        {"numTraining", "channel_names", "modality", "file_ending"} & tree.keys())),
    ("a plans file of nnU-Net", _has("plans_name", "configurations")),
    ("a config.json of Hugging Face transformers", lambda tree: "model_type" in tree
        or {"architectures", "id2label"} <= tree.keys()),
    ("a preprocessor_config.json of Hugging Face", lambda tree: "image_mean" in tree and bool(
        {"image_processor_type", "do_normalize", "feature_extractor_type"} & tree.keys())),
    ("a data.yaml of YOLO", lambda tree: {"names", "train"} <= tree.keys()),
    ("a pipeline of Albumentations", _has("__version__", "transform")),
    ("a file of COCO annotations", _has("images", "annotations", "categories")),
    ("a labelme file", _has("shapes", "imagePath")),
)  # fmt: skip
# What to do with a file that is no config at all.
REMEDIES = {
    "a pipeline of Albumentations": 'name the file in a loader: "args": {"albumentations": FILE}',
    "a file of COCO annotations": "make masks of it: python convert.py coco FILE -o masks",
    "a labelme file": "make masks of its folder: python convert.py labelme FOLDER -o masks",
}


def refuse_foreign(tree: Tree, source: str) -> None:
    """Refuse a config that another program wrote, with the path here of each value in it.

    Raises:
        ConfigError: If the tree is none of ours, nor of a fork.
    """
    if any(key in tree for key in OURS):
        return
    program = next((name for name, is_it in PROGRAMS if is_it(tree)), None)
    if program in REMEDIES:
        remedy = REMEDIES[program].replace("FILE", json.dumps(source))
        raise ConfigError(source, [f"is {program}, not a config; {remedy}"])
    found = known_values(tree)
    if program is None:
        if len(found) < 2 or any(isinstance(tree.get(k), dict) for k in ("optimizer", "trainer")):
            return  # a config of ours that lacks much: what is missing is said one by one
        program = "a config with the layout of another program"
    problems = [f"is {program}; it cannot be used as it is (docs/migration.md, Other programs)"]
    lines = [f"{path}: here it is {ours}" for path, ours, _ in found if path != ours]
    problems += lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        problems.append(f"and {len(lines) - MAX_LINES} more")
    values = {ours: value for _, ours, value in found if value is not None}
    problems.append(f"as a config of this program: {json.dumps(_translated(values))}")
    raise ConfigError(source, problems)


def _translated(values: Tree) -> dict[str, Any]:
    """Return a config of ours with the values of another program's, complete enough to check.

    What the other one does not say is what the programs of this kind take: AdamW, one cycle.
    """
    train: dict[str, Any] = {"images": "my_data/train/images"}
    val: dict[str, Any] = {"images": "my_data/val/images", "val": True}
    config: dict[str, Any] = {
        "name": "my_run",
        "arch": {"type": "SMP", "args": {}},
        "train_loader": {"type": "Folder", "args": train},
        "val_loader": {"type": "Folder", "args": val},
        "optimizer": {"type": "AdamW", "args": {"lr": 0.001}},
        "lr_scheduler": {"type": "OneCycle"},
        "loss": "CrossEntropyLoss2d",
        "trainer": {"epochs": 100},
    }
    for path, value in values.items():
        *parents, last = path.split(".")
        if parents[:1] == ["arch"] and last not in SMP_ARGS:
            continue
        node = config
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    for args in (train, val):
        if "data_dir" in train:
            args.setdefault("data_dir", train["data_dir"])
            args["images"] = args["images"].removeprefix("my_data/")
        args.setdefault("masks", args["images"].replace("images", "masks"))
        args["classes"] = train.get("classes", CLASSES)
        args.update({key: train[key] for key in ("mean", "std") if key in train})
    train.setdefault("batch_size", 8)
    val.setdefault("batch_size", train["batch_size"])
    config["train_loader"]["args"] = {"shuffle": True, **train}
    if config["loss"] in ("BCE_DiceLoss", "BCEWithLogitsLoss2d"):
        classes = train["classes"]
        if (classes if isinstance(classes, int) else len(classes)) == 2:
            config["binary"] = True
        else:
            config["loss"] = "CE_DiceLoss" if "Dice" in config["loss"] else "CrossEntropyLoss2d"
    return config
