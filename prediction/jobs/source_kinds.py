"""What a word behind `--images` names."""

import glob
import os
import re
from collections.abc import Sequence
from typing import Literal, get_args

from prediction.jobs.image_file import is_address

Kind = Literal["folder", "file", "pattern", "list", "stdin", "url", "video", "camera"]
# What hands on its images while it is read, and so is named alone.
Stream = Literal["stdin", "video", "camera"]

TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")
LIST_EXTENSIONS = (".txt", ".lst", *TABLE_EXTENSIONS)
VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


def kind_of_source(text: str) -> Kind:
    """Return what a word names: by its form, then by what exists, then by its extension.

    A file or folder that is called like something else can be written as `./camera:0`.

    Raises:
        ValueError: If it is an address of another scheme than http and https.
    """
    if text == "-":
        return "stdin"
    if re.fullmatch(r"camera:\d+", text):
        return "camera"
    if is_address(text):
        return "url"
    if os.path.isdir(text):
        return "folder"
    if not os.path.exists(text):
        if re.match(r"[A-Za-z][A-Za-z\d+.-]+://", text):
            raise ValueError(
                f"--images: {text} is no file, and only http:// and https:// are fetched; copy it "
                "to a folder first"
            )
        if glob.has_magic(text):
            return "pattern"
    extension = os.path.splitext(text)[1].lower()
    if extension in LIST_EXTENSIONS:
        return "list"
    return "video" if extension in VIDEO_EXTENSIONS else "file"


def stream_of(sources: Sequence[str]) -> Stream | None:
    """Return what hands on its images while it is read, or None if the sources are files.

    Raises:
        ValueError: If such a source is not the only one.
    """
    for source in sources:
        kind = kind_of_source(source)
        if kind in get_args(Stream):
            if len(sources) > 1:
                raise ValueError(
                    f"--images: {source} is predicted alone; leave out the other "
                    f"{len(sources) - 1}, or predict them in a run of their own"
                )
            return kind  # type: ignore[return-value]
    return None
