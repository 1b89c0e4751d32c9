"""The scores that evaluate.py has measured of the checkpoints of a run, in its folder."""

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

from utils.cli.choices import MODES, SPLITS

SCORES = "scores.jsonl"
METRIC = "Mean_IoU"
_MAX_BYTES = 1 << 16  # read from the end of the file: some hundred scores

logger = logging.getLogger(__name__)


def keep_score(checkpoint: str, *, split: str, mode: str, score: float) -> None:
    """Append the score of a checkpoint to `scores.jsonl` beside it, in the folder of a run.

    Nothing is written in other or read-only folders; a link in place of the file is not followed.
    """
    path = Path(checkpoint)
    if not all((path.parent / name).is_file() for name in ("config.json", "log.txt")):
        return
    try:
        entry = {**_identity(path), "split": split, "mode": mode, METRIC: score}
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path.parent / SCORES, flags, 0o666), "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except (OSError, ValueError) as error:
        logger.info("%s: the score is not kept (%s)", path.parent / SCORES, error)


def last_kept(checkpoint: str) -> dict[str, Any] | None:
    """Return the newest entry of a checkpoint as it is now; None if there is none.

    A checkpoint that was written again since it was scored has no score.
    """
    path = Path(checkpoint)
    try:
        identity = _identity(path)
        with (path.parent / SCORES).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_BYTES))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        entry = _parse(line)
        if entry is not None and entry.items() >= identity.items():
            return entry
    return None


def _identity(path: Path) -> dict[str, Any]:
    state = path.stat()
    return {"model": path.name, "bytes": state.st_size, "modified_ns": state.st_mtime_ns}


def _parse(line: str) -> dict[str, Any] | None:
    """Return an entry, or None for a line that is none: anyone may have written the file."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    score = entry.get(METRIC)
    good = isinstance(score, float) and math.isfinite(score)
    good = good and entry.get("mode") in MODES and entry.get("split") in SPLITS
    return entry if good else None
