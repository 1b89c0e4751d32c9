"""Compare what two commits compute, bit for bit: `python -m tests.same_numbers main~10`.

Digests hold for one kind of processor and one version of torch, so both commits run here, one after
the other, on the same files: three trainings with a fixed seed, the masks of `inference.py` in its
three modes, the scores of `evaluate.py`, and 200 augmented samples of each augmentation. The
program ends with 1 and names what differs.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 200
CLASSES = ["ground", "water", "wood", "road"]
CROP = {"augment": True, "crop_size": 48}

# Arguments of the loader, by the name of the digest.
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "validation": {"val": True, "crop_size": 48},
    "scale": {**CROP, "base_size": 64},
    "keep_size": {"augment": True, "base_size": 56, "scale": False, "flip": True},
    "crop": CROP,
    "flip": {**CROP, "flip": True},
    "rotate": {**CROP, "rotate": True},
    "blur": {**CROP, "blur": True},
    "vertical_flip": {**CROP, "vertical_flip": True},
    "rotate90": {**CROP, "rotate90": True},
    "brightness": {**CROP, "brightness": 0.4},
    "contrast": {**CROP, "contrast": 0.4},
    "saturation": {**CROP, "saturation": 0.4},
    "hue": {**CROP, "hue": 0.2},
    "cutout": {**CROP, "cutout": 3},
    "cutout_size": {**CROP, "cutout": 3, "cutout_size": 0.5},
    "max_class_ratio": {**CROP, "base_size": 64, "max_class_ratio": 0.5},
    "rare_classes": {**CROP, "base_size": 96, "rare_classes": ["road"], "rare_share": 0.8},
    "copy_paste": {**CROP, "copy_paste": 0.7, "paste_classes": [3]},
    "mosaic": {**CROP, "mosaic": 0.7},
    "ancestor": {**CROP, "base_size": 64, "flip": True, "rotate": True, "blur": True},
    "all": {
        **CROP, "base_size": 64, "flip": True, "rotate": True, "blur": True, "vertical_flip": True,
        "rotate90": True, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2,
        "cutout": 3, "max_class_ratio": 0.7, "rare_classes": ["road"], "copy_paste": 0.5,
        "mosaic": 0.5,
    },
}  # fmt: skip


def make_files(folder: Path) -> None:
    """Write a labelled set of 8-bit images and one of four-band float arrays.

    Args:
        folder: Gets `images/`, `masks/`, `bands/` and `held_out/`.
    """
    rng = np.random.default_rng(7)
    for name in ("images", "masks", "bands", "held_out"):
        (folder / name).mkdir(parents=True)
    for number in range(24):
        height, width = 60 + number % 3 * 10, 80 - number % 4 * 6
        coarse = rng.choice(4, size=(5, 6), p=[0.5, 0.25, 0.2, 0.05]).astype(np.uint8)
        mask = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
        mask[:2] = 255
        colours = np.array([[90, 120, 60], [160, 80, 30], [20, 90, 20], [128, 128, 128]])
        image = colours[np.minimum(mask, 3)] + rng.integers(-40, 40, (height, width, 3))
        image = image.clip(0, 255).astype(np.uint8)
        to = folder / ("held_out" if number >= 20 else "images")
        cv2.imwrite(str(to / f"{number}.png"), image)
        if number < 20:
            cv2.imwrite(str(folder / f"masks/{number}.png"), mask)
            bands = np.concatenate([image, image[..., :1] // 2], axis=2) / np.float32(255)
            np.save(folder / f"bands/{number}.npy", bands.astype(np.float32))


def loader_section(data: Path, images: str = "images", **args: Any) -> dict[str, Any]:
    """Return a `train_loader` section that reads the files of `make_files()`."""
    return {
        "type": "Folder",
        "args": {
            "data_dir": str(data), "images": images, "masks": "masks", "classes": CLASSES,
            "batch_size": 4, "num_workers": 0, **args,
        },
    }  # fmt: skip


def shapes_section(split: str, **args: Any) -> dict[str, Any]:
    """Return a section of generated images."""
    base = {"split": split, "num_images": 12, "image_size": 48, "batch_size": 4, "num_workers": 0}
    return {"type": "Shapes", "args": {**base, **args}}


def configs(data: Path, saved: Path) -> dict[str, dict[str, Any]]:
    """Return the three trainings by name."""
    trainer = {
        "epochs": 2, "save_dir": str(saved), "log_dir": str(saved / "runs"), "tensorboard": False,
        "save_period": 2,
    }  # fmt: skip
    shared = {
        "n_gpu": 0, "lr_scheduler": {"type": "OneCycle"},
        "optimizer": {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}},
    }  # fmt: skip
    unet = {"type": "UNet", "args": {"base_channels": 4}}
    shapes = {
        "train_loader": shapes_section("train", shuffle=True, augment=True, flip=True, rotate=True),
        "val_loader": shapes_section("val", val=True),
    }
    return {
        "shapes_unet": {
            **shared, **shapes, "name": "shapes_unet", "arch": unet, "seed": 3,
            "loss": "CE_DiceLoss", "trainer": trainer,
        },
        "folder_pspnet": {
            **shared, "name": "folder_pspnet", "seed": 5,
            "arch": {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": False}},
            "train_loader": loader_section(
                data, shuffle=True, val_split=0.3, base_size=64, flip=True, copy_paste=0.5,
                paste_classes=["road"], mosaic=0.5, cutout=2, batch_size=8, **CROP,
            ),
            "loss": "LovaszSoftmax",
            "optimizer": {"type": "AdamW", "args": {"lr": 0.001}, "differential_lr": True},
            "trainer": {**trainer, "accumulation_steps": 2, "ema_decay": 0.9, "clip_grad_norm": 1},
        },
        "two_processes": {
            **shared, **shapes, "name": "two_processes", "arch": unet, "seed": 3,
            "use_synch_bn": True, "loss": "CrossEntropyLoss2d", "trainer": trainer,
        },
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Digests of the checkout in the working directory


@functools.cache
def find(*names: str) -> Any:
    """Return what a checkout defines under one of these names, whichever module holds it."""
    here = Path.cwd()
    for path in sorted(here.rglob("*.py")):
        module = path.relative_to(here).with_suffix("")
        if module.parts[0] in ("tests", "benchmarks", "docs"):
            continue
        for node in ast.parse(path.read_text()).body:
            targets = getattr(node, "targets", [getattr(node, "target", node)])
            defined = {getattr(target, "id", getattr(target, "name", None)) for target in targets}
            if found := defined & set(names):
                return getattr(importlib.import_module(".".join(module.parts)), found.pop())
    raise SystemExit(f"{here} defines none of {', '.join(names)}")


def digest(value: Any) -> str:
    """Return the SHA-256 of arrays, tensors and plain data, to the last bit."""
    import torch

    sha = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            item = item.detach().cpu().contiguous().numpy()
        if isinstance(item, np.ndarray):
            sha.update(f"{item.dtype}{item.shape}".encode())
            sha.update(np.ascontiguousarray(item).tobytes())
        elif isinstance(item, Mapping):
            for key in sorted(item, key=str):
                sha.update(str(key).encode())
                add(item[key])
        elif isinstance(item, (list, tuple)):
            sha.update(f"[{len(item)}".encode())
            for entry in item:
                add(entry)
        else:
            sha.update(repr(item).encode())

    add(value)
    return sha.hexdigest()


def augmented(data: Path) -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Yield the image (H, W, C) and label (H, W) of 200 samples of each augmentation."""
    build_loader, check = find("build_loader"), find("check_config")
    cases = {f"8-bit {name}": ("images", args) for name, args in AUGMENTATIONS.items()}
    statistics = {"mean": [0.4, 0.4, 0.3, 0.2], "std": [0.2] * 4}
    coloured = {"brightness", "contrast", "saturation", "hue"}
    for name, args in AUGMENTATIONS.items():
        if name not in coloured:
            kept = {key: value for key, value in args.items() if key not in coloured}
            cases[f"float {name}"] = ("bands", {**kept, **statistics})
    for name, (images, args) in cases.items():
        tree = configs(data, data / "saved")["shapes_unet"]
        tree["train_loader"] = loader_section(data, images, **args)
        tree["trainer"]["val"] = False
        tree["trainer"]["monitor"] = "off"
        del tree["val_loader"]
        samples = []
        for seed in range(10):
            loader = build_loader(check_tree(check, {**tree, "seed": seed}), "train_loader")
            for epoch in range(1, 6):
                for index in range(4):
                    sample = loader.samples.sample(epoch, (index * 5 + seed) % 20)
                    samples.append((sample.image, sample.label))
        assert len(samples) == SAMPLES
        yield name, samples


