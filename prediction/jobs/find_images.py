"""The images to predict, from the words of the command line; imports no torch."""

import fnmatch
import glob
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from prediction.jobs.addresses import check_address, name_of_address
from prediction.jobs.image_file import ImageFile
from prediction.jobs.image_folders import images_below, images_of_pattern
from prediction.jobs.image_lists import read_image_list
from prediction.jobs.source_kinds import TABLE_EXTENSIONS, kind_of_source
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.cli.launcher import launched_rank
from utils.cli.sanitize import plain_lines


def wanted_extensions(extension: str | None) -> tuple[str, ...]:
    """Return `(".png",)` for `png`, `.png` or `PNG`, and every known extension for None."""
    if extension is None:
        return IMAGE_EXTENSIONS
    return ("." + extension.lower().lstrip("*").lstrip("."),)


def find_images(
    sources: Sequence[str],
    extensions: Sequence[str],
    output: Path,
    *,
    column: str | None = None,
    allow_download: bool = False,
) -> list[ImageFile]:
    """Return all images that `--images` names, in order.

    Hidden files are left out, since copies from other systems are full of them, and so are files
    in the output folder, since those are masks. Nothing is downloaded.

    Args:
        sources: Folders, files, patterns, lists and addresses.
        extensions: The allowed extensions, in lower case. A file that is named itself, or by a
            list, may have any.
        output: The folder that the masks go to.
        column: The column of a table that has the images; see `read_image_list()`.
        allow_download: Whether http(s) addresses may be named.

    Raises:
        ValueError: If a source does not exist or cannot be used here, or no source has an image.
    """
    if column is not None and not any(s.lower().endswith(TABLE_EXTENSIONS) for s in sources):
        raise ValueError(
            "--column: is for a table, and --images names no .csv, .tsv or .parquet file"
        )
    found: dict[str, str] = {}
    for source in sources:
        found.update(_images_of(source, extensions, output, column, allow_download))
    if not found:
        endings = ", ".join(extension[1:] for extension in extensions)
        raise ValueError(
            f"--images: no image in {', '.join(sources)} (looked for: {endings}; --extension "
            "names another)"
        )
    return [ImageFile(*item) for item in found.items()]


def _images_of(
    source: str, extensions: Sequence[str], output: Path, column: str | None, allow_download: bool
) -> Iterable[ImageFile]:
    """Return the images of one source."""
    kind, path = kind_of_source(source), Path(source)
    if kind == "folder":
        if is_same_path(path, output) and ".png" in extensions:
            raise ValueError(
                f"--output: {output} is the folder of the images, where the next run would "
                "take the masks for images; choose another"
            )
        return images_below(path, extensions, output)
    if kind == "pattern":
        return images_of_pattern(source, extensions, output)
    if kind == "url":
        check_address(source, allow_download=allow_download)
        return [ImageFile(source, os.path.basename(name_of_address(source)))]
    if not path.is_file():
        raise ValueError(f"--images: there is no file or folder {source}")
    if kind == "list":
        return read_image_list(path, column, allow_download=allow_download)
    return [ImageFile(str(path), path.name)]


def is_same_path(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file or folder."""
    return os.path.realpath(one) == os.path.realpath(other)


def exclude(images: Sequence[ImageFile], patterns: Sequence[str]) -> list[ImageFile]:
    """Return the images that no pattern of `--exclude` matches.

    Args:
        images: What `find_images()` returned.
        patterns: For the name of an image or of a folder that contains it; one with a `/`, for the
            path below the source.

    Raises:
        ValueError: If none is left.
    """
    chosen = list(images)
    for pattern in patterns:
        left = [image for image in chosen if not _matches(image.name, pattern)]
        number = len(chosen) - len(left)
        _note(f"--exclude {pattern} leaves out {number} {'image' if number == 1 else 'images'}")
        chosen = left
    if not chosen:
        raise ValueError(f"--exclude: nothing is left of the {len(images)} images")
    return chosen


def _matches(name: str, pattern: str) -> bool:
    """Return whether a pattern matches a path, or one of its parts."""
    pattern = pattern.removeprefix("./").rstrip("/")
    parts = name.split("/")
    if "/" not in pattern:
        return any(fnmatch.fnmatchcase(part, pattern) for part in parts)
    paths = itertools.accumulate(parts, "{}/{}".format)
    return any(fnmatch.fnmatchcase(path, pattern) for path in paths)


def leave_out_masks(
    images: Sequence[ImageFile], prefix: str, suffix: str, sources: Sequence[str]
) -> Sequence[ImageFile]:
    """Return the images without the files that are named like the masks of the training.

    Args:
        images: What `find_images()` returned.
        prefix: What the stems of masks begin with; "" for nothing.
        suffix: What they end with, likewise.
        sources: What `--images` names. A file, a list, or a pattern with the masks' affixes in it
            is meant as it is typed, unless the images of such masks are named too.

    Raises:
        ValueError: If none is left.
    """
    if not (prefix or suffix):
        return images
    stems = {os.path.splitext(image.file)[0] for image in images}
    named = {str(Path(source)) for source in sources}
    meant = any(_names_masks(source, prefix, suffix) for source in sources)

    def is_mask(file: str) -> bool:
        folder, name = os.path.split(file)
        stem = os.path.splitext(name)[0]
        if len(stem) < len(prefix) + len(suffix):
            return False
        if not (stem.startswith(prefix) and stem.endswith(suffix)):
            return False
        image = os.path.join(folder, stem[len(prefix) : len(stem) - len(suffix)] or stem)
        return image in stems or not (meant or file in named)

    chosen = [image for image in images if not is_mask(image.file)]
    if number := len(images) - len(chosen):
        _note_masks(number, f"{prefix}*{suffix}", some_left=bool(chosen))
    return chosen


def _names_masks(source: str, prefix: str, suffix: str) -> bool:
    """Return whether a source can name masks only because they are meant."""
    if kind_of_source(source) == "list":
        return True
    name = Path(source).name
    return glob.has_magic(source) and prefix in name and suffix in name


def _note_masks(number: int, pattern: str, *, some_left: bool) -> None:
    """Print how many files were left out as masks; raise if there is no other file."""
    if not some_left:
        raise ValueError(
            f"--images: all {number} files are named {pattern}, like the masks of the training; if "
            f"they are images, name them by a pattern: --images 'FOLDER/{pattern}.*'"
        )
    what = "image that is" if number == 1 else "images that are"
    _note(f"left out {number} {what} named {pattern}, like the masks of the training")


def _note(text: str) -> None:
    if not launched_rank():
        print(f"note: {plain_lines(text)}", file=sys.stderr)


def first_bands(images: Sequence[ImageFile], suffix: str) -> list[ImageFile]:
    """Return the first band's file of each image, where an image has a file for each band.

    Args:
        images: Files of all bands.
        suffix: What the stems of the first band's files end with; the images are named without it.

    Raises:
        ValueError: If there is none.
    """
    found = []
    for file, name in images:
        stem, extension = os.path.splitext(name)
        if stem.endswith(suffix):
            found.append(ImageFile(file, stem.removesuffix(suffix) + extension))
    if not found:
        raise ValueError(
            f"--images: the model reads one file for each band, and none of the {len(images)} "
            f"files has a name that ends with {suffix}"
        )
    return found
