"""What a request asks for, and the answer that is made of its products."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prediction.outputs import Outputs
from prediction.products.kinds import Kind, Settings
from prediction.products.rows import ImageFacts, Product, Rows
from prediction.products.table import COLUMNS, ImageLines
from serving.refusal import Refusal
from serving.served_model import ServedModel
from utils.config.errors import suggest
from utils.files.jpeg_writer import JpegWriter, check_jpeg_size

NAME = Path("image")  # what products are called like: nothing of a client becomes a path
FIELDS = ("model", "products", "format", "strength", "outlines", "legend", "min_area", "simplify")
MEDIA_TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".tif": "image/tiff", ".json": "application/json",
    ".geojson": "application/geo+json", ".npy": "application/octet-stream",
}  # fmt: skip
MAX_ANSWER = 256 << 20  # bytes of all products of an image
MAX_REGIONS = 100_000  # that become polygons, each in about a tenth of a millisecond
_TEXT = (".json", ".geojson")
_SCORES = ("confidence", "entropy", "probabilities")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Answer(NamedTuple):
    """The body of an answer, and its media type."""

    body: bytes
    media_type: str


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a request asks for."""

    words: tuple[str, ...]  # the products, as they were named, in their order
    kinds: Mapping[str, Kind]  # those of them that are files as inference.py writes them
    settings: Settings
    as_json: bool  # whether the answer is JSON also for one product

    @property
    def needs(self) -> frozenset[str]:
        """The fields of `Rows` that the products take."""
        own = {"image": ("image",), "table": ("confidence",)}
        needs = [own[word] for word in self.words if word in own]
        return frozenset(field for fields in needs for field in fields).union(
            *(kind.needs for kind in self.kinds.values())
        )


def read_wanted(fields: Mapping[str, str], model: ServedModel) -> Wanted:
    """Read what a request asks for.

    Args:
        fields: The fields of the request, of `FIELDS`.
        model: The model that it asks.

    Raises:
        Refusal: If it cannot have that; the message says what to send instead.
    """
    words = tuple(filter(None, (word.strip() for word in fields.get("products", "ids").split(","))))
    files = [word for word in words if word not in ("image", "table")]
    try:
        settings = Settings(
            strength=_number(fields, "strength", Settings.strength),
            outlines_only=_boolean(fields, "outlines", False),
            legend=_boolean(fields, "legend", True),
            min_area=_number(fields, "min_area", 0.0),
            simplify=_number(fields, "simplify", 0.0),
            max_regions=MAX_REGIONS,
        )
        if len(set(words)) < len(words) or not words:
            raise ValueError(f"{','.join(words)!r}: name each product once, and at least one")
        kinds = (
            Outputs.of(",".join(files), model.meta.classes, Path(), settings).kinds if files else ()
        )
    except ValueError as error:
        raise Refusal(422, str(error).replace("--save: ", "products: ")) from None
    for word, kind in zip(files, kinds, strict=True):
        if kind.is_per_run or kind.format == "labelme":
            raise Refusal(422, f"products: {word} is for files of a folder; use inference.py")
    answer = fields.get("format", "auto")
    if answer not in ("auto", "json"):
        raise Refusal(422, f"format: is auto or json, not {answer[:40]!r}")
    wanted = Wanted(words, dict(zip(files, kinds, strict=True)), settings, answer == "json")
    if not model.has_scores and (lacking := wanted.needs & set(_SCORES)):
        raise Refusal(
            422,
            f"products: {model.name} gives class ids alone, without the {min(lacking)} that these "
            "need; export it with --outputs ids,logits",
        )
    return wanted


def check_fields(fields: Mapping[str, str]) -> None:
    """Refuse fields that do not exist.

    Raises:
        Refusal: If there is one.
    """
    for name in fields:
        if name not in FIELDS:
            hint = suggest(name[:40], FIELDS) or f"; there are image, {', '.join(FIELDS)}"
            raise Refusal(422, f"no field {name[:40]!r}{hint}")


def _number(fields: Mapping[str, str], name: str, default: float) -> float:
    text = fields.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number, got {text[:40]!r}") from None
    if not abs(value) < float("inf"):
        raise ValueError(f"{name}: expected a number, got {text[:40]!r}")
    return value


