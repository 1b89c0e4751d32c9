"""Which files to write for which images; imports torch only where several processes share them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prediction.jobs.claims import Claims, Outputs
from prediction.jobs.find_images import exclude, find_images, wanted_extensions
from prediction.jobs.folders import Folders
from prediction.jobs.image_file import ImageFile
from prediction.jobs.shards import Shard, in_shard
from utils.cli.launcher import is_launched
from utils.files.data_file import StrPath


class Work(NamedTuple):
    """The images of a run, and those of which an output is missing."""

    images: Sequence[ImageFile]
    pending: Sequence[ImageFile]


def find_on_main(
    sources: Sequence[str],
    excluded: Sequence[str],
    extension: str | None,
    output: Path,
    *,
    column: str | None = None,
    allow_download: bool = False,
) -> list[ImageFile]:
    """Return, on every process, the images that the main process finds.

    Raises:
        ValueError: If it finds none; see `find_images()` and `exclude()`.
    """

    def find() -> list[ImageFile]:
        images = find_images(
            sources,
            wanted_extensions(extension),
            output,
            column=column,
            allow_download=allow_download,
        )
        return exclude(images, excluded)

    return [ImageFile(*image) for image in run_on_main(find)]


def run_on_main(find: Callable[[], Any]) -> Any:
    """Return on every process what the main process finds, as plain data.

    Raises:
        ValueError: On every process, if the main process raises one.
    """
    if not is_launched():
        return find()
    from utils.distributed.collectives import run_on_main_and_broadcast

    return run_on_main_and_broadcast(find, ValueError)


def plan_work(
    images: Sequence[ImageFile], outputs: Outputs, *, shard: Shard | None = None, overwrite: bool
) -> Work:
    """Choose the images of a shard, and those to predict; of several processes the main one looks.

    Args:
        images: The images of all shards.
        outputs: Returns the files to make of an image.
        shard: The shard of this run; None for all images.
        overwrite: Whether to make what exists, too, as where a manifest decides about each image.

    Raises:
        ValueError: If two images of any shards would make the same file, or one is an image itself.
    """

    def look() -> tuple[list[int], list[int]]:
        there = Folders()
        claims = Claims(outputs, there.real)
        for image in images:
            claims.claim(image)
        own = [n for n, image in enumerate(images) if not shard or in_shard(image.name, shard)]
        return own, [n for n in own if overwrite or not is_done(outputs(images[n]), there.exists)]

    own, pending = run_on_main(look)
    return Work([images[n] for n in own], [images[n] for n in pending])


def is_done(paths: Sequence[StrPath], exists: Callable[[str], bool] = os.path.exists) -> bool:
    """Return whether all outputs of an image exist."""
    return all(exists(os.fspath(path)) for path in paths)


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
