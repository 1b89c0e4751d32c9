"""Files of `torch.export`, run here operator by operator.

`torch.export.load()` unpickles objects, evaluates expressions and executes Python that it makes of
the file's names, so a stranger's file could run anything. Here the list of operators is read as
data, and only the mathematical ones of `torch_operators` are called.

Format: https://docs.pytorch.org/docs/stable/export/pt2_archive.html
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prediction.exported.description import KEY, Description, Run, from_text
from prediction.exported.torch_operators import find_operator
from utils.cli.sanitize import first_line

MAJOR = 8  # of the schema that is known here
# The numbers by which the schema names types and memory formats.
_TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
    28: torch.uint16,
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format
}  # fmt: skip
_STRIDED = 7
_Values = dict[str, Any]  # of the tensors and numbers that the graph names


def load(path: Path, device: torch.device) -> tuple[Description, Run]:
    """Open a file that `export.py` has written.

    Raises:
        ValueError: If it cannot be read, was written by something else or by a torch whose schema
            is not known here, or has an operator that is not known here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = _entry(archive, f"extra/{KEY}")
            if text is None:
                raise ValueError(
                    f"{path}: was not written by export.py, which names classes and images"
                )
            description = from_text(text.decode(), str(path))
            program = _program_of(path, archive, device)
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({first_line(error)})") from None
    return description, program.run


