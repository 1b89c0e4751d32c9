"""From images to predictions: the work of `inference.py`, and `Segmenter` for Python programs."""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prediction.segmenter import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter"]

_ROOMS = ("base", "builders", "dataloaders", "models", "utils")


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is asked for: the rest of the folder needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _check_rooms()
    import prediction.segmenter

    return getattr(prediction.segmenter, name)


def _check_rooms() -> None:
    """Refuse to import half of another program: folders like `utils` are everywhere."""
    root = Path(__file__).resolve().parent.parent
    for room in _ROOMS:
        there = sys.modules.get(room)
        spec = importlib.util.find_spec(room) if there is None else there.__spec__
        origin = None if spec is None else spec.origin
        if origin is None or Path(origin).resolve().parent.parent != root:
            when = "is found before" if there is None else "has been imported before"
            raise ImportError(
                f"{room!r} of {origin} {when} that of {root}, which prediction needs; put "
                f"sys.path.insert(0, {str(root)!r}) and this import before all others, or rename "
                "your own module"
            )
