"""Run an exported file in a process of its own: `python -m exporting.answer FILE IN.npz OUT.npz`.

The process imports what a user of the file would: the runtime, and not the model.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch

from prediction.exported.network import load_exported
from utils.cli.sanitize import first_line


def main(file: str, given: str, target: str) -> int:
    """Write what the file says of each array of an archive into another archive."""
    try:
        network = load_exported(file, torch.device("cpu"))
        program = torch.export.load(file).module() if file.endswith(".pt2") else None
        answers: dict[str, np.ndarray] = {}
        with np.load(given, allow_pickle=False) as arrays:
            for name in arrays:
                try:
                    outputs = network.run(arrays[name])
                    if program is not None:
                        _check_alike(program, arrays[name], outputs)
                except Exception as error:  # of many kinds, which depend on the runtime
                    raise ValueError(f"{name}: {first_line(error)}") from None
                for output, values in zip(network.description.outputs, outputs, strict=True):
                    answers[f"{name}/{output}"] = values
        np.savez(target, **answers)  # type: ignore[arg-type]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _check_alike(
    program: torch.nn.Module, images: np.ndarray, outputs: Sequence[np.ndarray]
) -> None:
    """Run a file as others do who do not have this project's reader of it.

    Raises:
        ValueError: If torch's own reader gives something else.
    """
    with torch.inference_mode():
        others = program(torch.from_numpy(images))
    if not all(map(np.array_equal, (each.numpy() for each in others), outputs)):
        raise ValueError("torch.export.load() answers otherwise than it does here")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
