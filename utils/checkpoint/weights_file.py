"""Read files of weights: tensors and plain data; nothing in them is ever run."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from utils.checkpoint.pickled_objects import how_to_save_weights_alone
from utils.cli.sanitize import first_line

OLDEST_TORCH = (2, 10)  # before, a file could write where it liked in memory, even so
MAX_DEPTH = 100


class WeightsFileError(ValueError):
    """Why a file cannot be used, without its name."""


def read_weights_file(path: str | os.PathLike[str]) -> Any:
    """Return the content of a file of `torch.save` in plain containers, on the CPU.

    Only tensors and plain data are read, and the NumPy number that pytorch-segmentation stored as
    `monitor_best`: everything else, such as an object that would run code, is refused and not
    even imported. This is the only place that opens such files.

    Raises:
        WeightsFileError: If the file is damaged, contains anything else, or claims to be larger.
        OSError: If it cannot be opened.
    """
    check_torch()
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            _check_archive(file.name)
    try:
        # What torch warns of, a message of ours says or does not matter.
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_number_types()):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # The file decides what the reader does, so a damaged one can raise anything.
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
            # torch's own message advises loading it anyway, which would run the file's code.
            further = how_to_save_weights_alone(os.fspath(path))
            raise WeightsFileError(
                "contains more than tensors and plain data, or is not a checkpoint; it was not "
                "loaded" + (f": it {further}" if further else "")
            ) from None
        raise WeightsFileError(f"cannot be read as a checkpoint ({first_line(error)})") from None
    return _plain(content)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of the format safetensors, which contains tensors and nothing else.

    Raises:
        OSError: If the file cannot be opened.
        WeightsFileError: If it is damaged or of another format.
    """
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError:
        raise
    except Exception as error:  # beside its own kind also a KeyError, of a type that torch lacks
        raise WeightsFileError(f"cannot be read as safetensors ({error})") from None


def check_torch() -> None:
    """Refuse a torch that reads files unsafely.

    Raises:
        WeightsFileError: If it is too old.
    """
    oldest = ".".join(map(str, OLDEST_TORCH))
    if torch.torch_version.TorchVersion(torch.__version__) < oldest:
        raise WeightsFileError(
            f"is not opened: torch {torch.__version__} is installed, and only from {oldest} on it "
            'reads such files safely; pip install --upgrade "torch>=' + f'{oldest}"'
        )


def _check_archive(path: str) -> None:
    """Refuse an archive that unpacks to more than it is, before memory is asked for.

    torch writes its parts as they are; packed ones could contain a thousand times as much.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except OSError:
        raise
    except Exception as error:  # what a damaged archive raises is documented nowhere
        raise WeightsFileError(f"cannot be read as a checkpoint ({error})") from None
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > os.path.getsize(path):
        raise WeightsFileError("is an archive of packed parts, which torch does not write")


def _plain(value: Any, depth: int = 0) -> Any:
    """Return the same in plain containers: those of a file may have attributes set."""
    if depth > MAX_DEPTH:
        raise WeightsFileError("is nested too deeply to be a checkpoint")
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in dict.items(value)}
    if type(value) in (list, tuple):
        return type(value)(_plain(item, depth + 1) for item in value)
    return value


def _numpy_number_types() -> list[Any]:
    """Return what a pickled NumPy number refers to, under its names in NumPy 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
    ]


def is_weights(value: object) -> bool:
    """Return whether a value is like a model's `state_dict`: names and dense tensors."""
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and is_dense(item) for key, item in value.items()
    )


def is_dense(value: object) -> TypeGuard[Tensor]:
    """Return whether a value is a tensor whose numbers all lie in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )
