"""Values in configs of other programs, and the keys of ours that they belong to."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from utils.config.errors import show
from utils.config.keys import OTHER_NAMES, normalised
from utils.config.text_values import value_of

Tree = Mapping[str, Any]
MAX_LEAVES = 2000
SMP_ARCHITECTURES = ("Unet", "UnetPlusPlus", "MAnet", "FPN", "PAN", "Linknet", "DeepLabV3",
                     "DeepLabV3Plus", "Segformer", "DPT", "UPerNet", "PSPNet")  # fmt: skip
OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "NAdam")
# Names of other programs, in small letters and digits only.
SCHEDULES = {"onecyclelr": "OneCycle", "onecycle": "OneCycle", "poly": "Poly",
             "polylr": "Poly", "cosine": "Cosine", "step": "Step"}  # fmt: skip
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
# Where a class is named: the keys that do it, and the sections in which one of `NAMES` does it.
NAMES = ("name", "type", "_target_", "class_path")
CLASS_KEYS: Mapping[str, tuple[Collection[str], Collection[str]]] = {
    "arch": (("model_name", "meta_architecture", "arch", "architecture"),
             ("model", "arch", "net", "network")),
    "loss": (("loss", "loss_name", "criterion", "loss_function", "loss_fn"),
             ("loss", "criterion", "loss_decode")),
    "optimizer": (("optimizer", "optim", "optimizer_name"), ("optimizer",)),
    "lr_scheduler": (("scheduler", "lr_scheduler", "lr_policy"), ("scheduler", "lr_scheduler")),
    "train_loader": (("dataset", "dataset_type"), ("dataset", "datasets")),
}  # fmt: skip


def _our_paths() -> dict[str, tuple[str, tuple[type, ...]]]:
    """Return our path of each key, and the types of value that it can have."""
    number = (int, float)
    by_path: dict[str, dict[str, tuple[type, ...]]] = {
        "{key}": {"seed": (int,), "n_gpu": (int,), "ignore_index": (int,), "amp": (bool,),
                  "use_synch_bn": (bool,), "init_from": (str,)},
        "trainer.{key}": {
            "epochs": (int,), "save_dir": (str,), "early_stop": (int,), "ema_decay": (float,),
            "clip_grad_norm": number, "log_dir": (str,), "accumulation_steps": (int,),
            "log_per_iter": (int,), "save_period": (int,), "val_per_epochs": (int,)},
        "optimizer.args.{key}": {"lr": number, "weight_decay": number, "momentum": number},
        "arch.args.{key}": {"backbone": (str,), "pretrained": (bool,), "output_stride": (int,),
                            "encoder_weights": (str,), "in_channels": (int,)},
        "arch.args.encoder_name": {"encoder": (str,), "encoder_name": (str,)},
        "{{loader}}.args.{key}": {
            "batch_size": (int,), "num_workers": (int,), "crop_size": (int,), "base_size": (int,),
            "data_dir": (str,), "shuffle": (bool,), "flip": (bool,), "vertical_flip": (bool,),
            "rotate": (bool,), "blur": (bool,), "val_split": (float,)},
        "train_loader.args.images": {"train_images_dir": (str,)},
        "train_loader.args.masks": {"train_masks_dir": (str,)},
        "val_loader.args.images": {"val_images_dir": (str,), "valid_images_dir": (str,)},
        "val_loader.args.masks": {"val_masks_dir": (str,), "valid_masks_dir": (str,)},
        "test_loader.args.images": {"test_images_dir": (str,)},
        "test_loader.args.masks": {"test_masks_dir": (str,)},
        "train_loader.args.mean": {"image_mean": (list,)},
        "train_loader.args.std": {"image_std": (list,)},
        "train_loader.args.classes": dict.fromkeys(
            ("num_classes", "n_classes", "nclass", "nc"), (int,)),
        "init_from": {"weights": (str,)},
        "name": {"experiment_name": (str,)},
    }  # fmt: skip
    return {
        key: (path.format(key=key), kinds)
        for path, keys in by_path.items()
        for key, kinds in keys.items()
    }


OUR_PATHS = _our_paths()
CAN_BE_ZERO = ("seed", "num_workers", "early_stop", "n_gpu", "momentum", "weight_decay")


def known_values(tree: Tree) -> list[tuple[str, str, Any]]:
    """Return each value that has a path here: its own path, ours, and what to write there."""
    found: dict[str, tuple[str, str, Any]] = {}
    for path, value in _leaves(tree):
        ours, own = _our_path(path, value)
        if ours:
            found.setdefault(ours, (".".join(path), ours, own))
    return list(found.values())


def _leaves(tree: Tree) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values of a tree with their paths, `MAX_LEAVES` at most."""
    count = 0
    stack: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while stack and count < MAX_LEAVES:
        where, node = stack.pop(0)
        count += 1
        if isinstance(node, dict) and not (where and _our_path(where, node)[0]):
            stack += [((*where, str(key)), item) for key, item in node.items()]
        elif where:
            yield where, node


def _our_path(path: tuple[str, ...], value: Any) -> tuple[str, Any]:
    """Return where a value belongs and what to write there; nothing where that is not known."""
    last, parents = normalised(path[-1]), [normalised(key) for key in path[:-1]]
    value = value_of(value)
    if isinstance(value, str):
        near = parents[-1] if parents else ""
        for section, (keys, sections) in CLASS_KEYS.items():
            if last in keys or (near in sections and last in NAMES):
                return _class(section, value)
    classes = _classes(last, value)
    if classes is not None:
        return "train_loader.args.classes", classes
    if last in ("max_iter", "max_iters", "total_iters") and isinstance(value, int):
        return "trainer.epochs (there: steps)", None
    key = last if last in OUR_PATHS else OTHER_NAMES.get(last, last)
    ours, kinds = OUR_PATHS.get(key, ("", ()))
    if key == "crop_size" and isinstance(value, list) and all(isinstance(v, int) for v in value):
        value = min(value, default=0)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return "", None
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 1
    if number < 0 or (number == 0 and key not in CAN_BE_ZERO):
        return "", None
    held_out = {"val", "valid", "validation", "test", "val_dataloader"} & set(parents)
    return ours.format(loader="val_loader" if held_out else "train_loader"), value


def _class(section: str, name: str) -> tuple[str, str | None]:
    """Return where the name of a class belongs, and the name of the same here if there is one."""
    if section == "arch":
        by_name = {choice.lower(): choice for choice in SMP_ARCHITECTURES}
        own = by_name.get(_letters(name.replace("+", "plus")))
        return ("arch.args.architecture", own) if own else ("arch.type", None)
    if section == "loss":
        return "loss", LOSSES.get(_letters(name))
    names = {"lr_scheduler": SCHEDULES, "optimizer": {n.lower(): n for n in OPTIMIZERS}}
    return f"{section}.type", names.get(section, {}).get(_letters(name))


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _classes(last: str, value: Any) -> list[str] | None:
    """Return the class names of a list, or of a dict of names and ids in the order of the ids."""
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


def as_dict(value: Any) -> Tree:
    """Return a value that is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}
