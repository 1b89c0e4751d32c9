"""Which run to go on with, and whether it is the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def named_checkpoint(path: Path) -> Path:
    """The checkpoint of `--resume PATH`: a file, or `last.pth` of a run folder.

    Raises:
        ValueError: If the folder is no run.
    """
    if not path.is_dir() or (path / "last.pth").exists():
        return path / "last.pth" if path.is_dir() else path
    below = sorted(path.rglob("last.pth"), key=lambda p: p.stat().st_mtime)
    hint = f"; the latest below it is {below[-1].parent}" if below else ""
    raise ValueError(f"--resume {path}: the folder has no last.pth{hint}")


def find_latest(tree: dict[str, Any]) -> Path | None:
    """The newest `last.pth` among the runs of this name."""
    trainer = tree.get("trainer")
    save_dir = trainer.get("save_dir", "saved/") if isinstance(trainer, dict) else "saved/"
    found = Path(str(save_dir), str(tree.get("name"))).glob("*/last.pth")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


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
