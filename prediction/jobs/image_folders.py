"""The images in a folder, and those that a pattern matches."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from prediction.jobs.folders import Folders
from prediction.jobs.image_file import ImageFile, posix


def images_below(folder: Path, extensions: Sequence[str], output: Path) -> Iterator[ImageFile]:
    """Yield the images below a folder that are neither hidden nor in `output`, in order.

    Raises:
        ValueError: If a folder cannot be read.
    """
    root = "" if str(folder) == "." else str(folder)
    start = len(os.path.join(root, ""))
    real_output = os.path.realpath(output)
    seen: set[str] = set()
    for here, folders, names in os.walk(root or ".", onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(here)
        # A link to a folder above would be walked for ever.
        if real in seen or (seen and real == real_output):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        above = here if root else here[2:]  # without "./", as `Path` writes it
        for name in sorted(names):
            if not name.startswith(".") and _has_extension(name, extensions):
                file = os.path.join(above, name)
                yield ImageFile(file, posix(file[start:]))


def _refuse_folder(error: OSError) -> None:
    raise ValueError(f"--images: {error.filename} cannot be read ({error.strerror})")


def images_of_pattern(pattern: str, extensions: Sequence[str], output: Path) -> Iterator[ImageFile]:
    """Yield the images that match a pattern, in order, named below its folders without wildcards.

    Those in `output` are left out, unless the pattern itself begins there.
    """
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    start = 0 if str(root) == "." else len(os.path.join(root, ""))
    real_output, real_root = os.path.realpath(output), os.path.realpath(root)
    inside = _is_below(real_root, real_output)
    there = Folders()
    for match in sorted(glob.glob(pattern, recursive=True)):
        if not _has_extension(match, extensions):
            continue
        file = str(Path(match))
        if there.is_file(file) and (inside or not _is_below(there.real(file), real_output)):
            yield ImageFile(file, posix(file[start:]))


def _has_extension(name: str, extensions: Sequence[str]) -> bool:
    # `.jpg` alone is a hidden file without one.
    return os.path.splitext(name)[1].lower() in extensions


def _is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or in it; both are real ones."""
    return path == folder or path.startswith(os.path.join(folder, ""))
