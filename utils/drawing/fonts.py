"""Fonts for the names of classes and files in any script."""

import functools

from PIL import ImageFont

# Found by name in the usual places of each system; the one that Pillow brings is the last.
NAMES = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc", "msgothic.ttc",
    "arial.ttf",
)  # fmt: skip
_NO_CHARACTER = "\U0010fffe"  # every font draws its box for it

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@functools.cache
def fonts(size: int) -> list[Font]:
    """Return the fonts that are installed, the first choice first."""
    found: list[Font] = [ImageFont.load_default(size)]
    for name in NAMES:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return found


def drawable(text: str, size: int, instead: str = "") -> str:
    """Return a text, or `instead` if no font has its characters; by default with ? for those."""
    if _font_with(text, size) is not None:
        return text
    first = fonts(size)[0]
    return instead or "".join(c if _has(first, c) else "?" for c in text)


def font_for(text: str, size: int) -> Font:
    """Return the first font that has every character of a text, else the first font."""
    return _font_with(text, size) or fonts(size)[0]


def length(text: str, size: int) -> float:
    """Return the width of a text in pixels."""
    return font_for(text, size).getlength(text)


@functools.lru_cache(4096)
def _font_with(text: str, size: int) -> Font | None:
    return next((font for font in fonts(size) if all(_has(font, c) for c in set(text))), None)


@functools.lru_cache(4096)
def _has(font: Font, character: str) -> bool:
    if character.isspace():
        return True
    if "\ud800" <= character <= "\udfff":  # a byte of a name that is not UTF-8
        return False
    glyph, box = font.getmask(character), font.getmask(_NO_CHARACTER)
    return (glyph.size, bytes(glyph)) != (box.size, bytes(box))
