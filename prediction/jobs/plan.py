"""Which files to write for which images; imports torch only where several processes share them."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prediction.jobs.find_images import ImageFile, exclude, find_images, wanted_extensions
from utils.cli.launcher import is_launched


@dataclasses.dataclass(frozen=True)
class Job:
    """One image, and the files to make of it."""

    image: Path
    mask: Path
    overlay: Path | None

    def outputs(self) -> list[Path]:
        """Return the files to make."""
        return [self.mask] if self.overlay is None else [self.mask, self.overlay]

    def is_done(self) -> bool:
        """Return whether all of them exist."""
        return all(path.exists() for path in self.outputs())


class Plan(NamedTuple):
    """All jobs, and those whose files are to be made."""

    jobs: Sequence[Job]
    pending: Sequence[Job]


def find_on_main(
    sources: Sequence[str], excluded: Sequence[str], extension: str | None, output: Path
) -> list[ImageFile]:
    """Return, on every process, the images that the main process finds.

    Raises:
        ValueError: If it finds none; see `find_images()` and `exclude()`.
    """

    def find() -> list[tuple[str, str]]:
        images = exclude(find_images(sources, wanted_extensions(extension), output), excluded)
        return [(str(path), str(relative)) for path, relative in images]

    return [ImageFile(Path(path), Path(relative)) for path, relative in run_on_main(find)]


def run_on_main(find: Callable[[], Any]) -> Any:
    """Return on every process what the main process finds, as plain data.

    Raises:
        ValueError: On every process, if the main process raises one.
    """
    if not is_launched():
        return find()
    from utils.distributed.collectives import run_on_main_and_broadcast

    return run_on_main_and_broadcast(find, ValueError)


def make_plan(images: Sequence[ImageFile], output: Path, *, overlay: bool, overwrite: bool) -> Plan:
    """Name the files to make; of several processes the main one sees which exist already.

    Raises:
        ValueError: If two of them would be the same file, or one is an image itself.
    """
    jobs = [
        Job(
            path,
            output / relative.with_name(relative.stem + ".png"),
            output / relative.with_name(relative.stem + "_overlay.png") if overlay else None,
        )
        for path, relative in images
    ]
    _check_outputs(jobs)
    pending = run_on_main(
        lambda: [index for index, job in enumerate(jobs) if overwrite or not job.is_done()]
    )
    return Plan(jobs, [jobs[index] for index in pending])


def _check_outputs(jobs: Sequence[Job]) -> None:
    images = {job.image.resolve() for job in jobs}
    owners: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs():
            other = owners.setdefault(path, job.image)
            if other != job.image:
                raise ValueError(
                    f"{other} and {job.image} would both become {path}: rename one, choose with "
                    "--extension, or run them with two --output folders"
                )
            if path.resolve() in images:
                raise ValueError(
                    f"--output: {path} is one of the images and would be replaced; choose "
                    "another folder"
                )


def check_output_path(output: Path) -> None:
    """Refuse an output folder that cannot exist.

    Raises:
        ValueError: If the path, or one above it, is a file.
    """
    existing = next(p for p in (output, *output.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ValueError(f"--output: {output} is not a folder, or is below something that is none")


def make_output_folder(output: Path) -> None:
    """Make the folder, and find out now whether it can be written to.

    Raises:
        ValueError: If not.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output: {output} cannot be made ({error.strerror})") from None
    if not os.access(output, os.W_OK):
        raise ValueError(f"--output: {output} cannot be written to")
