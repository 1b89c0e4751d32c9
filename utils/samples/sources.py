"""The files of a folder, a list or a pattern."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from utils.files.data_file import DataError
from utils.files.image_io import list_images
from utils.samples.file_patterns import files_of_pattern, is_pattern
from utils.samples.list_files import ListFile, Role, read_list_file
from utils.samples.pairing import by_key, nearest


@dataclasses.dataclass(frozen=True)
class Source:
    """The files of a folder, a list or a pattern."""

    path: Path  # the folder, the list or the pattern
    files: list[tuple[str, Path]]  # each with its stem below the common folder
    partners: dict[Path, Path] | None = None  # the mask of each image, in a list of both
    list_file: ListFile | None = None  # the content of the list, if it is one
    # The folder that the arguments of the dataset are relative to, if not the current one.
    root: Path | None = None

    @property
    def listed(self) -> bool:
        """Whether the files come from a list."""
        return self.list_file is not None

    @property
    def in_order(self) -> bool:
        """Whether the files are the lines of a list, without duplicates."""
        return self.list_file is not None and self.list_file.in_order

    def argument(self, *below: str) -> str:
        """Return a path below this one as an argument of the dataset."""
        path = self.path.joinpath(*below)
        return (
            path.as_posix()
            if self.root is None
            else Path(os.path.relpath(path, self.root)).as_posix()
        )

    def by_key(self, prefix: str = "", suffix: str = "") -> dict[str, Path]:
        """Return the files by their stems without prefix and suffix; others are left out.

        Raises:
            DataError: If two share a key.
        """
        return by_key(self.files, prefix=prefix, suffix=suffix)


def find_source(
    path: Path,
    extensions: tuple[str, ...],
    role: Role,
    root: Path | None = None,
    twin: Source | None = None,
) -> Source:
    """Find the files of a folder, a list or a pattern.

    Args:
        path: A folder (searched with its sub-folders), a list, or a pattern.
        extensions: Lower case, with the dot.
        role: The column of a list to take, if it has one for images and one for masks.
        root: The folder that no line of a list and no file of a pattern may leave; None: the
            list's own folder, and no limit.
        twin: The same list in its other role, so that it is not read again.

    Raises:
        DataError: If the path does not exist, is empty, or a line leaves `root`.
    """
    if path.is_dir():
        files = list_images(path, extensions)
        if not files:
            raise DataError(f"{path}: contains no image ({', '.join(extensions)})")
        return Source(path, _with_stems(files, path), root=root)
    if path.is_file():
        listed = twin.list_file if twin and twin.list_file else read_list_file(path, root)
        column = listed.masks if listed.masks and role == "mask" else listed.images
        paths = list(dict.fromkeys(column))
        stems = _with_stems(paths, _common_folder(paths))
        return Source(path, stems, _partners(listed, path), listed, root)
    if is_pattern(path):
        return Source(path, files_of_pattern(path, extensions, root), root=root)
    raise DataError(f"{path}: no such folder or list file{nearest(path)}")


def _partners(listed: ListFile, source: Path) -> dict[Path, Path] | None:
    """Return image -> mask, if a list has both."""
    if listed.masks is None:
        return None
    partners: dict[Path, Path] = {}
    for image, mask in zip(listed.images, listed.masks, strict=True):
        other = partners.setdefault(image, mask)
        if other != mask:
            raise DataError(f"{source}: names two masks of {image}: {other} and {mask}; remove one")
    return partners


def _common_folder(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in paths]))


def _with_stems(paths: Sequence[Path], top: Path) -> list[tuple[str, Path]]:
    return [(path.relative_to(top).with_suffix("").as_posix(), path) for path in paths]
