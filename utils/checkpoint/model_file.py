"""The file that `--model` names: a checkpoint, or the best one of a run folder.

Imports nothing heavy: a mistyped path is reported before torch is loaded.
"""

import difflib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

EXPORTED = (".onnx", ".xml", ".pt2", ".tflite")  # endings of files that `export.py` writes
NAMES = ("best_model.pth", "last.pth")  # files of a run folder, the better one first
DEPTH = 3  # folders below one that may hold runs: <save_dir>/<name>/<time>
RUNS = "saved"  # where runs go unless the config says otherwise


def find_model(path: str) -> tuple[str, str]:
    """Return the checkpoint that a path names.

    Args:
        path: A file, or the folder of a run, for its `best_model.pth`, or its `last.pth` if it has
            no best model.

    Returns:
        The file, and a line that says which one was chosen, which is empty if the path is a file.

    Raises:
        ValueError: If there is none; the message names the nearest path that exists.
    """
    named = Path(path)  # whose own methods raise for a name that is too long
    if os.path.isfile(named):
        return path, ""
    if not os.path.isdir(named):
        raise ValueError(f"--model: there is no file {path}{nearest(named, '--model')}")
    there = [named / name for name in NAMES if os.path.isfile(named / name)]
    if not there:
        raise ValueError(
            f"--model: the folder {path} has no {' and no '.join(NAMES)}{_inside(named, '--model')}"
        )
    why = "" if there[0].name == NAMES[0] else f" ({path} has no {NAMES[0]})"
    return str(there[0]), f"Model: {there[0]}{why}"


def is_exported(path: str | Path) -> bool:
    """Return whether a file's name is that of an exported file."""
    return Path(path).suffix.lower() in EXPORTED


def nearest(path: Path, option: str) -> str:
    """Return the end of a message on a path that does not exist: the path that may be meant."""
    folder = Path(path.anchor)
    for index, name in enumerate(parts := path.relative_to(path.anchor).parts):
        if os.path.exists(folder / name) or name == os.pardir:
            folder /= name
            continue
        close = difflib.get_close_matches(name, _names_in(folder), n=1, cutoff=0.6)
        if close:
            found = folder.joinpath(close[0], *parts[index + 1 :])
            found = found if os.path.exists(found) else folder / close[0]
            return f"; did you mean {option} {shlex.quote(str(found))}?"
        break
    if os.path.isdir(folder) and folder not in (Path(), Path(path.anchor)):
        return _inside(folder, option) or f"; {folder} exists and has no {name}"
    return _latest(latest_below(Path(RUNS)), option, "the latest run is")


def latest_below(folder: Path) -> Path | None:
    """Return the newest run folder below a folder."""
    files = [
        file
        for name in NAMES
        for depth in range(1, DEPTH + 1)
        for file in folder.glob("*/" * depth + name)
        if os.path.isfile(file)
    ]
    return max(files, key=os.path.getmtime).parent if files else None


def _inside(folder: Path, option: str) -> str:
    """Return what may be meant by a folder that is no run's."""
    if (run := latest_below(folder)) is not None:
        return _latest(run, option, "the latest run below it is")
    if own := [name for name in NAMES if os.path.isfile(folder / name)]:
        return f"; did you mean {option} {shlex.quote(str(folder / own[0]))}?"
    files = sorted(name for name in _names_in(folder) if name.endswith((".pth", ".pt")))
    more = ", ..." if len(files) > 3 else ""
    return f"; {folder} contains {', '.join(files[:3])}{more}" if files else ""


def _latest(run: Path | None, option: str, words: str) -> str:
    return "" if run is None else f"; {words} {run}: {option} {shlex.quote(str(run))}"


def _names_in(folder: Path) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
