"""Which images are in work, so that one that ends its process does not do so for ever."""

from collections import Counter
from collections.abc import Sequence

MAX_DEATHS = 3  # of processes, until an image or the model is given up


class Attempts:
    """Counts what was begun and has not come to an end.

    A process that is killed says nothing. Its call is repeated by another one, which learns here
    that the call was begun before, and then predicts its images one by one, to find the image.
    """

    def __init__(self) -> None:
        self._loading = 0
        self._calls: Counter[str] = Counter()
        self._alone: Counter[str] = Counter()

    def load(self) -> int:
        """Note that a process begins to load the model; return how many have died of it."""
        self._loading += 1
        return self._loading - 1

    def loaded(self) -> None:
        """Note that a model was loaded, so that it can be."""
        self._loading = 0

    def begin(self, names: Sequence[str]) -> bool:
        """Note the beginning of a call; return whether it is repeated."""
        repeated = any(self._calls[name] for name in names)
        self._calls.update(names)
        return repeated

    def begin_alone(self, name: str) -> int:
        """Note the beginning of one image; return how many processes have died of it."""
        self._alone[name] += 1
        return self._alone[name] - 1

    def end_alone(self, name: str) -> None:
        """Note the end of one image."""
        del self._alone[name]

    def end(self, names: Sequence[str]) -> None:
        """Note the end of a call, and forget its images."""
        for name in names:
            del self._calls[name]
            del self._alone[name]
