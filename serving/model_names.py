"""The names of models; imports no torch, so that a mistyped path is told at once."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from utils.checkpoint.model_file import find_model


def name_models(words: Sequence[str]) -> dict[str, str]:
    """Return the file of each model by its name, as `--model` gives them.

    Raises:
        ValueError: If there is no such file, or two have one name.
    """
    files: dict[str, str] = {}
    for word in words:
        given = re.fullmatch(r"([\w.-]+)=(.+)", word, re.ASCII)
        if given and not os.path.exists(word):
            name, path = given[1], find_model(given[2])[0]
        else:
            path = find_model(word)[0]
            name = re.sub(r"[^\w.-]", "_", Path(path).stem)
        if name in files:
            raise ValueError(
                f"--model: {files[name]} and {path} would both be called {name!r}; name them, as "
                f"in --model one={files[name]} two={path}"
            )
        files[name] = path
    return files
