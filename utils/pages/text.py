"""Numbers and names as pages show them."""

import math
import re
from collections.abc import Sequence

from utils.cli.sanitize import one_line

NOTHING = "–"
SPACE = "\u00a0"  # a value and its unit stay on one line

_JOINT = re.compile(r"(?<=[_\-/.])(?=.)", re.DOTALL)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction as text: `12.3 %` for 0.1234."""
    if value is None or not math.isfinite(value):
        return NOTHING
    least = 10.0**-digits
    if 0 < 100 * value < least:
        return f"<{least:.{digits}f}{SPACE}%"
    return f"{100 * value:.{digits}f}{SPACE}%"


def number(value: int) -> str:
    """Return `1,234,567` for 1234567."""
    return f"{value:,}"


def sortable(value: float | None) -> str:
    """Return a number for a page's script; an empty text if there is none."""
    return "" if value is None or not math.isfinite(value) else f"{value:.9g}"


def clean(value: object) -> object:
    """Return text with a mark for what cannot be shown or reorders its neighbours.

    Other values, and the page's own markup, stay as they are.
    """
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return one_line(value)
    return value


def parts(name: str) -> list[str]:
    """Return the pieces of a name between which a line may end: `["sign_", "symbol"]`."""
    return _JOINT.split(name)


def hexadecimal(colour: Sequence[int]) -> str:
    """Return a colour for style sheets: `#e62828`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


FILTERS = {"percent": percent, "number": number, "sortable": sortable, "parts": parts}
