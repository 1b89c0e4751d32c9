"""Find and read the newest checkpoint of a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.checkpoint.model_file import nearest
from utils.cli.launcher import launched_rank
from utils.config.file import name_problem

if TYPE_CHECKING:
    from utils.checkpoint.content import ResumePoint


def named_checkpoint(path: Path) -> Path:
    """Return the checkpoint of `--resume PATH`: a file, or `last.pth` of a run folder.

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


def find_latest(tree: dict[str, Any]) -> Path | None:
    """Return the newest `last.pth` of the runs that have the name of a config."""
    trainer = tree.get("trainer")
    save_dir = trainer.get("save_dir", "saved/") if isinstance(trainer, dict) else "saved/"
    name = str(tree.get("name"))
    if name_problem(name):  # it would be looked for elsewhere
        return None
    runs = Path(str(save_dir), name)
    return max(runs.glob("*/last.pth"), key=lambda path: path.stat().st_mtime, default=None)


def load_last(path: Path) -> ResumePoint:
    """Read a checkpoint; instead of a damaged `last.pth` the one before it, with a warning.

    Raises:
        CheckpointError: If there is none that can be used.
    """
    from utils.checkpoint.content import as_resume_point
    from utils.checkpoint.save_load import CheckpointError, load_checkpoint

    try:
        content = load_checkpoint(path)
    except CheckpointError as error:
        previous = path.with_name("previous.pth")
        if path.name != "last.pth" or not path.exists() or not previous.exists():
            raise
        try:
            content = load_checkpoint(previous)
        except CheckpointError as other:
            raise CheckpointError(f"{error}; and the one before it, {other}") from None
        if not launched_rank():
            print(f"warning: {error}; going on from {previous}", file=sys.stderr)
    return as_resume_point(content, path)


def put_back_previous(run: Path) -> None:
    """Replace a damaged `last.pth` by the checkpoint before it.

    A save keeps what it replaces as `previous.pth`: of these two, the damaged one.

    Raises:
        OSError: If it cannot be written.
    """
    from utils.checkpoint.save_load import CheckpointError, copy_of, load_checkpoint

    last, previous = run / "last.pth", run / "previous.pth"
    if last.exists() and previous.exists():
        try:
            load_checkpoint(last)
        except CheckpointError:
            copy_of(previous, last)


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from one that replaces it; None if there is no file."""
    try:
        # Opening asks a file server for the present file; a plain stat may come from a cache.
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
