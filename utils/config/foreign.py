"""Configs of other programs: which one it is, and where each of its values belongs here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from utils.config.errors import ConfigError, show
from utils.config.folder_section import CLASSES
from utils.config.keys import LOADERS, OTHER_NAMES, USUAL_PLACES, normalised
from utils.config.text_values import value_of

Tree = Mapping[str, Any]
OURS = ("arch", *LOADERS)  # a config with one of these is ours, or of a fork
MAX_LEAVES = 2000
MAX_LINES = 24
SMP_ARCHITECTURES = ("Unet", "UnetPlusPlus", "MAnet", "FPN", "PAN", "Linknet", "DeepLabV3",
                     "DeepLabV3Plus", "Segformer", "DPT", "UPerNet", "PSPNet")  # fmt: skip
LOSSES = {
    "crossentropyloss": "CrossEntropyLoss2d",
    "crossentropy": "CrossEntropyLoss2d",
    "ce": "CrossEntropyLoss2d",
    "dice": "DiceLoss",
    "diceloss": "DiceLoss",
    "binarycrossentropydiceloss": "BCE_DiceLoss",
    "bcediceloss": "BCE_DiceLoss",
    "bce": "BCEWithLogitsLoss2d",
    "focal": "FocalLoss",
    "focalloss": "FocalLoss",
    "lovasz": "LovaszSoftmax",
    "lovaszloss": "LovaszSoftmax",
    "lovaszsoftmaxloss": "LovaszSoftmax",
    "tversky": "TverskyLoss",
    "tverskyloss": "TverskyLoss",
    "jaccardloss": "JaccardLoss",
    "rmiloss": "RMILoss",
}


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
        or ({"model", "data"} <= tree.keys() and "type" in _dict(tree["model"]))),
    ("a config of the Lightning CLI", lambda tree: "class_path" in _dict(tree.get("model"))),
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
    """Refuse a config that another program wrote, with the place here of each value in it.

    Args:
        tree: What `parse_config` returned.
        source: The file's name.

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
    lines = [f"{path}: here it is {place}" for path, place, _ in found if path != place]
    problems += lines[:MAX_LINES] + [f"and {len(lines) - MAX_LINES} more"] * (
        len(lines) > MAX_LINES
    )
    problems.append(f"as a config of this program: {json.dumps(worked_out(tree))}")
    raise ConfigError(source, problems)


def known_values(tree: Tree) -> list[tuple[str, str, Any]]:
    """Return each value that has a place here: its path, the place, and what to write there."""
    found: list[tuple[str, str, Any]] = []
    for path, value in _leaves(tree):
        place, own = _place(path, value)
        if place and not any(place == other for _, other, _ in found):
            found.append((".".join(path), place, own))
    return found


def worked_out(tree: Tree) -> dict[str, Any]:
    """Return a config of ours with the values of another program's, complete enough to check.

    What the other one does not say is what the programs of this kind take: AdamW, one cycle.
    """
    config: dict[str, Any] = {
        "name": "my_run",
        "arch": {"type": "SMP", "args": {}},
        "train_loader": {"type": "Folder", "args": {"images": "my_data/train/images"}},
        "val_loader": {"type": "Folder", "args": {"images": "my_data/val/images", "val": True}},
        "optimizer": {"type": "AdamW", "args": {"lr": 0.001}},
        "lr_scheduler": {"type": "OneCycle"},
        "loss": "CrossEntropyLoss2d",
        "trainer": {"epochs": 100},
    }
    values = {place: value for _, place, value in known_values(tree) if value is not None}
    for place, value in values.items():
        *parents, last = place.split(".")
        if parents[:1] == ["arch"] and last not in SMP_ARGS:
            continue
        node = config
        for key in parents:
            node = node.setdefault(key, {}) if isinstance(node, dict) else {}
        node[last] = value
    train, val = config["train_loader"]["args"], config["val_loader"]["args"]
    if config["train_loader"]["type"] == "Folder":
        _complete_folders(train, val)
    train.setdefault("batch_size", 8)
    val.setdefault("batch_size", train["batch_size"])
    config["train_loader"]["args"] = {"shuffle": True, **train}
    if config["loss"] in ("BCE_DiceLoss", "BCEWithLogitsLoss2d"):
        if train["classes"] == 2 or len(_list(train["classes"])) == 2:
            config["binary"] = True
        else:
            config["loss"] = "CE_DiceLoss" if "Dice" in config["loss"] else "CrossEntropyLoss2d"
    return config


