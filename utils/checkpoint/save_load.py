"""Atomic save and verified load of checkpoints."""

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from utils.checkpoint.weights_file import (
    WeightsFileError,
    is_weights,
    read_safetensors,
    read_weights_file,
)
from utils.cli.sanitize import first_line

_MARK = b"sha256:"
_SHOWN_KEYS = 3
# Prefixes of DataParallel, torch.compile and Lightning.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_END_RECORD = b"PK\x05\x06"
_END_RECORD_BYTES = 22
_COMMENT_BYTES = len(_MARK) + 64


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and says why."""


def save_checkpoint(
    checkpoint: dict[str, Any],
    path: str | os.PathLike[str],
    *,
    copies: Sequence[str] = (),
    previous: str | None = None,
) -> None:
    """Write a checkpoint so that the file under `path` is always a whole one.

    It goes to a temporary file beside the target, is fsynced and renamed. A digest of the content
    is kept in the archive's comment, where every reader of the format passes over it.

    Args:
        checkpoint: Tensors, numbers, strings, lists and dicts.
        path: The file to write or replace.
        copies: Names in the same folder under which it is kept, too, without a second writing where
            the file system can do that.
        previous: Name in the same folder under which the file is kept that `path` replaces.

    Raises:
        OSError: If it cannot be written; what was there is as it was.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            writer = _Writer(file)
            try:
                torch.save(checkpoint, cast(BinaryIO, writer))
            except RuntimeError:
                if writer.error is None:
                    raise
                raise writer.error from None  # torch hides it behind one of its own
            comment = _MARK + writer.digest.hexdigest().encode()
            file.seek(-2, os.SEEK_END)
            file.write(len(comment).to_bytes(2, "little") + comment)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; a checkpoint is to be shared.
        os.chmod(temporary, 0o666 & ~_umask())
        for name in copies:
            copy_of(temporary, path.with_name(name))
        if previous is not None and path.exists():
            copy_of(path, path.with_name(previous))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


class _Writer:
    """A file for `torch.save()`: computes the digest, and remembers why a write failed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


class _Nowhere:
    """A file that only counts bytes."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        written = memoryview(data).nbytes
        self.size += written
        return written

    def flush(self) -> None:
        pass


def file_size(checkpoint: dict[str, Any]) -> int:
    """Return how many bytes the file of a checkpoint takes."""
    file = _Nowhere()
    torch.save(checkpoint, cast(BinaryIO, file))
    return file.size + _COMMENT_BYTES


def bytes_of(checkpoint: Any) -> int:
    """Return how many bytes the tensors of a checkpoint take, which is nearly its file's size."""
    if isinstance(checkpoint, Tensor):
        return checkpoint.nbytes
    if isinstance(checkpoint, Mapping):
        return sum(map(bytes_of, checkpoint.values()))
    return sum(map(bytes_of, checkpoint)) if isinstance(checkpoint, (list, tuple)) else 0


def why_unwritten(path: Path, error: OSError, size: int) -> str:
    """Return the message for a file of `size` bytes that could not be written."""
    reason = error.strerror or str(error)
    if not path.parent.exists():
        reason = "its folder is gone"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free
        reason += f"; it takes {size} bytes, and {free} are free"
    kept = f"; the {path.name} before it is whole" if path.exists() else ""
    return f"{path} cannot be written: {reason}{kept}"


def check_room(folder: Path, size: int) -> None:
    """Refuse a disk without room for a checkpoint of `size` bytes; the folder need not exist.

    Raises:
        ValueError: If it has not.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise ValueError(
            f"trainer.save_dir: a checkpoint of this model takes {size} bytes at least, and "
            f"{free} are free in {there}"
        )


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of ours or pytorch-segmentation's, or a bare `state_dict`, onto the CPU.

    Also read are the training checkpoints of torchvision, whose weights are under `model`, and
    safetensors.

    Nothing in the file is executed: only tensors and plain data (and the NumPy number that
    pytorch-segmentation stored as `monitor_best`) are read. The content is held against its digest,
    or against the archive's checksums where another program wrote it.

    Returns:
        At least `state_dict`, its keys without a leading `module.`.

    Raises:
        CheckpointError: If the file is missing, damaged, or no checkpoint.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return {"state_dict": without_prefix(read_safetensors(path))}
        _verify(path)
        checkpoint = read_weights_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; name the .pth file in it") from None
    except CheckpointError:
        raise
    except WeightsFileError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # what a damaged archive raises is documented nowhere
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({first_line(error)})"
        ) from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: contains a {type(checkpoint).__name__}, not a checkpoint")
    if "state_dict" not in checkpoint and isinstance(checkpoint.get("model"), dict):
        checkpoint = {"state_dict": checkpoint["model"]}
    if "state_dict" not in checkpoint:
        if not checkpoint or not all(isinstance(v, torch.Tensor) for v in checkpoint.values()):
            raise CheckpointError(f"{path}: has no 'state_dict'; it is not a checkpoint of a model")
        checkpoint = {"state_dict": checkpoint}
    if not is_weights(checkpoint["state_dict"]):
        raise CheckpointError(f"{path}: its 'state_dict' contains more than tensors")
    if "monitor_best" in checkpoint and isinstance(checkpoint["monitor_best"], np.number):
        checkpoint["monitor_best"] = checkpoint["monitor_best"].item()
    return {**checkpoint, "state_dict": without_prefix(checkpoint["state_dict"])}


def without_prefix(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a copy without the prefixes of wrappers: `module.`, `_orig_mod.`, `model.`."""
    found = ""
    while state_dict:
        shared = (p for p in _WRAPPERS if all(k.startswith(found + p) for k in state_dict))
        prefix = next(shared, "")
        if not prefix:
            break
        found += prefix
    return {key.removeprefix(found): value for key, value in state_dict.items()}


