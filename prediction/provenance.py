"""What the products in a folder were made with: those of one image shall not contradict each other.

A manifest knows that of each image. Without one, the folder has a hidden file with the models and
options of the runs that have written into it.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prediction.jobs.image_file import ImageFile
from prediction.jobs.plan import Work
from prediction.outputs import Outputs
from utils.cli.sanitize import plain_lines
from utils.files.atomic_write import write_text
from utils.files.digest import digest_file, digest_files
from utils.files.output_files import refuse_full_disk

NAME = ".inference.json"
# The options that change what a model says of a pixel.
OPTIONS = (
    "mode", "scales", "flip", "merge", "window", "overlap", "blend", "amp", "unsure", "exif",
    "ensemble_weights",
)  # fmt: skip

Run = dict[str, Any]


def check_provenance(
    models: Sequence[str], arguments: argparse.Namespace, work: Work, outputs: Outputs
) -> None:
    """Compare this run with earlier ones of its output folder.

    Where the options or the models differ, products that are kept are named in a note.

    Raises:
        ValueError: If an image would get products that were not made like its other ones.
    """
    otherwise = difference_from_earlier(models, arguments, outputs.folder)
    if not otherwise:
        return
    mixed = [image for image in work.pending if has_some(image, outputs)]
    if mixed:
        raise ValueError(
            f"--output: {outputs.folder} has products that were made otherwise ({otherwise}), also "
            f"of {mixed[0].name}, which would get new ones beside them; --overwrite makes all of "
            "them anew, or choose another folder"
        )
    note_kept(len(work.images) - len(work.pending), otherwise)


def difference_from_earlier(
    models: Sequence[str], arguments: argparse.Namespace, folder: Path
) -> str:
    """Return how products that are in the folder differ from those of this run; nothing if none do.

    Raises:
        DataError: If a model cannot be read.
    """
    if arguments.overwrite or arguments.manifest is not None:
        return ""
    run = run_of(models, arguments)
    differences = [_difference(earlier, run) for earlier in _read(folder)]
    return next((text for text in reversed(differences) if text), "")


def has_some(image: ImageFile, outputs: Outputs) -> bool:
    """Return whether some products of an image are there."""
    return any(map(os.path.exists, outputs.paths(image)))


def note_kept(count: int, otherwise: str) -> None:
    """Say that images keep products that this run would have made otherwise."""
    if count and otherwise:
        images = "image keeps" if count == 1 else "images keep"
        note = f"{count} {images} products that may have been made otherwise ({otherwise})"
        print(f"note: {plain_lines(note)}; --overwrite makes them anew", file=sys.stderr)


def record_provenance(models: Sequence[str], arguments: argparse.Namespace, folder: Path) -> None:
    """Note in the output folder what this run makes its products with.

    Raises:
        ValueError: If that cannot be written.
    """
    run = run_of(models, arguments)
    runs = [] if arguments.overwrite and not arguments.shard else _read(folder)
    if run in runs:
        return
    try:
        text = json.dumps({"program": "inference.py", "runs": [*runs, run]}, indent=1)
        write_text(folder / NAME, f"{text}\n", overwrite=True)
    except OSError as error:
        refuse_full_disk(error)
        raise ValueError(f"--output: {folder} cannot be written to ({error.strerror})") from None


def run_of(models: Sequence[str], arguments: argparse.Namespace) -> Run:
    """Return what the products of a run depend on, as plain data.

    Raises:
        DataError: If a model cannot be read.
    """
    options = {name: getattr(arguments, name) for name in OPTIONS}
    if arguments.config is not None:
        options["config"] = digest_file(arguments.config)
    # As it comes back from the file: lists, not tuples.
    plain: Run = json.loads(json.dumps({"models": digest_files(models), "options": options}))
    return plain


def _read(folder: Path) -> list[Run]:
    """Return the runs that are noted in a folder; none if there is no note that can be read."""
    try:
        runs = json.loads((folder / NAME).read_bytes())["runs"]
        return [{"models": run["models"], "options": dict(run["options"])} for run in runs]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _difference(earlier: Run, run: Run) -> str:
    """Return how an earlier run differs; nothing if it does not."""
    if earlier["models"] != run["models"]:
        return "by another model"
    old, new = earlier["options"], run["options"]
    return ", ".join(
        f"{_option(name, old.get(name))} instead of {_option(name, new.get(name))}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def _option(name: str, value: Any) -> str:
    """Return an option as it is typed."""
    option = f"--{name.replace('_', '-')}"
    if value is None:
        return f"no {option}"
    return f"{option} {','.join(map(str, value)) if isinstance(value, list) else value}"
