"""What the tests of all sub-commands of convert.py call."""

import json

import numpy as np
from PIL import Image

import convert


def run(*arguments):
    return convert.main([str(argument) for argument in arguments])


def pixels(path):
    return np.array(Image.open(path))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def printed_arguments(text):
    """The arguments of `Folder` that a command printed, read back as JSON."""
    lines = text.partition('of "Folder":')[2]
    arguments = json.loads(f"{{{lines}}}")
    arguments["palette"] = [tuple(colour) for colour in arguments["palette"]]
    return arguments


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def some_ids(seed, size=(8, 10), classes=3):
    return np.random.default_rng(seed).integers(0, classes, size)