def evaluated_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights that validation saw: the moving average, or else the model's.

    Raises:
        CheckpointError: If the average is damaged.
    """
    average = checkpoint.get("ema")
    if average is None:
        return checkpoint["state_dict"]
    if not is_weights(average):
        raise CheckpointError("its moving average 'ema' contains more than tensors")
    return without_prefix({k: v for k, v in average.items() if k != "n_averaged"})


def describe_misfit(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], optional: tuple[str, ...] = ()
) -> str:
    """Return why weights do not fit a model, in one line; empty if they do.

    Args:
        own: The model's `state_dict`.
        weights: A checkpoint's.
        optional: Prefixes of names that may be missing.
    """
    different = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    # Written by torch 0.4 or older, a file lacks these counters; evaluation does not read them.
    missing = [
        key
        for key in own
        if key not in weights
        and not key.endswith("num_batches_tracked")
        and not (optional and key.startswith(optional))
    ]
    unexpected = [key for key in weights if key not in own]
    shapes = [f"{key} is {_shape(weights[key])}, not {_shape(own[key])}" for key in different]
    return "; ".join(
        f"{len(keys)} {what} ({', '.join(keys[:_SHOWN_KEYS])}{', ...' * (len(keys) > _SHOWN_KEYS)})"
        for what, keys in (
            ("of another shape", shapes),
            ("missing", missing),
            ("unexpected", unexpected),
        )
        if keys
    )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _verify(path: Path) -> None:
    """Refuse a file that is not, byte for byte, what was written."""
    data = path.read_bytes()
    if not data:
        raise CheckpointError(f"{path}: is empty (0 bytes)")
    if not data.startswith((b"PK", b"\x80")):  # a zip archive, or the pickle of old versions
        raise CheckpointError(f"{path}: is not a checkpoint")
    comment = data[-_COMMENT_BYTES:]
    record = data[-_COMMENT_BYTES - _END_RECORD_BYTES : -_COMMENT_BYTES]
    hexadecimal = len(comment) == _COMMENT_BYTES and not comment[-64:].strip(b"0123456789abcdef")
    # Each is a sign of our own making, so that no single damaged byte hides that there is a digest.
    if record.startswith(_END_RECORD) or comment.startswith(_MARK) or hexadecimal:
        content = data[: -_COMMENT_BYTES - 2] + b"\0\0"
        length = _COMMENT_BYTES.to_bytes(2, "little")
        if comment != _MARK + _digest(content).encode() or not record.endswith(length):
            raise CheckpointError(f"{path}: is damaged: its content and its digest differ")
    elif data.startswith(b"PK"):
        end = data.rfind(_END_RECORD)
        comment_bytes = int.from_bytes(data[end + 20 : end + 22], "little")
        if end < 0 or end + _END_RECORD_BYTES + comment_bytes != len(data):
            raise CheckpointError(f"{path}: is cut off or damaged: the archive's end is missing")
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path}: is damaged: wrong checksum in {damaged}")


def remove_leftovers(folder: Path) -> None:
    """Delete what a program that died while saving has left in a run folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def copy_of(source: str | os.PathLike[str], target: Path) -> None:
    """Keep a file under a further name, in place of what is there."""
    # A name that nobody can guess, so that no link is there to be followed.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            os.link(source, temporary)
        except OSError:  # a file system without links
            with open(source, "rb") as old, open(temporary, "xb") as new:
                shutil.copyfileobj(old, new)
        os.replace(temporary, target)
    finally:
        # Also where all went well: two names of one file are not renamed into one.
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
