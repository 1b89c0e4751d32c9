"""What a run begins with: a config, or the checkpoint of a run to go on with."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from utils.checkpoint.last import find_latest, load_last, named_checkpoint, stamp_of
from utils.cli.command_line import DEFAULT_CONFIG
from utils.cli.launcher import launched_rank
from utils.cli.sanitize import first_line
from utils.config.errors import ConfigError
from utils.config.file import apply_overrides, include_pipelines, parse_config
from utils.runs.run_lock import RunLock

if TYPE_CHECKING:
    from trainer import Trainer
    from utils.checkpoint.content import ResumePoint


class Inputs(NamedTuple):
    """What a run begins with."""

    tree: dict[str, Any]  # the config, not checked yet
    checkpoint: ResumePoint | None = None  # what to go on from; None begins a new run
    run: Path | None = None  # the run folder to go on in; None makes a new one
    source: Path | None = None  # the checkpoint's file
    stamp: tuple[int, ...] | None = None  # what `stamp_of(source)` was before it was read
    new_run: str = ""  # how to begin a new run with the weights of the checkpoint instead


def read_inputs(arguments: argparse.Namespace) -> Inputs:
    """Read the config's tree and, to resume, the checkpoint of a run.

    Raises:
        ValueError: If a file cannot be used, or `--config` differs from the run to be resumed.
    """
    if arguments.resume in (None, "auto"):
        tree = apply_overrides(
            parse_config(arguments.config or DEFAULT_CONFIG), arguments.overrides
        )
        path = find_latest(tree) if arguments.resume else None
        if path is None:
            if arguments.resume and not launched_rank():
                print("no earlier run to resume; starting a new one")
            return Inputs(include_pipelines(tree))
    else:
        path = named_checkpoint(Path(arguments.resume))
    if not launched_rank():
        print(f"resuming {path}")
    return _read_run(path, arguments)


def _read_run(path: Path, arguments: argparse.Namespace) -> Inputs:
    stamp = stamp_of(path)
    checkpoint = load_last(path)
    if not checkpoint.config:
        problem = "contains no config; it is not a checkpoint of a training run"
        raise ConfigError(str(path), [problem])
    tree = include_pipelines(apply_overrides(checkpoint.config, arguments.overrides))
    new_run = how_to_begin_new_run(path, arguments)
    if arguments.config is not None:
        given = apply_overrides(parse_config(arguments.config), arguments.overrides)
        changes = differences(tree, include_pipelines(given))
        if changes:
            other = "leave out --config, or change it with -o"
            problems = [f"{one}; {new_run if _is_of_classes(one) else other}" for one in changes]
            raise ConfigError(arguments.config, problems)
    run = path.parent if _is_run_folder(path.parent, checkpoint.config) else None
    return Inputs(tree, checkpoint, run, path, stamp, new_run)


def _is_run_folder(folder: Path, tree: dict[str, Any]) -> bool:
    """Return whether a run of this name wrote a folder; a checkpoint may have been copied."""
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    name = stored.get("name") if isinstance(stored, dict) else None
    return (folder / "log.txt").is_file() and name == tree.get("name")


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return where two config trees differ, and how, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            where = f"{path}.{key}" if path else key
            found += differences(old.get(key), new.get(key), where)
        return found
    if old == new:
        return []
    return [f"{path}: {json.dumps(new)} here, {json.dumps(old)} in the run to be resumed"]


def _is_of_classes(change: str) -> bool:
    """Return whether a line of `differences()` is about the classes."""
    return re.match(r"(train|val)_loader\.args\.(num_)?classes\b", change) is not None


def how_to_begin_new_run(checkpoint: Path, arguments: argparse.Namespace) -> str:
    """Return the config line and the command of a new run with the weights of a checkpoint."""
    best, own = (checkpoint.with_name(name) for name in ("best_model.pth", "config.json"))
    start = best if best.exists() else checkpoint
    words = ["python", "train.py"]
    if arguments.config is not None or own.exists():
        words += ["--config", arguments.config or str(own)]
    words += [] if arguments.device is None else ["--device", arguments.device]
    for override in (*arguments.overrides, f"init_from={start}"):
        words += ["-o", override]
    return (
        "a run cannot go on with other classes; begin a new one with its weights: write "
        f'"init_from": {json.dumps(str(start))} into the config, or type: {shlex.join(words)}'
    )


def hold_run(inputs: Inputs, lock: RunLock) -> bool:
    """Keep other programs out of the run folder to go on in, if there is one.

    All ranks have to call this; the main one takes the lock.

    Returns:
        False if the checkpoint is no longer the one that every rank has read: another program has
        written it, and has ended before the lock was taken. The lock is free again then.

    Raises:
        ValueError: On every rank, if another program is using the folder.
    """
    from utils.distributed.collectives import all_gather_json, run_on_main_and_broadcast

    run, source = inputs.run, inputs.source
    if run is None or source is None:
        return True

    def take() -> None:
        try:
            lock.take(run)
        except OSError as error:
            raise ValueError(f"trainer.save_dir: cannot be written to ({error})") from None
        except ValueError as error:
            raise ValueError(f"{error}, or start a new run without --resume") from None

    run_on_main_and_broadcast(take, ValueError)
    if all(all_gather_json(stamp_of(source) == inputs.stamp)):
        return True
    lock.release()
    return False


def load_state(trainer: Trainer, checkpoint: ResumePoint, run: Path) -> None:
    """Let the trainer go on from a checkpoint.

    Raises:
        ValueError: If it cannot.
    """
    try:
        trainer.load_state_dict(checkpoint, len(trainer.train_loader))
    except Exception as error:  # of an optimizer's or a generator's state, which can raise anything
        raise ValueError(
            f"{run}: no run can go on from its checkpoint ({first_line(error)})"
        ) from None
