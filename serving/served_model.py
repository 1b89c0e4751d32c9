"""The models of a server, by their names."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prediction.fields import copies_of
from prediction.open_model import OpenedModel, Passes, open_model
from prediction.pipeline import Pipeline
from prediction.predict_images import label_rule, names_of, pixel_rule
from prediction.predictor.memory import MemoryBudget
from prediction.predictor.network import WINDOW_SIZES
from prediction.predictor.views import SCALES
from prediction.predictor.windows import WindowRule
from prediction.products.rows import FIELDS
from prediction.source.open_image import Limits
from utils.memory import parse_bytes

READERS = 2  # images that are decoded at the same time


class ServedModel:
    """A model that is ready to predict, and how its images are read.

    Args:
        name: What clients call it.
        opened: The model.
        arguments: The command line.

    Raises:
        ValueError: If one upload is not enough for an image of this model.
    """

    def __init__(self, name: str, opened: OpenedModel, arguments: argparse.Namespace) -> None:
        self.name, self.meta = name, opened.meta
        self.predictor, self.has_scores = opened.predictor, opened.has_scores
        self.rule = pixel_rule(opened.meta)
        if self.rule.band_rule is not None and self.rule.band_rule.suffixes:
            raise ValueError(
                f"--model: {name} reads each band from a file of its own, and an upload is one "
                "file; train it on files with all bands to serve it"
            )
        if arguments.unsure is not None and not opened.has_scores:
            raise ValueError(f"--unsure: {name} gives class ids without a confidence")
        self._labels = label_rule(opened.meta, arguments.unsure)
        self._batch_size = arguments.batch_size
        self.budget = MemoryBudget(
            opened.predictor,
            opened.meta.channels,
            total=None if arguments.memory is None else parse_bytes(arguments.memory),
            rule=WindowRule(arguments.window or WINDOW_SIZES[0]),
            fixed=arguments.window is not None,
            ahead=arguments.queue,
            classes=len(opened.meta.classes),
            copies=copies_of(FIELDS),
        )

    def pipeline(self, needs: Iterable[str]) -> Pipeline:
        """Return what predicts images whose products need these fields of `Rows`."""
        return Pipeline(
            self.predictor, self._labels, names_of(self.meta), self.budget,
            needs=needs, batch_size=self._batch_size,
        )  # fmt: skip

    def limits(self, folder: Path) -> Limits:
        """Return what may be in memory of an image that is opened now."""
        shares = self.budget.shares()
        return Limits(shares.loaded, shares.once / READERS, shares.rows / READERS, folder)

    def describe(self) -> dict[str, Any]:
        """Return what clients want to know, as JSON."""
        meta, bands = self.meta, self.meta.band_rule
        return {
            "name": self.name,
            "classes": [
                {"id": number, "name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour)}
                for number, (name, colour) in enumerate(
                    zip(meta.classes, meta.palette, strict=False)
                )
            ],
            "channels": meta.channels,
            "type": "uint8" if bands is None else bands.dtype,
            "exif": meta.exif or "ignore",
            "mode": self.predictor.mode,
            "has_confidence": self.has_scores,
            "ignored_id": self._labels.ignored_id,
        }


def load_models(files: dict[str, str], arguments: argparse.Namespace) -> dict[str, ServedModel]:
    """Load models.

    Raises:
        ValueError: If one cannot be used.
    """
    passes = Passes(
        arguments.mode, arguments.scales or SCALES, arguments.flip, arguments.merge, arguments.amp
    )
    loaded = {}
    for name, path in files.items():
        opened = open_model(
            [path], passes, device=arguments.device, config=arguments.config, exif=arguments.exif
        )
        loaded[name] = ServedModel(name, opened, arguments)
        loaded[name].budget.free()  # refuses a --memory that the models alone take
    return loaded
