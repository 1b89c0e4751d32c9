"""Which run to go on with, and whether it is the same one."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.cli.launcher import launched_rank
from utils.config.file import name_problem
from utils.runs.model_file import nearest


def named_checkpoint(path: Path) -> Path:
    """The checkpoint of `--resume PATH`: a file, or `last.pth` of a run folder.

    Raises:
        ValueError: If the folder is no run, or there is nothing of this name.
    """
    if not os.path.exists(path):
        raise ValueError(f"--resume {path}: no such file{nearest(path, '--resume')}")
    if not path.is_dir():
        return path
    if (path / "last.pth").exists():
        return path / "last.pth"
    below = sorted(path.rglob("last.pth"), key=lambda p: p.stat().st_mtime)
    hint = f"; the latest below it is {below[-1].parent}" if below else ""
    raise ValueError(f"--resume {path}: the folder has no last.pth{hint}")


def changes_classes(change: str) -> bool:
    """Whether a line of `differences()` is about the classes."""
    return re.match(r"(train|val)_loader\.args\.(num_)?classes\b", change) is not None


def find_latest(tree: dict[str, Any]) -> Path | None:
    """`last.pth` of the run of this name that was written to last."""
    trainer = tree.get("trainer")
    save_dir = trainer.get("save_dir", "saved/") if isinstance(trainer, dict) else "saved/"
    name = str(tree.get("name"))
    if name_problem(name):  # it would be looked for elsewhere
        return None
    runs = Path(str(save_dir), name)
    return max(runs.glob("*/last.pth"), key=lambda path: path.stat().st_mtime, default=None)


def load_last(path: Path) -> dict[str, Any]:
    """A checkpoint; for a `last.pth` that is damaged the one before it, with a warning.

    Raises:
        CheckpointError: If there is none that can be used.
    """
    from utils.checkpoint.save_load import CheckpointError, load_checkpoint

    try:
        return load_checkpoint(path)
    except CheckpointError as error:
        before = path.with_name("previous.pth")
        if path.name != "last.pth" or not path.exists() or not before.exists():
            raise
        try:
            checkpoint = load_checkpoint(before)
        except CheckpointError as other:
            raise CheckpointError(f"{error}; and the one before it, {other}") from None
        if not launched_rank():
            print(f"warning: {error}; going on from {before}", file=sys.stderr)
        return checkpoint


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from one that replaces it; None if there is no file."""
    try:
        # Opening asks a file server for the present file; a plain stat may come from a cache.
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def put_back_previous(run: Path) -> None:
    """Let a damaged `last.pth` be the one before it.

    A save keeps what it replaces as `previous.pth`: of these two, the damaged one.

    Raises:
        OSError: If it cannot be written.
    """
    from utils.checkpoint.save_load import CheckpointError, copy_of, load_checkpoint

    last, before = run / "last.pth", run / "previous.pth"
    if last.exists() and before.exists():
        try:
            load_checkpoint(last)
        except CheckpointError:
            copy_of(before, last)


class OtherClassesError(ValueError):
    """A run cannot go on, because its classes are not those of the checkpoint."""


def check_classes(stored: Any, names: Sequence[str]) -> None:
    """Hold the classes of the data against those of the run to be resumed.

    Args:
        stored: What the checkpoint's `meta` says of them; None in one that does not.
        names: Of the training data.

    Raises:
        OtherClassesError: If their number, a name, or the order differs.
    """
    if not isinstance(stored, (list, tuple)) or not stored or list(stored) == list(names):
        return
    said = []
    if len(stored) != len(names):
        said.append(f"train_loader has {len(names)} classes and the checkpoint {len(stored)}")
    pairs = enumerate(zip(stored, names, strict=False))
    said += [f"class {i} is {now!r} and was {old!r}" for i, (old, now) in pairs if now != old][:1]
    raise OtherClassesError("; ".join(said))


def new_run_from(
    checkpoint: Path, config: str | None, device: str | None, overrides: Sequence[str]
) -> str:
    """Describe how to begin a new run with the weights of a checkpoint.

    Args:
        checkpoint: The file that cannot be resumed.
        config: The config of the command line, if there is one.
        device: Likewise.
        overrides: Likewise.

    Returns:
        The line of the config, and the command.
    """
    best, own = (checkpoint.with_name(name) for name in ("best_model.pth", "config.json"))
    start = best if best.exists() else checkpoint
    words = ["python", "train.py"]
    if config is not None or own.exists():
        words += ["--config", config or str(own)]
    words += [] if device is None else ["--device", device]
    for override in (*overrides, f"init_from={start}"):
        words += ["-o", override]
    return (
        "a run cannot go on with other classes; begin a new one with its weights: write "
        f'"init_from": {json.dumps(str(start))} into the config, or type: {shlex.join(words)}'
    )


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two trees differ, and how."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            where = f"{path}.{key}" if path else key
            found += differences(old.get(key), new.get(key), where)
        return found
    if old == new:
        return []
    return [f"{path}: {json.dumps(new)} here, {json.dumps(old)} in the run to be resumed"]
