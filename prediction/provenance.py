"""What the products in a folder were made with: those of one image shall not contradict each other.

A manifest knows that of each image. Without one, the folder has a hidden file with the models and
options of the runs that have written into it.
"""

import argparse
import functools
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


class Provenance:
    """What a run makes its products with, beside what those in its output folder were made with.

    Args:
        models: The checkpoints.
        arguments: The command line.
    """

    def __init__(self, models: Sequence[str], arguments: argparse.Namespace) -> None:
        self._models, self._arguments = models, arguments
        self._folder = Path(arguments.output)

    def check(self, work: Work, outputs: Outputs) -> None:
        """Compare this run with earlier ones of its output folder.

        Where the options or the models differ, products that are kept are named in a note.

        Raises:
            ValueError: If an image would get products that were not made like its other ones.
        """
        if not self.difference:
            return
        mixed = [image for image in work.pending if has_some(image, outputs)]
        if mixed:
            raise ValueError(
                f"--output: {self._folder} has products that were made otherwise "
                f"({self.difference}), also of {mixed[0].name}, which would get new ones beside "
                "them; --overwrite makes all of them anew, or choose another folder"
            )
        self.note_kept(len(work.images) - len(work.pending))

    @functools.cached_property
    def difference(self) -> str:
        """How products in the folder differ from those of this run; empty if none do.

        Nor with `--overwrite`, or with a manifest, which knows more.

        Raises:
            DataError: If a model cannot be read.
        """
        if self._arguments.overwrite or self._arguments.manifest is not None:
            return ""
        differences = [_difference(earlier, self._run) for earlier in self._earlier()]
        return next((text for text in reversed(differences) if text), "")

    def note_kept(self, count: int) -> None:
        """Say that so many images keep products that this run would have made otherwise."""
        if count and self.difference:
            images = "image keeps" if count == 1 else "images keep"
            note = f"{count} {images} products that may have been made otherwise"
            print(
                plain_lines(f"note: {note} ({self.difference}); --overwrite makes them anew"),
                file=sys.stderr,
            )

    def record(self) -> None:
        """Note in the output folder what this run makes its products with.

        Raises:
            ValueError: If that cannot be written.
        """
        everything = self._arguments.overwrite and not self._arguments.shard
        runs = [] if everything else self._earlier()
        if self._run in runs:
            return
        try:
            text = json.dumps({"program": "inference.py", "runs": [*runs, self._run]}, indent=1)
            write_text(self._folder / NAME, f"{text}\n", overwrite=True)
        except OSError as error:
            refuse_full_disk(error)
            raise ValueError(
                f"--output: {self._folder} cannot be written to ({error.strerror})"
            ) from None

    @functools.cached_property
    def _run(self) -> Run:
        """What the products of this run depend on, as plain data."""
        options = {name: getattr(self._arguments, name) for name in OPTIONS}
        if self._arguments.config is not None:
            options["config"] = digest_file(self._arguments.config)
        # As it comes back from the file: lists, not tuples.
        plain: Run = json.loads(
            json.dumps({"models": digest_files(self._models), "options": options})
        )
        return plain

    def _earlier(self) -> list[Run]:
        """Return the runs that are noted in the folder; none if no note can be read."""
        try:
            runs = json.loads((self._folder / NAME).read_bytes())["runs"]
            return [{"models": run["models"], "options": dict(run["options"])} for run in runs]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def has_some(image: ImageFile, outputs: Outputs) -> bool:
    """Return whether some products of an image are there."""
    return any(map(os.path.exists, outputs.paths(image)))


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