def _boolean(fields: Mapping[str, str], name: str, default: bool) -> bool:
    text = fields.get(name)
    if text is None:
        return default
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"{name}: is true or false, not {text[:40]!r}")
    return _BOOLEANS[text.lower()]


class OpenAnswer:
    """The products of one image while they are made, in a folder of their own.

    Args:
        wanted: What was asked for.
        folder: An empty folder.
        facts: The image.

    Raises:
        ValueError: If an image like this cannot have one of the products.
        Refusal: If the answer would be too large.
    """

    def __init__(self, wanted: Wanted, folder: Path, facts: ImageFacts) -> None:
        self._wanted, self._facts = wanted, facts
        # The largest product is refused before it fills the disk: two bytes a value, or more.
        if any(kind.name == "probabilities" for kind in wanted.kinds.values()):
            _check_size(2 * len(facts.classes) * facts.height * facts.width)
        self._paths = {
            word: kind.path(folder, NAME, facts.geo is not None)
            for word, kind in wanted.kinds.items()
        }
        if "image" in wanted.words:
            self._paths["image"] = folder / "seen.jpg"
        self._lines: Sequence[Sequence[str]] = ()
        self.products: list[Product] = []
        try:
            for word in wanted.words:
                self.products.append(self._open(word))
        except BaseException:
            self.discard()
            raise

    def _open(self, word: str) -> Product:
        if word == "table":
            return ImageLines(self._facts, self._take)
        path = self._paths[word]
        assert path is not None
        if word == "image":
            return SeenImage(path, self._facts)
        return self._wanted.kinds[word].open(path, self._facts, self._wanted.settings)

    def _take(self, lines: Sequence[Sequence[str]]) -> None:
        self._lines = lines

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        for product in self.products:
            product.write(rows)

    def finish(self, model: str) -> Answer:
        """Complete the products, and return the answer.

        Args:
            model: The name of the model.

        Raises:
            Refusal: If it would be too large.
        """
        for product in self.products:
            product.finish()
        _check_size(sum(path.stat().st_size for path in self._paths.values() if path is not None))
        (word, *others) = self._wanted.words
        path = self._paths.get(word)
        if path is not None and not others and not self._wanted.as_json:
            return Answer(path.read_bytes(), MEDIA_TYPES[path.suffix])
        products = {word: self._as_json(word) for word in self._wanted.words}
        tree = {
            "model": model, "width": self._facts.width, "height": self._facts.height,
            "products": products,
        }  # fmt: skip
        return Answer(json.dumps(tree, separators=(",", ":")).encode(), "application/json")

    def _as_json(self, word: str) -> Any:
        path = self._paths.get(word)
        if path is None:
            return [_row(line) for line in self._lines]
        data = path.read_bytes()
        if path.suffix in _TEXT:
            return json.loads(data)
        return {"type": MEDIA_TYPES[path.suffix], "base64": base64.b64encode(data).decode()}

    def discard(self) -> None:
        """Remove what has been written."""
        for product in self.products:
            product.discard()


def _check_size(size: int) -> None:
    if size > MAX_ANSWER:
        raise Refusal(
            413,
            f"the answer would have {size} bytes, and {MAX_ANSWER} are the most; ask for fewer "
            "products, send a smaller image, or use inference.py",
        )


class SeenImage:
    """The image as the model saw it, as an RGB JPEG: what browsers cannot decode, too.

    Args:
        path: The file to write.
        facts: The image.

    Raises:
        ValueError: If the image is too large for a JPEG.
    """

    needs: Iterable[str] = ("image",)

    def __init__(self, path: Path, facts: ImageFacts) -> None:
        check_jpeg_size(path, facts.width, facts.height)
        self._writer = JpegWriter(path, facts.width)

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        assert rows.image is not None  # `needs` asks for it
        self._writer.write(rows.image)

    def finish(self) -> None:
        """Complete the file."""
        self._writer.finish()

    def discard(self) -> None:
        """Remove what has been written."""
        self._writer.discard()


def _row(line: Sequence[str]) -> dict[str, Any]:
    """Return a line of the table without the image's name; numbers as numbers."""
    row: dict[str, Any] = dict(zip(COLUMNS[1:], line, strict=True))
    for name in ("class_id", "pixels", "regions"):
        row[name] = int(row[name])
    for name in ("share", "area", "mean_confidence"):
        row[name] = float(row[name]) if row[name] else None
    return row
