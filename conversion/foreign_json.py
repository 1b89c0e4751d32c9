"""Annotation files of other programs: recognised by their keys, and the command for each."""

import codecs
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from utils.files.data_file import open_file, read_bytes

HEAD_BYTES = 4096  # read of an XML or text file
LABELME = "labelme"
COCO = "COCO annotations"
_VIA = "VIA annotations"
_ITEMS = 20  # items of a list or dict that are looked at


class _Tree:
    """The outermost two levels of keys of a JSON file; the rest is not decoded.

    COCO files have hundreds of megabytes.
    """

    def __init__(self, data: bytes) -> None:
        self.is_list = data.lstrip()[:1] == b"["
        found = _decode(data, list[msgspec.Raw] if self.is_list else dict[str, msgspec.Raw])
        self.keys: set[str] = set(found) if isinstance(found, dict) else set()
        self.items = list(found.values() if isinstance(found, dict) else found or ())[:_ITEMS]

    def all_have(self, *names: str) -> bool:
        """Return whether each of the first values has these keys."""
        inner = [_decode(bytes(item), dict[str, msgspec.Raw]) for item in self.items]
        return bool(inner) and all(set(names) <= set(keys or ()) for keys in inner)


def _decode(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _is_via(tree: _Tree) -> bool:
    own = {"_via_img_metadata", "_via_settings"} & tree.keys
    return bool(own) or (not tree.is_list and tree.all_have("filename", "regions"))


# Kind -> how it is recognised; tried in this order.
_KINDS: tuple[tuple[str, Callable[[_Tree], bool]], ...] = (
    (LABELME, lambda tree: "shapes" in tree.keys),
    (COCO, lambda tree: "annotations" in tree.keys and bool({"images", "categories"} & tree.keys)),
    ("Supervisely annotations", lambda tree: {"objects", "size"} <= tree.keys
        or {"classes", "tags"} <= tree.keys),
    (_VIA, _is_via),
    ("Cityscapes polygons", lambda tree: {"imgHeight", "imgWidth", "objects"} <= tree.keys),
    ("Datumaro annotations", lambda tree: {"categories", "items"} <= tree.keys),
    ("Label Studio tasks", lambda tree: tree.is_list and tree.all_have("annotations", "data")),
    ("CreateML boxes", lambda tree: tree.is_list and tree.all_have("image", "annotations")),
    ("a dataset.json of nnU-Net", lambda tree: "labels" in tree.keys and bool(
        {"numTraining", "file_ending", "channel_names", "modality"} & tree.keys)),
    ("a config or report of this program", lambda tree: {"arch", "trainer"} <= tree.keys
        or {"findings", "splits"} <= tree.keys),
)  # fmt: skip

_EXPORT = "export them as COCO there, then: {convert} coco FILE.json -o {output}"
_REMEDIES = {
    LABELME: "{convert} labelme {folder} -o {output}",
    COCO: "{convert} coco {file} -o {output}",
    "Supervisely annotations": _EXPORT,
    _VIA: _EXPORT,
    "CVAT annotations": _EXPORT,
    "Datumaro annotations": _EXPORT,
    "Label Studio tasks": _EXPORT,
    "Cityscapes polygons": 'the *_labelIds.png beside them are masks: "type": "CityScapes" in the '
    "config (docs/data.md)",
    "CreateML boxes": "boxes alone are not masks; export polygons as COCO there",
    "Pascal VOC boxes": "boxes alone are not masks; VOC's masks are in SegmentationClass",
    "YOLO boxes": "boxes alone are not masks; export polygons as COCO where they were drawn",
    "YOLO polygons": "export them as COCO where they were drawn, then: {convert} coco FILE.json "
    "-o {output}",
    "a dataset.json of nnU-Net": "its masks are in labelsTr, and Folder reads them as they are "
    "if they are image files",
    "a config or report of this program": "name the folder of labelme's files",
}


def kind_of(path: str | Path) -> str | None:
    """Return the kind of a file, such as `LABELME`; None if its keys do not tell.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a file that can be read.
    """
    if str(path).lower().endswith(".xml"):
        return _kind_of_xml(Path(path))
    if str(path).lower().endswith(".txt"):
        return _kind_of_text(Path(path))
    tree = _Tree(read_bytes(path).removeprefix(codecs.BOM_UTF8))
    return next((name for name, is_it in _KINDS if is_it(tree)), None)


def _kind_of_xml(path: Path) -> str | None:
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    if b"<annotations" in head:
        return "CVAT annotations"
    return "Pascal VOC boxes" if b"<annotation" in head else None


def _kind_of_text(path: Path) -> str | None:
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    line = head.split(b"\n")[0].strip()
    # A class id and fractions of width and height: four of a box, at least six of a polygon.
    if not re.fullmatch(rb"\d+(\s+(0?\.\d+|[01](\.0*)?)){4,}", line):
        return None
    return "YOLO boxes" if len(line.split()) == 5 else "YOLO polygons"


def advice(kind: str, path: str | Path, output: str | Path) -> str:
    """Return what to do with a file of a kind, if possible as a command to type."""
    path = Path(path)
    words = {
        "convert": "python convert.py",
        "file": shlex.quote(str(path)),
        "folder": shlex.quote(str(path if path.is_dir() else path.parent)),
        "output": shlex.quote(str(output)),
    }
    return _REMEDIES[kind].format(**words)


def refuse_others(folder: Path, paths: Sequence[Path], output: str | Path) -> str:
    """Return in one line why a folder is not labelme's, or nothing if one file is."""
    found: dict[str, Path] = {}
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            kind = kind_of(path)
        except (OSError, ValueError):
            kind = None
        if kind == LABELME:
            return ""
        if kind is not None:
            counts[kind] += 1
            found.setdefault(kind, path)
    if not counts:
        return ""
    kind, count = counts.most_common(1)[0]
    others = sum(counts.values()) - count
    more = f" (and {others} of other kinds)" if others else ""
    first = found[kind]
    return (
        f"{folder}: contains no labelme file; {count} of {len(paths)} files are {kind}{more}, such "
        f"as {first.name}: {advice(kind, first, output)}"
    )