SMP_ARGS = ("architecture", "encoder_name", "encoder_weights")


def _complete_folders(train: dict[str, Any], val: dict[str, Any]) -> None:
    for args in (train, val):
        if "data_dir" in train:
            args.setdefault("data_dir", train["data_dir"])
            args["images"] = args["images"].removeprefix("my_data/")
        args.setdefault("masks", args["images"].replace("images", "masks"))
        args["classes"] = train.get("classes", CLASSES)
        for key in ("mean", "std"):
            if key in train:
                args[key] = train[key]


def _leaves(tree: Tree) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of a tree with their paths, so many at most."""
    count = 0
    stack: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while stack and count < MAX_LEAVES:
        where, node = stack.pop(0)
        count += 1
        if isinstance(node, dict) and where and _place(where, node)[0]:
            yield where, node
        elif isinstance(node, dict):
            stack += [((*where, str(key)), item) for key, item in node.items()]
        elif where:
            yield where, node


def _dict(value: Any) -> Tree:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# Key -> place, where the key alone says it; the kinds of value that it may have.
_PLACES: dict[str, tuple[str, tuple[type, ...]]] = {
    "train_images_dir": ("train_loader.args.images", (str,)),
    "train_masks_dir": ("train_loader.args.masks", (str,)),
    "val_images_dir": ("val_loader.args.images", (str,)),
    "val_masks_dir": ("val_loader.args.masks", (str,)),
    "valid_images_dir": ("val_loader.args.images", (str,)),
    "valid_masks_dir": ("val_loader.args.masks", (str,)),
    "test_images_dir": ("test_loader.args.images", (str,)),
    "test_masks_dir": ("test_loader.args.masks", (str,)),
    "image_mean": ("train_loader.args.mean", (list,)),
    "image_std": ("train_loader.args.std", (list,)),
    "encoder": ("arch.args.encoder_name", (str,)),
    "encoder_name": ("arch.args.encoder_name", (str,)),
    "encoder_weights": ("arch.args.encoder_weights", (str,)),
    "in_channels": ("arch.args.in_channels", (int,)),
    "weights": ("init_from", (str,)),
    "num_classes": ("train_loader.args.classes", (int,)),
    "n_classes": ("train_loader.args.classes", (int,)),
    "nclass": ("train_loader.args.classes", (int,)),
    "nc": ("train_loader.args.classes", (int,)),
    "wd": ("optimizer.args.weight_decay", (int, float)),
    "experiment_name": ("name", (str,)),
}
_KINDS: dict[str, tuple[type, ...]] = {
    "lr": (int, float), "weight_decay": (int, float), "momentum": (int, float),
    "batch_size": (int,), "num_workers": (int,), "crop_size": (int,), "base_size": (int,),
    "epochs": (int,), "seed": (int,), "n_gpu": (int,), "ignore_index": (int,),
    "data_dir": (str,), "save_dir": (str,), "backbone": (str,), "early_stop": (int,),
    "ema_decay": (float,), "clip_grad_norm": (int, float), "accumulation_steps": (int,),
    "log_per_iter": (int,), "save_period": (int,), "val_per_epochs": (int,), "amp": (bool,),
    "use_synch_bn": (bool,), "shuffle": (bool,), "flip": (bool,), "vertical_flip": (bool,),
    "rotate": (bool,), "blur": (bool,), "init_from": (str,), "pretrained": (bool,),
    "output_stride": (int,), "val_split": (float,), "log_dir": (str,),
}  # fmt: skip
_TRAINER = ("epochs", "save_dir", "early_stop", "ema_decay", "clip_grad_norm", "log_dir",
            "accumulation_steps", "log_per_iter", "save_period", "val_per_epochs")  # fmt: skip
_TOP = ("seed", "n_gpu", "ignore_index", "amp", "use_synch_bn", "init_from")


def _place(path: tuple[str, ...], value: Any) -> tuple[str, Any]:
    """Where a value belongs and what to write there; nothing where that is not known."""
    last, parents = normalised(path[-1]), {normalised(key) for key in path[:-1]}
    value = value_of(value)
    named = _named(path, last, parents, value)
    if named[0]:
        return named
    classes = _classes(last, value)
    if classes is not None:
        return "train_loader.args.classes", classes
    if last in _PLACES and isinstance(value, _PLACES[last][1]) and not isinstance(value, bool):
        return _PLACES[last][0], value
    key = OTHER_NAMES.get(last, last)
    if last in ("max_iter", "max_iters", "total_iters") and isinstance(value, int):
        return "trainer.epochs (there: steps)", None
    if isinstance(value, list) and key == "crop_size" and all(isinstance(v, int) for v in value):
        value = min(value, default=0)
    kinds = _KINDS.get(key, ())
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return "", None
    assert isinstance(value, (int, float, str, list))
    may_be_zero = key in ("seed", "num_workers", "early_stop", "n_gpu", "momentum", "weight_decay")
    number = 1 if isinstance(value, (bool, str, list)) else float(value)
    if number < 0 or (number == 0 and not may_be_zero):
        return "", None
    held_out = parents & {"val", "valid", "validation", "test", "val_dataloader"}
    split = "val_loader" if held_out else "train_loader"
    if key in _TRAINER:
        return f"trainer.{key}", value
    if key in _TOP:
        return key, value
    if key in USUAL_PLACES["optimizer.args"]:
        return f"optimizer.args.{key}", value
    if key in USUAL_PLACES["arch.args"]:
        return f"arch.args.{key}", value
    return f"{split}.args.{key}", value


def _named(
    path: tuple[str, ...], last: str, parents: Collection[str], value: Any
) -> tuple[str, Any]:
    """The place of a value that is the name of a class."""
    if not isinstance(value, str):
        return "", None
    near = normalised(path[-2]) if len(path) > 1 else ""
    plain = last in ("name", "type", "_target_", "class_path")
    if last in ("model_name", "meta_architecture", "arch", "architecture") or (
        near in ("model", "arch", "net", "network") and plain
    ):
        by_name = {name.lower(): name for name in SMP_ARCHITECTURES}
        own = by_name.get(value.lower().replace("_", "").replace("-", ""))
        return ("arch.args.architecture", own) if own else ("arch.type", None)
    if last in ("loss", "loss_name", "criterion", "loss_function", "loss_fn") or (
        near in ("loss", "criterion", "loss_decode") and plain
    ):
        word = "".join(c for c in value.lower() if c.isalnum())
        return "loss", LOSSES.get(word)
    if last in ("optimizer", "optim", "optimizer_name") or (near == "optimizer" and plain):
        by_name = {name.lower(): name for name in ("SGD", "Adam", "AdamW", "RMSprop", "NAdam")}
        return "optimizer.type", by_name.get(value.lower())
    if last in ("scheduler", "lr_scheduler", "lr_policy") or (
        near in ("scheduler", "lr_scheduler") and plain
    ):
        names = {"onecyclelr": "OneCycle", "onecycle": "OneCycle", "poly": "Poly",
                 "polylr": "Poly", "cosine": "Cosine", "step": "Step"}  # fmt: skip
        return "lr_scheduler.type", names.get(normalised(value).replace("_", ""))
    if last in ("dataset", "dataset_type") or (near in ("dataset", "datasets") and last == "type"):
        return "train_loader.type", None
    return "", None


def _classes(last: str, value: Any) -> list[str] | None:
    """The names of classes, of a list or a dict of names and ids, in the order of the ids."""
    if last not in ("classes", "class_names", "names", "labels", "id2label", "label2id"):
        return None
    if isinstance(value, dict):
        pairs = [(value_of(a), value_of(b)) for a, b in value.items()]
        ids = [(a, b) if isinstance(a, int) else (b, a) for a, b in pairs]
        if not all(isinstance(i, int) and isinstance(name, str) for i, name in ids):
            return None
        value = [name for _, name in sorted(ids)]
    if not isinstance(value, list) or not 1 <= len(value) <= 300:
        return None
    names = [name for name in value if isinstance(name, str) and 0 < len(show(name)) < 60]
    return names if len(names) == len(value) == len(set(names)) else None
