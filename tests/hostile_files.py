"""Files of weights that would run code if anything in them were run."""

import builtins
import collections
import functools
import io
import json
import operator
import os
import pickle
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from utils.checkpoint.save_load import save_checkpoint

WEIGHTS = {"w": torch.ones(2)}
MODULE = "poplib"  # of the standard library; nothing else here imports it


class Call:
    """Pickled, it is a call."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


# What the marker is made by; each does it where `pickle.load` reads it.
CALLS: dict[str, Callable[[str], object]] = {
    "system": lambda marker: Call(os.system, f"touch '{marker}'"),
    "open": lambda marker: Call(open, marker, "w"),
    "eval": lambda marker: Call(builtins.eval, f"open({marker!r}, 'w').close()"),
    "exec": lambda marker: Call(builtins.exec, f"import {MODULE}; open({marker!r}, 'w').close()"),
    "import": lambda marker: [Call(__import__, MODULE), Call(os.mkdir, marker)],
    "getattr": lambda marker: Call(operator.methodcaller("touch"), Path(marker)),
    "partial": lambda marker: Call(functools.partial(os.mkdir, marker)),
    "torch": lambda marker: Call(torch.save, 0, marker),
    "map": lambda marker: Call(list, Call(map, os.mkdir, [marker])),
    "subclass": lambda marker: collections.defaultdict(
        functools.partial(os.mkdir, marker), {"a": Call(os.mkdir, marker)}
    ),
}

# Where in a checkpoint it stands.
PLACES: dict[str, Callable[[object], object]] = {
    "top": lambda evil: evil,
    "weights": lambda evil: {"state_dict": {**WEIGHTS, "x": evil}},
    "state": lambda evil: {"state_dict": evil},
    "bare": lambda evil: {**WEIGHTS, "x": evil},
    "optimizer": lambda evil: {"state_dict": WEIGHTS, "optimizer": {"state": {0: evil}}},
    "config": lambda evil: {"state_dict": WEIGHTS, "config": {"name": evil}},
    "meta": lambda evil: {"state_dict": WEIGHTS, "meta": {"classes": [evil]}},
    "rng": lambda evil: {"state_dict": WEIGHTS, "epoch": 1, "rng": {"python": evil}},
    "other": lambda evil: {"state_dict": WEIGHTS, "notes": (evil,)},
}


def zipped(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def raw(content: object, protocol: int = 2) -> bytes:
    return pickle.dumps(content, protocol)


def tarred(content: object) -> bytes:
    """As torch 0.1 wrote it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            data = raw(content)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def rezipped(data: bytes, change: Callable[[str, bytes], bytes], kind: int, **more: bytes) -> bytes:
    """The same archive with other parts, and further ones."""
    source, buffer = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name in source.namelist():
            archive.writestr(name, change(name, source.read(name)))
        for name, part in more.items():
            archive.writestr(name, part)
    return buffer.getvalue()


def with_extra_parts(content: object) -> bytes:
    """A harmless archive, and behind its parts others of the same names and more pickles."""
    evil = raw(content)
    extra = {"archive/data.pkl": evil, "data.pkl": evil, "constants.pkl": evil, "../x.pkl": evil}
    return rezipped(zipped({"state_dict": WEIGHTS}), lambda name, part: part, 0, **extra)


def replaced(content: object) -> bytes:
    """An archive of torch's with another pickle in it."""
    return rezipped(
        zipped({"state_dict": WEIGHTS}),
        lambda name, part: raw(content) if name.endswith("data.pkl") else part,
        zipfile.ZIP_STORED,
    )


def packed(content: object) -> bytes:
    return rezipped(zipped(content), lambda name, part: part, zipfile.ZIP_DEFLATED)


def behind(content: object) -> bytes:
    """A harmless pickle, then the call: readers of the old format read several in a row."""
    return legacy({"state_dict": WEIGHTS}) + raw(content)


def signed(content: object) -> bytes:
    """With the digest that our own checkpoints have."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "signed.pth")
        save_checkpoint(content, path)
        return path.read_bytes()


FORMATS: dict[str, Callable[[object], bytes]] = {
    "zipped": zipped, "legacy": legacy, "raw": raw,
    "raw_text": functools.partial(raw, protocol=0), "raw_new": functools.partial(raw, protocol=5),
    "tarred": tarred, "replaced": replaced, "packed": packed, "signed": signed,
}  # fmt: skip


def torchscript() -> bytes:
    """An archive of code, which `torch.jit.load` would run."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # that torch will be without it one day
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
    return buffer.getvalue()


def safetensors(header: object, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(**changes: object) -> dict:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


SAFETENSORS = {
    "pickle": raw(Call(os.system, "false")),
    "empty": b"",
    "no_header": safetensors(b""),
    "huge_header": safetensors(b"{}", length=2**63),
    "long_header": safetensors(b"{}", length=100_000_000),
    "no_json": safetensors(b"{" * 5000),
    "not_a_dict": safetensors([1, 2]),
    "past_the_end": safetensors(_tensor(data_offsets=[0, 2**60], shape=[2**58])),
    "backwards": safetensors(_tensor(data_offsets=[8, 0])),
    "overflow": safetensors(_tensor(shape=[2**33, 2**33])),
    "negative": safetensors(_tensor(shape=[-2])),
    "overlapping": safetensors({**_tensor(), "v": _tensor()["w"]}),
    "unknown_type": safetensors(_tensor(dtype="OBJECT")),
    "deep": safetensors(b"[" * 100_000),
    "twice": safetensors(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                         b'"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' + b" " * 7
                         + b"}"),
}  # fmt: skip