def _program_of(path: Path, archive: zipfile.ZipFile, device: torch.device) -> "_Program":
    """Read the program of a file.

    Raises:
        ValueError: If it cannot be used.
    """
    odd = KeyError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError
    try:
        return _Program(archive, device)
    except (*odd, json.JSONDecodeError) as error:
        reason = f"{type(error).__name__} {first_line(error)}"
        raise ValueError(f"{path}: is no program of torch.export ({reason})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Program:
    """The operators of a file, with the weights on the device.

    Raises:
        ValueError: If an operator or a kind of value is not known here.
    """

    def __init__(self, archive: zipfile.ZipFile, device: torch.device) -> None:
        self._device = device
        program = json.loads(_entry(archive, "models/model.json") or b"{}")
        major = program.get("schema_version", {}).get("major")
        if major != MAJOR:
            raise ValueError(
                f"its schema has version {major}, and {MAJOR} is known here: export it again with "
                f"the torch that is installed here, {torch.__version__}"
            )
        graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
        stored = {
            **_tensors(archive, "weights", device), **_tensors(archive, "constants", device)
        }  # fmt: skip
        self._weights: _Values = {}
        (self._image,) = _bind(signature["input_specs"], stored, self._weights)
        self._outputs = [
            spec["user_output"]["arg"]["as_tensor"]["name"] for spec in signature["output_specs"]
        ]
        self._steps = [_Step(node, device) for node in graph["nodes"]]
        _forget_early(self._steps, {*self._weights, *self._outputs})

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Map images to the outputs.

        Raises:
            ValueError: If the program does not take images of this size.
        """
        values = {**self._weights, self._image: torch.from_numpy(images).to(self._device)}
        try:
            for step in self._steps:
                step.run(values)
        except RuntimeError as error:
            if not str(error).startswith("Runtime assertion failed"):
                raise
            raise ValueError(
                f"the file does not take images of shape {images.shape} ({first_line(error)})"
            ) from None
        return [values[name].cpu().numpy() for name in self._outputs]


class _Step:
    """One operator: what it is called with, and what its results are called.

    Args:
        node: A node of the graph, as the schema has it.
        device: Where tensors are made.
    """

    def __init__(self, node: Mapping[str, Any], device: torch.device) -> None:
        self._operator = find_operator(node["target"])
        arguments = [
            (each.get("kind"), each["name"], _reader(each["arg"], device))
            for each in node["inputs"]
        ]  # fmt: skip
        # Kind 2 is passed by name. The operators of Python take no names at all.
        self._named = {name: read for kind, name, read in arguments if kind == 2}
        self._positional = [read for kind, _, read in arguments if kind != 2]
        self.reads = set(_names_in([each["arg"] for each in node["inputs"]]))
        self.makes = _made_by(node["outputs"])
        self.forgets: list[str] = []

    def run(self, values: _Values) -> None:
        """Add the results to the values, and drop the values that nobody reads any more."""
        made = self._operator(
            *[read(values) for read in self._positional],
            **{name: read(values) for name, read in self._named.items()},
        )
        if len(self.makes) == 1:
            values[self.makes[0]] = made
        else:
            values.update(zip(self.makes, made, strict=True) if self.makes else ())
        for name in self.forgets:
            del values[name]


def _forget_early(steps: Sequence[_Step], kept: set[str]) -> None:
    """Let each value go after the last step that reads it, so that memory stays small."""
    seen = set(kept)
    for step in reversed(steps):
        last = (step.reads | set(step.makes)) - seen
        step.forgets = sorted(last)
        seen |= last


def _bind(
    specs: Sequence[Mapping[str, Any]], stored: Mapping[str, Tensor], weights: _Values
) -> list[str]:
    """Fill in the weights by the graph's names; return the names of the images."""
    images = []
    for spec in specs:
        ((kind, details),) = spec.items()
        if kind == "user_input":
            images.append(details["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            weights[details["arg"]["name"]] = stored[details[f"{kind}_name"]]
        else:
            raise ValueError(f"it has an input of an unknown kind, {kind}")
    return images


def _reader(argument: Mapping[str, Any], device: torch.device) -> Callable[[_Values], Any]:
    """Return what gives the value of an argument."""
    ((kind, value),) = argument.items()
    if kind == "as_tensor":
        name = value["name"]
        return lambda values: values[name]
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return _symbol(value)
    if kind in ("as_tensors", "as_sym_ints", "as_sym_floats", "as_optional_tensors"):
        readers = [
            _symbol(each) if "sym" in kind else _reader(_as_tensor(each), device) for each in value
        ]
        return lambda values: [read(values) for read in readers]
    plain = _plain(kind, value, device)
    return lambda values: plain


def _as_tensor(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an argument for an item of a list of tensors, of which some may be missing."""
    return value if "as_tensor" in value or "as_none" in value else {"as_tensor": value}


def _symbol(value: Mapping[str, Any]) -> Callable[[_Values], Any]:
    """Return what gives a number that the graph computes, or a plain one."""
    ((kind, content),) = value.items()
    if kind == "as_name":
        return lambda values: values[content]
    if kind not in ("as_int", "as_bool", "as_float"):
        raise ValueError(f"it has a number of an unknown kind, {kind}")
    return lambda values: content


def _plain(kind: str, value: Any, device: torch.device) -> Any:
    """Return an argument that is the same in every run.

    Raises:
        ValueError: If its kind is unknown.
    """
    if kind == "as_none":
        return None
    if kind in ("as_int", "as_ints", "as_bool", "as_bools", "as_float", "as_floats", "as_string",
                "as_strings"):  # fmt: skip
        return value
    if kind == "as_scalar_type":
        return _TYPES[value]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_layout" and value == _STRIDED:
        return torch.strided
    if kind == "as_device":  # that of the export, in whose place is that of this run
        return device
    raise ValueError(f"it has an argument of an unknown kind, {kind}")


def _names_in(value: Any) -> list[str]:
    """Return the names of the values that arguments read."""
    if isinstance(value, list):
        return [name for each in value for name in _names_in(each)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("name", "as_name") if isinstance(value.get(key), str)]
    return own + [name for each in value.values() for name in _names_in(each)]


def _made_by(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of a node's results."""
    return [name for output in outputs for name in _names_in(output)]


def _tensors(archive: zipfile.ZipFile, kind: str, device: torch.device) -> dict[str, Tensor]:
    """Read the weights or the constants, which are raw numbers; pickled ones are refused."""
    config = json.loads(_entry(archive, f"data/{kind}/model_{kind}_config.json") or b"{}")
    storages: dict[str, Tensor] = {}
    tensors = {}
    for name, payload in config.get("config", {}).items():
        if payload["use_pickle"] or payload["tensor_meta"] is None:
            raise ValueError(f"{name} is a pickled object, which could run anything")
        meta, file = payload["tensor_meta"], payload["path_name"]
        dtype = _TYPES[meta["dtype"]]
        if file not in storages:
            content = _entry(archive, f"data/{kind}/{file}")
            if content is None:
                raise ValueError(f"{name}: its numbers are not there")
            storages[file] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        sizes, strides = ([each["as_int"] for each in meta[key]] for key in ("sizes", "strides"))
        offset = meta["storage_offset"]["as_int"]
        tensor = storages[file].view(dtype).as_strided(sizes, strides, offset)
        tensors[name] = tensor.to(device)
    return tensors


def _entry(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """Return a file of the archive, below the archive's only folder."""
    for each in archive.namelist():
        if each.partition("/")[2] == name:
            return archive.read(each)
    return None
