"""Names from anywhere, made safe to print."""

import re

# Characters that cannot be shown, that move a terminal's cursor, or that turn the text around them.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """Return a text with a mark for each character that cannot be shown or reorders others."""
    return _UNSEEN.sub("\ufffd", text)


def plain_lines(text: str) -> str:
    """Return a text with `one_line()` applied to each line."""
    return "\n".join(map(one_line, text.split("\n")))


def first_line(error: object) -> str:
    """Return the first line of an exception's message: libraries append advice and traces."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