def check_tree(check_config: Any, tree: dict[str, Any]) -> Any:
    """Check a config, under the names that the registry and the metrics have had."""
    return check_config(
        tree,
        find("SECTIONS", "PARTS"),
        "same_numbers",
        find("VALIDATION_METRICS", "VALIDATION_FIGURES"),
        find("TRAINING_METRICS", "TRAINING_FIGURES"),
    )


def digests(data: Path, work: Path) -> dict[str, str]:
    """Return every digest of the checkout in the working directory by its name.

    Args:
        data: What `make_files()` wrote.
        work: An empty folder for the runs.
    """
    import torch

    torch.set_num_threads(1)
    found = {}
    for name, samples in augmented(data):
        found[f"samples, {name}"] = digest(samples)
    for name, tree in configs(data, work / "saved").items():
        config = work / f"{name}.json"
        config.write_text(json.dumps(tree))
        start = [sys.executable]
        if name == "two_processes":
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        run([*start, "train.py", "--config", str(config), "--device", "cpu"])
        (folder,) = {path.parent for path in (work / "saved" / name).glob("*/last.pth")}
        best = folder / "best_model.pth"
        found[f"{name}: losses"] = digest((folder / "steps.jsonl").read_text())
        checkpoint = torch.load(folder / "last.pth", weights_only=True)
        for key in ("state_dict", "ema", "optimizer", "rng", "lr_scheduler", "monitor_best"):
            found[f"{name}: {key}"] = digest(checkpoint.get(key))
        found[f"{name}: keys of the checkpoint"] = digest(sorted(checkpoint))
        for mode in ("whole", "sliding", "multiscale"):
            to = work / f"{name}_{mode}"
            run([sys.executable, "inference.py", "--model", str(best), "--mode", mode,
                 "--images", str(data / "held_out"), "--output", str(to)])  # fmt: skip
            masks = {path.name: cv2.imread(str(path), -1) for path in sorted(to.glob("*.png"))}
            assert len(masks) == 4, masks.keys()
            found[f"{name}: masks, {mode}"] = digest(masks)
        report = work / f"{name}_scores.json"
        run([sys.executable, "evaluate.py", "--model", str(best), "--json", str(report)])
        text = report.read_text().replace(str(work), "")
        found[f"{name}: scores"] = digest(without_times(json.loads(text)))
    return found


