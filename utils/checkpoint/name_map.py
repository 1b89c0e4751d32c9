"""Weights under another program's names."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class NameMap:
    """Renames the weights of a state dict by the prefixes of their names, and back.

    A name is theirs if it begins with one of their prefixes, and a state dict is if all of its
    names are. There is no other test: that the shapes fit, and that nothing is missing, is for
    `load_state_dict()` to say.

    Example:
        >>> names = NameMap([("features.", "backbone."), ("head.", "classifier.")])
        >>> names.ours({"features.0.weight": 1, "head.bias": 2})
        {'backbone.0.weight': 1, 'classifier.bias': 2}
        >>> names.theirs({"backbone.0.weight": 1, "classifier.bias": 2})
        {'features.0.weight': 1, 'head.bias': 2}
        >>> names.ours({"backbone.0.weight": 1}) is None
        True
    """

    pairs: Sequence[tuple[str, str]]  # their prefix and ours for each part of the network
    # Our prefixes of parts that their files may lack; such a part keeps its values.
    optional: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()  # their prefixes of parts that we do not have and do not need

    def __post_init__(self) -> None:
        for side in zip(*self.pairs, strict=True):
            for prefix in side:
                # Else a name would be ambiguous.
                assert sum(other.startswith(prefix) for other in side) == 1, prefix
        assert set(self.optional) <= {ours for _, ours in self.pairs}

    def ours(self, weights: Mapping[str, T]) -> dict[str, T] | None:
        """Return their weights under our names, in their order; None if these are not theirs."""
        kept = {key: value for key, value in weights.items() if not key.startswith(self.dropped)}
        return _rename(kept, self.pairs)

    def theirs(self, weights: Mapping[str, T]) -> dict[str, T] | None:
        """Return our weights under their names, in our order; None if these are not ours."""
        return _rename(weights, [(ours, theirs) for theirs, ours in self.pairs])


def _rename(weights: Mapping[str, T], pairs: Iterable[tuple[str, str]]) -> dict[str, T] | None:
    result = {}
    pairs = list(pairs)
    for key, value in weights.items():
        match = next((pair for pair in pairs if key.startswith(pair[0])), None)
        if match is None:
            return None
        result[match[1] + key.removeprefix(match[0])] = value
    return result or None
