"""Shards: which of several independent runs predicts an image."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import NamedTuple


class Shard(NamedTuple):
    """One of several runs that share the images without knowing of each other."""

    number: int  # from 1 to `total`
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str, environ: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard that `--shard` names: `3/64`, or `slurm` for the task of a job array.

    A job array is taken only where it is asked for: a single run inside one means all images.

    Raises:
        ValueError: If it is none.
    """
    if text == "slurm":
        return shard_of_environment(environ)
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(
            f"--shard: {text!r} is no shard: write 1/64 for the first of 64 up to 64/64, or slurm "
            "in a job array"
        )
    return Shard(int(match[1]), int(match[2]))


def in_shard(name: str | PurePath, shard: Shard) -> bool:
    """Return whether an image belongs to a shard.

    Each image belongs to exactly one, which depends on its `ImageFile.name` alone: not on other
    images, their order or the machine. An umlaut counts as one character however it is stored.
    """
    text = name if isinstance(name, str) else name.as_posix()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shard.total == shard.number - 1


def shard_of_environment(environ: Mapping[str, str]) -> Shard:
    """Return the shard of a task in a SLURM job array, such as `sbatch --array=1-64` starts.

    Raises:
        ValueError: If this is no such task, or the array has gaps, whose images nobody would
            predict.
    """
    try:
        task, first, last, count = (
            int(environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "MAX", "COUNT")
        )
        step = int(environ.get("SLURM_ARRAY_TASK_STEP") or 1)
    except (KeyError, ValueError):
        raise ValueError(
            "--shard slurm: this is no task of a SLURM job array (SLURM_ARRAY_TASK_ID, _MIN, _MAX "
            "and _COUNT are not all there); start it with sbatch --array=1-64, or say --shard 1/64"
        ) from None
    if step < 1 or not first <= task <= last or (task - first) % step:
        raise ValueError(f"--shard slurm: task {task} is not in the array {first}-{last}:{step}")
    if count != (last - first) // step + 1:
        raise ValueError(
            f"--shard slurm: the array has {count} tasks between {first} and {last}, so it has "
            "gaps; number them without any, as in --array=1-64, or say which of how many this is: "
            '--shard "$SLURM_ARRAY_TASK_ID/64"'
        )
    if count == 1 and task > 1:
        raise ValueError(
            f"--shard slurm: the array has no task but {task}, which would predict all images; to "
            f"run one of 64 shards again, say --shard {task}/64"
        )
    return Shard((task - first) // step + 1, count)


def shard_path(path: Path, shard: Shard | None) -> Path:
    """Return the file of a shard beside those of the others: `results-03-of-64.csv`."""
    if shard is None:
        return path
    number = str(shard.number).zfill(len(str(shard.total)))
    return path.with_name(f"{path.stem}-{number}-of-{shard.total}{path.suffix}")


def shard_of_path(path: Path) -> Shard | None:
    """Return the shard of a file that `shard_path()` has named, or None for any other."""
    match = re.search(r"-(\d{1,9})-of-(\d{1,9})$", path.stem, re.ASCII)
    return Shard(int(match[1]), int(match[2])) if match else None