def without_times(tree: Any) -> Any:
    """Return JSON without sentences and what differs between runs: dates, durations, folders."""
    if isinstance(tree, dict):
        timed = ("date", "second", "time", "model", "checkpoint", "command", "versions", "notes")
        return {
            key: without_times(value)
            for key, value in tree.items()
            if not any(word in key for word in timed)
        }
    return [without_times(value) for value in tree] if isinstance(tree, list) else tree


def run(command: list[str]) -> None:
    """Run a program of the checkout; its output is shown where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


# --------------------------------------------------------------------------------------------------
# Two checkouts


def digests_of(checkout: Path, data: Path, work: Path) -> dict[str, str]:
    """Return the digests of a checkout, computed by this file's code on that checkout's code."""
    work.mkdir()
    result = work / "digests.json"
    code = (
        "import json, pathlib, runpy, sys\n"
        "sys.path.insert(0, '')\n"
        f"here = runpy.run_path({str(Path(__file__).resolve())!r})\n"
        f"found = here['digests'](pathlib.Path({str(data)!r}), pathlib.Path({str(work)!r}))\n"
        f"pathlib.Path({str(result)!r}).write_text(json.dumps(found))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, env=environment)
    return dict(json.loads(result.read_text()))


def main() -> int:
    """Compare the working tree with a commit; return 1 where a number differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="what the working tree is compared with")
    commit = parser.parse_args().commit
    known = ["git", "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}"]
    if subprocess.run(known, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        parser.error(f"there is no commit {commit}; git log --oneline lists them")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        before = folder / "before"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(before), commit],
            cwd=ROOT, check=True,
        )  # fmt: skip
        try:
            make_files(folder / "data")
            former = digests_of(before, folder / "data", folder / "work_before")
            now = digests_of(ROOT, folder / "data", folder / "work_now")
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(before)], cwd=ROOT, check=True
            )
    names = {**former, **now}
    differing = [name for name in names if former.get(name) != now.get(name)]
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(names) - len(differing)} of {len(names)} digests are the same as in {commit}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
