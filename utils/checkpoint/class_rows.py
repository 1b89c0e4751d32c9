"""Match the rows of two classifiers by the names of their classes."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def match_classes(classes: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """Find each class among others by its name, first as it is spelled, then whatever its case.

    A name that occurs several times on both sides is matched in order if it does so equally often;
    else it is ambiguous, and not matched.

    Returns:
        For each class the index of the other class of its name, or None.
    """
    found: list[int | None] = [None] * len(classes)
    for spelled in (str.strip, lambda name: name.strip().casefold()):
        ours, theirs = (collections.defaultdict[str, list[int]](list) for _ in range(2))
        for index, name in enumerate(classes):
            if found[index] is None:
                ours[spelled(name)].append(index)
        taken = set(found)
        for index, name in enumerate(others):
            if index not in taken:
                theirs[spelled(name)].append(index)
        for name, indices in ours.items():
            if len(indices) == len(theirs.get(name, ())):
                for index, other in zip(indices, theirs[name], strict=True):
                    found[index] = other
    return found


def class_axes(
    modules: Mapping[str, nn.Module], over_classes: Iterable[nn.Module]
) -> dict[str, tuple[int, ...]]:
    """Return the axes of each classifier weight that run over classes: of its output, its input.

    Args:
        modules: The classifier's modules, by their names in the state dict.
        over_classes: The modules whose input channels depend on the classes, too.
    """
    inputs = {id(module) for module in over_classes}
    axes: dict[str, tuple[int, ...]] = {}
    for prefix, part in modules.items():
        for name, module in part.named_modules(prefix=prefix):
            transposed = isinstance(module, nn.ConvTranspose2d)
            for key, value in module.state_dict().items():
                if "." in key or value.dim() == 0:  # of a module inside, or a counter
                    continue
                is_matrix = value.dim() > 1 and not isinstance(module, _BatchNorm)
                own = (1, 0) if is_matrix and transposed else (0, 1)
                axes[f"{name}.{key}"] = own[: 2 if is_matrix and id(module) in inputs else 1]
    return axes


def differ_in_classes(
    own: Tensor, theirs: Tensor, axes: Sequence[int], classes: int, others: int
) -> bool:
    """Return whether two weights differ in nothing but the number of classes."""
    if own.dim() != theirs.dim():
        return False
    sizes = [
        (mine * others, other * classes) if axis in axes else (mine, other)
        for axis, (mine, other) in enumerate(zip(own.shape, theirs.shape, strict=True))
    ]
    return all(mine == other for mine, other in sizes)


def take_rows(
    own: Tensor, theirs: Tensor, axes: Sequence[int], matches: Sequence[int | None], others: int
) -> Tensor:
    """Return a weight with their rows for matched classes, and our own for all others.

    Where the input has channels for classes as well, a matched class gets zeros for those that are
    not: its logits stay what they were.

    Args:
        own: Our weight.
        theirs: Theirs; each class has as many channels as in ours.
        axes: The axes that run over classes: of the output, then of the input.
        matches: For each of our classes the index of theirs, or None.
        others: The number of their classes.
    """
    indices = torch.tensor([(i, j) for i, j in enumerate(matches) if j is not None]).T
    result = own.clone()
    mine, source = (value.movedim(axes[0], 0) for value in (result, theirs))
    rows, from_rows = _channels(indices, len(mine), len(matches), len(source), others)
    if len(axes) == 1:
        mine[rows] = source[from_rows].to(mine.dtype)
        return result
    # The first axis went to the front, and moved the second if that stood before it.
    mine[rows] = 0
    mine, source = (value.movedim(axes[1] + (axes[1] < axes[0]), 1) for value in (mine, source))
    columns, from_columns = _channels(indices, mine.shape[1], len(matches), source.shape[1], others)
    mine[rows[:, None], columns] = source[from_rows[:, None], from_columns].to(mine.dtype)
    return result


def _channels(
    indices: Tensor, channels: int, classes: int, other_channels: int, other_classes: int
) -> tuple[Tensor, Tensor]:
    """Return the channels of matched classes, ours and theirs; a class may have several."""
    found = []
    sizes = ((channels, classes), (other_channels, other_classes))
    for side, (size, number) in zip(indices, sizes, strict=True):
        each = size // number
        found.append((side[:, None] * each + torch.arange(each)).flatten())
    return found[0], found[1]
