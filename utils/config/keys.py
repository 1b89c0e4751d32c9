"""Find the path of a key that is named without it, or by the name of another program."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

LOADERS = ("train_loader", "val_loader", "test_loader")
COMPONENTS = ("arch", *LOADERS, "optimizer", "lr_scheduler")

# What other programs call a key of ours. Only what means the same; compared in lower case, - as _.
OTHER_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs", "nepochs", "max_epochs", "max_epoch",
                     "total_epochs", "end_epoch", "num_epoch", "train_epochs"), "epochs"),
    **dict.fromkeys(("learning_rate", "base_lr", "init_lr", "initial_lr", "lr0"), "lr"),
    **dict.fromkeys(("batch", "batchsize", "bs", "train_batch_size", "batch_size_per_gpu",
                     "samples_per_gpu", "ims_per_batch"), "batch_size"),
    **dict.fromkeys(("workers", "nworkers", "n_workers", "num_worker", "workers_per_gpu",
                     "num_workers_per_gpu", "train_workers"), "num_workers"),
    **dict.fromkeys(("wd", "weightdecay", "l2"), "weight_decay"),
    **dict.fromkeys(("crop", "cropsize", "img_size", "imgsz", "image_size", "input_size",
                     "patch_size"), "crop_size"),
    **dict.fromkeys(("data_path", "data_root", "dataset_path", "dataset_root", "datadir",
                     "dataroot", "data_folder", "root_dir"), "data_dir"),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpus", "ngpu", "num_gpu", "gpu_num"), "n_gpu"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("fp16", "half", "use_amp", "mixed_precision"), "amp"),
    **dict.fromkeys(("sync_bn", "syncbn", "use_sync_bn", "sync_batchnorm"), "use_synch_bn"),
    **dict.fromkeys(("patience", "early_stopping", "early_stop_patience"), "early_stop"),
    **dict.fromkeys(("grad_clip", "gradient_clip", "clip_grad", "max_grad_norm", "clip_norm",
                     "gradient_clip_val"), "clip_grad_norm"),
    **dict.fromkeys(("accumulate", "grad_accum", "accum_iter", "gradient_accumulation",
                     "accumulate_grad_batches", "gradient_accumulation_steps"),
                    "accumulation_steps"),
    **dict.fromkeys(("ema", "model_ema", "use_ema"), "ema_decay"),
    **dict.fromkeys(("log_interval", "log_step", "log_freq", "print_freq"), "log_per_iter"),
    **dict.fromkeys(("eval_interval", "val_interval", "eval_freq", "val_freq",
                     "check_val_every_n_epoch"), "val_per_epochs"),
    **dict.fromkeys(("save_freq", "save_interval", "save_every"), "save_period"),
    **dict.fromkeys(("output_dir", "work_dir", "checkpoint_dir", "ckpt_dir"), "save_dir"),
    **dict.fromkeys(("encoder", "encoder_name"), "backbone"),
    **dict.fromkeys(("out_stride", "outputstride"), "output_stride"),
    **dict.fromkeys(("ignore_label", "ignore_value", "void_label"), "ignore_index"),
    **dict.fromkeys(("pretrained_weights", "pretrained_path", "load_from", "finetune",
                     "init_checkpoint"), "init_from"),
    **dict.fromkeys(("hflip", "horizontal_flip"), "flip"),
    "vflip": "vertical_flip",
    **dict.fromkeys(("model", "network", "net"), "arch"),
    **dict.fromkeys(("data_loader", "dataloader", "train_dataloader"), "train_loader"),
    **dict.fromkeys(("valid_loader", "validation_loader", "val_dataloader"), "val_loader"),
    **dict.fromkeys(("criterion", "loss_fn", "loss_function"), "loss"),
    "scheduler": "lr_scheduler",
    "optim": "optimizer",
    "training": "trainer",
}  # fmt: skip

# Words that mean these on a command line, but can be somebody's own keys in a file.
WORDS: Mapping[str, str] = {
    **dict.fromkeys(("model", "arch", "network", "net", "architecture", "model_name"), "arch.type"),
    **dict.fromkeys(("dataset", "dataset_name", "loader"), "train_loader.type"),
    **dict.fromkeys(("optimizer", "optim", "opt", "optimizer_name"), "optimizer.type"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_policy", "sched"), "lr_scheduler.type"),
    **dict.fromkeys(("criterion", "loss_type", "loss_name", "loss_fn"), "loss"),
    **dict.fromkeys(("data", "root", "datapath"), "data_dir"),
    **dict.fromkeys(("exp", "exp_name", "experiment", "run_name", "exp_id"), "name"),
    **dict.fromkeys(("save", "output", "out", "outdir", "save_path"), "save_dir"),
    "size": "crop_size",
    "warmup": "warmup_epochs",
}

# For the command line, where the config does not show a key. A test holds them against the classes.
USUAL_PATHS: Mapping[str, tuple[str, ...]] = {
    "arch.args": ("backbone", "pretrained", "in_channels", "output_stride", "freeze_bn",
                  "freeze_backbone"),
    "train_loader.args": ("data_dir", "split", "batch_size", "crop_size", "base_size", "scale",
                          "augment", "flip", "vertical_flip", "rotate", "rotate90", "blur",
                          "shuffle", "num_workers", "val_split", "drop_last", "classes"),
    "val_loader.args": ("data_dir", "split", "batch_size", "crop_size", "num_workers"),
    "optimizer.args": ("lr", "weight_decay", "momentum", "betas", "nesterov"),
}  # fmt: skip


def normalised(name: str) -> str:
    """Return a key in the form for comparisons: lower case, `-` and spaces as `_`."""
    return name.strip("-_ ").lower().replace("-", "_").replace(" ", "_")


def our_name(name: str) -> str:
    """Return what a key of another program is called here, or the key itself."""
    return OTHER_NAMES.get(normalised(name), normalised(name))


def names_in(tree: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the keys of a config by their path; the top is `""`."""
    found = {"": list(tree)}
    for section in (*COMPONENTS, "loss"):
        value = tree.get(section)
        if isinstance(value, dict):
            found[section] = [key for key in value if key not in ("type", "args")]
            args = value.get("args")
            found[f"{section}.args"] = list(args) if isinstance(args, dict) else []
    trainer = tree.get("trainer")
    found["trainer"] = list(trainer) if isinstance(trainer, dict) else []
    return found


