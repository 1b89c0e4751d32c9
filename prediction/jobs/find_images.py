"""The images to predict, from the words of the command line; imports no torch."""

import fnmatch
import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.cli.launcher import launched_rank
from utils.cli.sanitize import plain_lines


class ImageFile(NamedTuple):
    """An image to predict."""

    path: Path  # the file
    relative: Path  # its path below the folder or pattern that named it


def wanted_extensions(extension: str | None) -> tuple[str, ...]:
    """Return `(".png",)` for `png`, `.png` or `PNG`, and every known extension for None."""
    if extension is None:
        return IMAGE_EXTENSIONS
    return ("." + extension.lower().lstrip("*").lstrip("."),)


def find_images(sources: Sequence[str], extensions: Sequence[str], output: Path) -> list[ImageFile]:
    """Return all images that `--images` names, in order.

    Hidden files are left out, since copies from other systems are full of them, and so are files
    in the output folder, since those are masks.

    Args:
        sources: Folders, files and patterns.
        extensions: The allowed extensions, in lower case. A file that is named itself may have any.
        output: The folder that the masks go to.

    Raises:
        ValueError: If a source does not exist, or no source has an image.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        path = Path(source)
        if path.is_file():
            found[path] = Path(path.name)
            continue
        if path.is_dir():
            if is_same_path(path, output) and ".png" in extensions:
                raise ValueError(
                    f"--output: {output} is the folder of the images, where the next run would "
                    "take the masks for images; choose another"
                )
            root, files = path, _files_below(path, output)
        else:
            root, files = _files_of_pattern(source, output)
        found.update((p, p.relative_to(root)) for p in files if p.suffix.lower() in extensions)
    if not found:
        endings = ", ".join(extension[1:] for extension in extensions)
        raise ValueError(
            f"--images: no image in {', '.join(sources)} (looked for: {endings}; --extension "
            "names another)"
        )
    return [ImageFile(path, relative) for path, relative in found.items()]


def _files_below(folder: Path, output: Path) -> list[Path]:
    """Return every file below `folder` that is neither hidden nor in `output`, in order."""
    files = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(here)
        # A link to a folder above would be walked for ever.
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not is_same_path(Path(here, name), output)
        )
        files += [Path(here, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _refuse_folder(error: OSError) -> None:
    raise ValueError(f"--images: {error.filename} cannot be read ({error.strerror})")


def _files_of_pattern(pattern: str, output: Path) -> tuple[Path, list[Path]]:
    """Return the folders of a pattern before its first wildcard, and the files that match."""
    if not glob.has_magic(pattern):
        raise ValueError(f"--images: there is no file or folder {pattern}")
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    files = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    # Where the pattern itself begins in the output folder, that is what the user wants.
    inside = output.resolve() not in (root.resolve(), *root.resolve().parents)
    return root, [
        file
        for file in files
        if file.is_file() and not (inside and output.resolve() in file.resolve().parents)
    ]


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
        left = [image for image in chosen if not _matches(image.relative, pattern)]
        number = len(chosen) - len(left)
        _note(f"--exclude {pattern} leaves out {number} {'image' if number == 1 else 'images'}")
        chosen = left
    if not chosen:
        raise ValueError(f"--exclude: nothing is left of the {len(images)} images")
    return chosen


def _matches(relative: Path, pattern: str) -> bool:
    """Return whether a pattern matches a path, or one of its parts."""
    pattern = pattern.removeprefix("./").rstrip("/")
    if "/" not in pattern:
        return any(fnmatch.fnmatchcase(part, pattern) for part in relative.parts)
    paths = [relative, *relative.parents]
    return any(fnmatch.fnmatchcase(path.as_posix(), pattern) for path in paths)


def leave_out_masks(
    images: Sequence[ImageFile], prefix: str, suffix: str, sources: Sequence[str]
) -> Sequence[ImageFile]:
    """Return the images without the files that are named like the masks of the training.

    Args:
        images: What `find_images()` returned.
        prefix: What the stems of masks begin with; "" for nothing.
        suffix: What they end with, likewise.
        sources: What `--images` names. A file, or a pattern with the masks' affixes in it, is meant
            as it is typed, unless the images of such masks are named too.

    Raises:
        ValueError: If none is left.
    """
    if not (prefix or suffix):
        return images
    stems = {path.with_suffix("") for path, _ in images}
    named = {Path(source) for source in sources}
    meant = any(
        glob.has_magic(s) and prefix in Path(s).name and suffix in Path(s).name for s in sources
    )

    def is_mask(path: Path) -> bool:
        stem = path.stem
        if len(stem) < len(prefix) + len(suffix):
            return False
        if not (stem.startswith(prefix) and stem.endswith(suffix)):
            return False
        image = path.with_name(stem[len(prefix) : len(stem) - len(suffix)] or stem)
        return image in stems or not (meant or path in named)

    chosen = [image for image in images if not is_mask(image.path)]
    if number := len(images) - len(chosen):
        _note_masks(number, f"{prefix}*{suffix}", some_left=bool(chosen))
    return chosen


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
    found = [
        ImageFile(path, relative.with_name(relative.stem.removesuffix(suffix) + relative.suffix))
        for path, relative in images
        if relative.stem.endswith(suffix)
    ]
    if not found:
        raise ValueError(
            f"--images: the model reads one file for each band, and none of the {len(images)} "
            f"files has a name that ends with {suffix}"
        )
    return found
