"""Values that a config holds as text: `"True"`, `"0.01"`, `"None"`."""

from __future__ import annotations

import math
import re
from typing import Any

MAX_DIGITS = 40
MAX_BITS = 64
# What Python and YAML of before 2009 write; a text that may be one as such is never a `yes`.
CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "none": None, "null": None}
SWITCHES: dict[str, bool | None] = {"yes": True, "no": False, "on": True, "off": False}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def constant_of(text: str) -> Any:
    """Return what `true`, `False`, `None` or `null` says; another text as it is."""
    return CONSTANTS.get(text.lower(), text) if text not in ("none", "NONE") else text


def value_of(value: Any) -> Any:
    """Return a value in which every text that spells a number or a constant is that.

    Args:
        value: Plain data; lists and dicts are copied.
    """
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
