"""How an image is called in tables and pages."""

import re
from pathlib import PurePath

# What cannot be shown, breaks a line, or turns the text around; and what stands for it.
_ODD = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def image_name(relative: PurePath) -> str:
    r"""Return the name of an image: its path with `/`, and escapes such as `\n`.

    No two images have the same name, whatever their files are called.
    """
    return _ODD.sub(lambda odd: repr(odd[0])[1:-1], relative.as_posix())
