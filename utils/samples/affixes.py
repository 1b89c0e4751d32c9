"""What the names of images and masks have before and behind the part that they share."""

from __future__ import annotations

import dataclasses
import json
import unicodedata


@dataclasses.dataclass(frozen=True)
class Affixes:
    """What the stems of images and masks have before and behind the name that they share.

    Args:
        image_prefix: Before, in the last part of an image's path.
        image_suffix: Behind, at the end of its stem.
        mask_prefix: Likewise of the masks.
        mask_suffix: Likewise of the masks.
    """

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""

    @property
    def given(self) -> dict[str, str]:
        """Those that are not empty, by the name of the argument."""
        return {name: text for name, text in dataclasses.asdict(self).items() if text}

    def lines(self) -> str:
        """The arguments as they stand in a config."""
        return ", ".join(
            f'"{name}": {json.dumps(text, ensure_ascii=False)}' for name, text in self.given.items()
        )

    def image(self, core: str) -> str:
        """The stem of the image with this shared name."""
        return _join(core, self.image_prefix, self.image_suffix)

    def mask(self, core: str) -> str:
        """The stem of the mask with this shared name."""
        return _join(core, self.mask_prefix, self.mask_suffix)


NO_AFFIXES = Affixes()


def nfc(text: str) -> str:
    """Return a name in the one form in which an umlaut is a single character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def cut(stem: str, prefix: str, suffix: str) -> str | None:
    """The stem without prefix and suffix, in whichever Unicode form it has them, or None.

    Args:
        stem: With its folders, separated by `/`.
        prefix: What its last part begins with.
        suffix: What it ends with.
    """
    if not (prefix.isascii() and suffix.isascii()):
        for form in ("NFC", "NFD"):
            one, other = (unicodedata.normalize(form, text) for text in (prefix, suffix))
            if (core := _cut(stem, one, other)) is not None:
                return core
    return _cut(stem, prefix, suffix)


def _cut(stem: str, prefix: str, suffix: str) -> str | None:
    if not stem.endswith(suffix):
        return None
    stem = stem[: len(stem) - len(suffix)]
    if not prefix:
        return stem
    folder, slash, name = stem.rpartition("/")
    return folder + slash + name[len(prefix) :] if name.startswith(prefix) else None


def _join(core: str, prefix: str, suffix: str) -> str:
    folder, slash, name = core.rpartition("/")
    return f"{folder}{slash}{prefix}{name}{suffix}"
