"""Find out what a pickle would build from its instructions: nothing is built, imported or run."""

import collections
import contextlib
import encodings.raw_unicode_escape  # noqa: F401  for old texts, lest a file cause an import
import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

_MAX_BYTES = 1 << 24  # bytes of instructions; those of a large model take one in a hundred of it
# Before version 1.6, torch wrote three small pickles ahead of the content, the first a number.
_LEGACY_MAGIC, _LEGACY_PICKLES = 0x1950A86A20F9469CFC6C, 3

# Where the types of tensors and plain data are.
_PLAIN = (
    "_codecs", "collections", "numpy", "torch", "torch._tensor", "torch._utils",
    "torch.nn.parameter", "torch.storage",
)  # fmt: skip
_PLAIN_NAMES = ("numpy.core.multiarray scalar", "numpy._core.multiarray scalar")
_MODEL_KEYS = ("model", "net", "network", "module", "ema", "generator")
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model_state", "net_state_dict", "weights")
_NAME = re.compile(r"[A-Za-z_][\w.]{0,79}")


class Found(NamedTuple):
    """The first object in a file that is neither a tensor nor plain data."""

    kind: str  # the name of its class
    is_whole: bool  # whether the file contains nothing else
    key: str  # the key that it is under, or nothing where that cannot be told
    texts: frozenset[str]  # every text in the file, of which some are keys


def how_to_save_weights_alone(path: str) -> str:
    """Return what a file of `torch.save` contains beside weights, and how to save them alone.

    Returns:
        One sentence without a full stop, or nothing where that cannot be told.
    """
    found = None
    with contextlib.suppress(Exception):  # the file decides what its reader meets
        found = find_object(path)
    if found is None:
        return ""
    owner = "whoever trusts it saves the weights alone, in the program that made it"
    if found.is_whole:
        line = 'torch.save(model.state_dict(), "weights.pth")'
        return f"is a whole object ({found.kind}), as a rule a model; {owner}: {line}"
    if found.key in _MODEL_KEYS:
        line = f'torch.save(c["{found.key}"].state_dict(), "weights.pth")'
    else:
        keys = (key for key in (*_WEIGHT_KEYS, *_MODEL_KEYS) if key in found.texts)
        line = f'torch.save({{"state_dict": c["{next(keys, "state_dict")}"]}}, "weights.pth")'
    place = f' under "{found.key}"' if found.key else ""
    return f"contains an object ({found.kind}){place}; {owner}, c being its content: {line}"


def find_object(path: str) -> Found | None:
    """Return the first object in a file that is neither a tensor nor plain data, if any."""
    texts: set[str] = set()
    before: list[str] = []  # the texts, and beginnings of tuples and items, since the last value
    found, is_whole, key = "", False, ""
    is_first = True
    for name, argument in _instructions(path):
        if name in ("PROTO", "FRAME", "MEMOIZE") or "PUT" in name:
            continue
        if "UNICODE" in name or name == "MARK":
            before.append(argument or "")
            continue
        if name in ("GLOBAL", "STACK_GLOBAL") and not found:
            if name == "STACK_GLOBAL":
                before, argument = before[:-2], " ".join(before[-2:])
            if before[-2:] == ["", "module"]:  # how a module began before version 1.6
                before = before[:-2]
            if not _is_plain(argument):
                found, is_whole = argument.replace(" ", "."), is_first
                key = before[-1] if before else ""
        texts.update(before)
        before, is_first = [], False
    if not _NAME.fullmatch(found):
        return None
    return Found(found, is_whole, key if _NAME.fullmatch(key) else "", frozenset(texts))


def _is_plain(kind: str) -> bool:
    return kind.partition(" ")[0] in _PLAIN or kind in _PLAIN_NAMES


def _instructions(path: str) -> Iterator[tuple[str, Any]]:
    """Yield names and arguments of the instructions that make the content."""
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                if archive.getinfo(name).file_size > _MAX_BYTES:
                    return
                data = archive.read(name)
        else:
            file.seek(0)
            data = file.read(_MAX_BYTES)
    stream = io.BytesIO(data)
    first = [(code.name, argument) for code, argument, _ in pickletools.genops(stream)]
    if (_LEGACY_MAGIC in (argument for _, argument in first)) and len(first) < 9:
        for _ in range(_LEGACY_PICKLES - 1):
            collections.deque(pickletools.genops(stream), maxlen=0)
        first = [(code.name, argument) for code, argument, _ in pickletools.genops(stream)]
    yield from first
