"""The names of a run, its model and its data in headings."""

import os
from collections.abc import Mapping

from utils.cli.sanitize import one_line
from utils.config.signatures import signature_of

ENCODERS = ("encoder_name", "backbone")  # arguments that name the encoder of a model
WILDCARDS = "*?["


def describe_arch(model: type, args: object) -> str:
    """Return the architecture with its encoder: `PSPNet (resnet50)`, `SMP Unet (mit_b2)`.

    Args:
        model: The class in models/.
        args: `arch.args` of the config, completed by the defaults of the signature. In a foreign
            checkpoint it may be anything.
    """
    given = args if isinstance(args, Mapping) else {}
    values = {name: parameter.default for name, parameter in signature_of(model).items()}
    values |= {name: value for name, value in given.items() if name in values}
    words = [model.__name__, values.get("architecture")]
    encoder = next(filter(None, (values.get(name) for name in ENCODERS)), None)
    text = " ".join(word for word in words if isinstance(word, str))
    return one_line(f"{text} ({encoder})" if isinstance(encoder, str) else text)


def data_folder(args: object) -> str | None:
    """Return the folder that a loader section reads from; None for data without one.

    `data_dir`, or what `images` and `masks` have in common.
    """
    values = args if isinstance(args, Mapping) else {}
    if isinstance(values.get("data_dir"), str):
        return one_line(values["data_dir"])
    paths = [values[name] for name in ("images", "masks") if isinstance(values.get(name), str)]
    if not paths:
        return None
    paths = [_without_wildcards(path) for path in paths]
    try:
        common = os.path.commonpath(paths)
    except ValueError:  # of an absolute and a relative path, or of two drives
        common = ""
    # A folder that says nothing about the data: the current one, or the root.
    if common in ("", ".", os.path.sep):
        common = paths[0]
    return one_line(common)


def heading(run: str | None, model: str, dataset: str, folder: str | None) -> str:
    """Return a heading: `roads: PSPNet (resnet50) on my_data (Folder)`, or only the loader."""
    start = "" if run is None else f"{one_line(run)}: "
    return f"{start}{model} on {dataset if folder is None else f'{folder} ({dataset})'}"


def _without_wildcards(pattern: str) -> str:
    """Return the folders of a pattern before its first wildcard; other paths as they are."""
    parts = pattern.split("/")
    fixed = next((i for i, part in enumerate(parts) if set(WILDCARDS) & set(part)), len(parts))
    return "/".join(parts[:fixed]) or pattern
