"""Prefixes and suffixes around the name that an image and its mask share."""

import dataclasses
import json
import unicodedata


@dataclasses.dataclass(frozen=True)
class Affixes:
    """Prefixes and suffixes of stems around the name that images and masks share."""

    image_prefix: str = ""  # prefix of the last part of an image's path
    image_suffix: str = ""  # suffix of its stem
    mask_prefix: str = ""  # likewise of the masks
    mask_suffix: str = ""  # likewise of the masks

    @property
    def given(self) -> dict[str, str]:
        """Those that are not empty, by argument."""
        return {name: text for name, text in dataclasses.asdict(self).items() if text}

    def lines(self) -> str:
        """Return the arguments as they are written in a config."""
        return ", ".join(
            f'"{name}": {json.dumps(text, ensure_ascii=False)}' for name, text in self.given.items()
        )

    def image(self, core: str) -> str:
        """Return the stem of the image with this shared name."""
        return _join(core, self.image_prefix, self.image_suffix)

    def mask(self, core: str) -> str:
        """Return the stem of the mask with this shared name."""
        return _join(core, self.mask_prefix, self.mask_suffix)


NO_AFFIXES = Affixes()


def nfc(text: str) -> str:
    """Return a name in the Unicode form in which an umlaut is a single character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def cut(stem: str, prefix: str, suffix: str) -> str | None:
    """Return a stem without prefix and suffix, in whichever Unicode form it has them, or None."""
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
