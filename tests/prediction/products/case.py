"""A predicted image of any size, whole and in rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prediction.products.kinds import Kind, Settings, parse_save
from prediction.products.rows import ImageFacts, Rows
from tests.row_files import blocks
from utils.drawing.palette import voc_palette
from utils.files.geo_file import GeoReference

IGNORED = 200
# UTM zone 33, ten metres a pixel; of a tiled file.
TRANSFORM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 6_000_000.0)


class Case(NamedTuple):
    facts: ImageFacts
    whole: Rows

    def blocks(self, cuts: Sequence[int]) -> Iterator[Rows]:
        """Yield the rows between the cuts."""
        whole = self.whole
        for block in blocks(cuts, self.facts.height):
            yield Rows(
                block.start,
                whole.ids[block].copy(),
                whole.confidence[block].copy(),
                whole.entropy[block].copy(),
                whole.probabilities[:, block].copy(),
                whole.image[block].copy(),
            )

    def write(self, kind: Kind | str, folder: Path, cuts=(), settings=None) -> Path:
        """Write a product in blocks of rows; return its file."""
        if isinstance(kind, str):
            (kind,) = parse_save(kind, self.facts.classes)
        path = kind.path(folder, self.facts.relative, self.facts.geo is not None)
        product = kind.open(path, self.facts, settings or Settings())
        for rows in self.blocks(cuts):
            product.write(only(rows, kind))
            for field in rows[1:]:
                field[:] = 0  # the caller may use its arrays again
        product.finish()
        return path


def only(rows: Rows, kind: Kind) -> Rows:
    """Return rows with the fields that a product needs, as it gets them."""
    fields = {name: getattr(rows, name) for name in kind.needs}
    return Rows(rows.top, rows.ids, **fields)


def make_case(height, width, num_classes=5, *, ignored=False, geo=None, seed=0) -> Case:
    """Return an image with regions of about ten pixels, and thin ones that cross them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_classes, height // 10 + 1, width // 10 + 1)) * 3
    logits = logits.repeat(10, 1).repeat(10, 2)[:, :height, :width]
    logits = logits + rng.normal(size=(num_classes, height, width)) * 0.4
    logits[0, rng.integers(0, height)] += 5
    probabilities = np.exp(logits) / np.exp(logits).sum(0)
    probabilities = probabilities.astype(np.float32)
    ids = probabilities.argmax(0).astype(np.uint8 if num_classes <= 256 else np.uint16)
    confidence = probabilities.max(0)
    if ignored:
        ids[confidence < 0.5] = IGNORED
    entropy = -(probabilities * np.log(probabilities + 1e-12)).sum(0) / np.log(num_classes)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    names = ("background", "road", "tree top", "a.b/c", "Ger\u00e4t, gro\u00df")
    names += tuple(f"class {number}" for number in range(5, num_classes))
    facts = ImageFacts(
        Path("/images/a/b.c.jpg"), Path("a/b.c.jpg"), height, width, names[:num_classes],
        tuple(voc_palette(num_classes)), IGNORED if ignored else None, geo,
    )  # fmt: skip
    return Case(facts, Rows(0, ids, confidence, entropy.astype(np.float32), probabilities, image))


def geo_reference(**more) -> GeoReference:
    import rasterio

    return GeoReference(rasterio.crs.CRS.from_epsg(32633).to_wkt(), TRANSFORM, **more)
