"""What the products in a folder were made with: those of one image shall not contradict each other.

The output folder has a hidden file with the models and options of the runs that have written into
it, and when each began. The time of a file then says which run has made it.
"""

import argparse
import functools
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from prediction.jobs.image_file import ImageFile
from prediction.jobs.plan import Work
from prediction.outputs import Outputs, RunProduct
from prediction.products.summary import SummaryPage
from prediction.products.table import RunTable
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

# "models" and "options", which decide what the products say; the "endings" of their names; when it
# "began", in nanoseconds.
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
        self._replaces = arguments.overwrite or arguments.manifest is not None
        self._runs = self._read()

    @functools.cached_property
    def differs(self) -> bool:
        """Whether an earlier run in the folder had other models or options.

        Raises:
            DataError: If a model cannot be read.
        """
        return any(_difference(run, self._run) for run in self._runs)

    def check(self, work: Work, outputs: Outputs) -> None:
        """Refuse new products beside those that an earlier run has made otherwise.

        Products that are kept and were made otherwise are named in a note.

        Raises:
            ValueError: If an image would have products of both kinds.
        """
        if not self.differs:
            return
        others = self._others_of_run(outputs)
        for image in work.pending:
            self.check_image(image, outputs)
            for path, product in others.items():
                if product.has(image.relative):
                    self.check_files((), [path])
        pending = {image.name for image in work.pending}
        kept = (image for image in work.images if image.name not in pending)
        self.note_kept([how for image in kept for how in self.differences(image, outputs)])

    def check_image(self, image: ImageFile, outputs: Outputs) -> None:
        """Refuse new products of an image beside one that was made otherwise.

        Raises:
            ValueError: If there is one.
        """
        if self.differs:
            own = set(outputs.paths(image))
            others = {image.output(outputs.folder, ending) for ending in self._endings}
            self.check_files(own, others - own)

    def check_files(self, own: Collection[str], others: Collection[str]) -> None:
        """Refuse to write files beside others that were made otherwise.

        Args:
            own: The files that are written; they may exist.
            others: Files of the same image that are not.

        Raises:
            ValueError: If one of those that stay was made otherwise.
        """
        for path in sorted({*others, *(() if self._replaces else own)}):
            if how := self._otherwise(path):
                fix = (
                    "make that anew too, see --save, or remove it"
                    if self._replaces
                    else "--overwrite makes those that --save names anew"
                )
                raise ValueError(
                    f"{path} was made otherwise ({how}), and would lie beside new products of the "
                    f"same image; {fix}, or choose another --output folder"
                )

    def differences(self, image: ImageFile, outputs: Outputs) -> list[str]:
        """Return how the products of an image that are there, and that this run makes, differ."""
        paths = outputs.paths(image) if self.differs else ()
        return [how for path in paths if (how := self._otherwise(path))]

    def note_kept(self, differences: Sequence[str]) -> None:
        """Say that products are kept that this run would have made otherwise.

        Args:
            differences: How each of them was made.
        """
        if differences:
            count = len(differences)
            text = "1 product is" if count == 1 else f"{count} products are"
            text = f"note: {text} kept that were made otherwise ({differences[-1]})"
            print(plain_lines(f"{text}; --overwrite makes them anew"), file=sys.stderr)

    def record(self, outputs: Outputs) -> None:
        """Note in the output folder what this run makes its products with.

        Raises:
            ValueError: If that cannot be written.
        """
        endings = endings_of(outputs)
        if self._runs and not _difference(self._runs[-1], self._run):
            if endings <= set(self._runs[-1]["endings"]):
                return
            self._runs[-1]["endings"] = sorted(endings | set(self._runs[-1]["endings"]))
        else:
            run = {**self._run, "endings": sorted(endings), "began": 0}
            self._runs.append(run)
            self._write()
            # By the clock of the disk, which sets the times of the products, too.
            run["began"] = os.stat(self._folder / NAME).st_mtime_ns
        self._write()

    def _others_of_run(self, outputs: Outputs) -> dict[str, RunProduct]:
        """Return the table and the page, if they are there and were made otherwise, and stay."""
        names = {kind.name for kind in outputs.kinds}
        found: dict[str, RunProduct] = {}
        for name, file, opener in (
            ("table", "table.csv", RunTable), ("summary", "index.html", SummaryPage)
        ):  # fmt: skip
            path = self._folder / file
            if name not in names and self._otherwise(str(path)):
                found[str(path)] = opener(self._folder)
        return found

    def _write(self) -> None:
        text = json.dumps({"program": "inference.py", "runs": self._runs}, indent=1)
        try:
            write_text(self._folder / NAME, f"{text}\n", overwrite=True)
        except OSError as error:
            refuse_full_disk(error)
            raise ValueError(
                f"--output: {self._folder} cannot be written to ({error.strerror})"
            ) from None

    def _otherwise(self, path: str) -> str:
        """Return how a file was made, if it is there and not as this run makes it."""
        try:
            time = os.stat(path).st_mtime_ns
        except OSError:
            return ""
        makers = [run for run in self._runs if run["began"] <= time]
        return _difference(makers[-1], self._run) if makers else ""

    @functools.cached_property
    def _endings(self) -> set[str]:
        """The ends of the products' names of all runs that differ from this one."""
        runs = (run for run in self._runs if _difference(run, self._run))
        return {ending for run in runs for ending in run["endings"]}

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

    def _read(self) -> list[Run]:
        """Return the runs that are noted in the folder; none if no note can be read."""
        try:
            runs = json.loads((self._folder / NAME).read_bytes())["runs"]
            return [
                {
                    "models": str(run["models"]),
                    "options": dict(run["options"]),
                    "endings": list(map(str, run["endings"])),
                    "began": int(run["began"]),
                }
                for run in runs
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def endings_of(outputs: Outputs) -> set[str]:
    """Return the ends of the products' names, behind that of the image."""
    return {
        str(kind.path(Path(), Path("x"), geo)).removeprefix("x")
        for kind in outputs.per_image
        for geo in (False, True)
    }


def _difference(earlier: Run, run: Run) -> str:
    """Return how an earlier run differs; empty if it does not."""
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