def value_at(tree: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """Return the value at a dotted path of a config that need not be checked."""
    value: Any = tree
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def paths_of(name: str, names: Mapping[str, Collection[str]]) -> list[str]:
    """Return every path at which a key of this name is, or can be.

    Args:
        name: The key, without its path; also as another program calls it.
        names: Keys by path, as `names_in()` or `names_by_path()` returns them.
    """
    for key in dict.fromkeys((normalised(name), our_name(name))):
        found = [f"{path}.{key}" if path else key for path, keys in names.items() if key in keys]
        if found:
            return found
    return []


def near_paths(name: str, names: Mapping[str, Collection[str]]) -> list[str]:
    """Return every path of the first key that a name is one letter away from."""
    word = normalised(name)
    ours = sorted({key for keys in names.values() for key in keys})
    others = sorted(other for other in OTHER_NAMES if len(other) > 5)
    near = (key for key in (*ours, *others) if len(key) > 3 and one_letter_off(word, key))
    return next((paths_of(key, names) for key in near), [])


def one_letter_off(word: str, other: str) -> bool:
    """Return whether one letter is missing, added, wrong or swapped with the next."""
    if len(word) > len(other):
        word, other = other, word
    start = next(
        (i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), len(word)
    )
    if len(word) < len(other):
        return word[start:] == other[start + 1 :]
    swapped = word[start : start + 2] == other[start : start + 2][::-1]
    return word != other and word[start + 1 + swapped :] == other[start + 1 + swapped :]


def one_of(paths: Iterable[str]) -> str:
    """Return paths as a choice: `a, b or c`."""
    *first, last = paths
    return f"{', '.join(first)} or {last}" if first else last
