"""Read values that a config contains as text: `"True"`, `"0.01"`, `"None"`."""

import math
import re
from typing import Any

MAX_DIGITS = 40
MAX_BITS = 64
# As Python and old YAML (1.1) write them. `constant_of()` leaves `yes` and `off` as they are.
CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "none": None, "null": None}
SWITCHES: dict[str, bool | None] = {"yes": True, "no": False, "on": True, "off": False}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def constant_of(text: str) -> Any:
    """Return the value of `true`, `False`, `None` or `null`; another text as it is."""
    return CONSTANTS.get(text.lower(), text) if text not in ("none", "NONE") else text


def value_of(value: Any) -> Any:
    """Copy plain data; replace every text that spells a number or a constant by it."""
    if isinstance(value, list):
        return [value_of(item) for item in value]
    if isinstance(value, dict):
        return {key: value_of(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    for words in (CONSTANTS, SWITCHES):
        if word in words:
            return words[word]
    number = _number(word)
    return value if number is None else number


def _number(text: str) -> int | float | None:
    if len(text) > MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    if re.fullmatch(r"[-+]?\d+", text):
        whole = int(text)
        return whole if whole.bit_length() <= MAX_BITS else None
    number = float(text)
    return number if math.isfinite(number) else None
