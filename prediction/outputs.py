"""The files of a run: which each image gets, and what is opened to write them."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from prediction.jobs.image_file import ImageFile, is_address
from prediction.products.kinds import Kind, Settings, names_product, parse_save
from prediction.products.polygons import check_available
from prediction.products.rows import ImageFacts, Product
from prediction.products.summary import SummaryPage
from prediction.products.summary_page import RunFacts
from prediction.products.table import RunTable
from utils.files.gdal import import_rasterio
from utils.files.geo_file import is_georeferenced, lost_placement
from utils.files.output_files import refuse_full_disk

_MAX_NAME = 255  # bytes of a file's name, of nearly all file systems
_TIFF_ENDINGS = (".tif", ".tiff")


class RunProduct(Protocol):
    """A product of a whole run, which each image adds to."""

    def has(self, relative: Path) -> bool:
        """Return whether an image is in it."""

    def product(self, facts: ImageFacts) -> Product:
        """Return what adds an image."""

    def is_complete(self) -> bool:
        """Return whether its file is there, with all that is known."""


class RunProducts:
    """The products of a whole run that `--save` names.

    Args:
        folder: The output folder.
        words: What `--save` says.

    Raises:
        ValueError: If one of them exists and is foreign.
    """

    def __init__(self, folder: Path, words: str) -> None:
        self._folder = folder
        self.table = RunTable(folder) if names_product(words, "table") else None
        self.page = SummaryPage(folder) if names_product(words, "summary") else None

    @property
    def opened(self) -> list[RunProduct]:
        """Those that are wanted."""
        return [each for each in (self.table, self.page) if each is not None]

    def have(self, image: ImageFile) -> bool:
        """Return whether all of them have an image."""
        return all(each.has(image.relative) for each in self.opened)

    def complete(self, run: RunFacts) -> None:
        """Write those that are known of, but not there: an earlier run was ended too early.

        Raises:
            ValueError: If one cannot be written.
        """
        if not all(each.is_complete() for each in self.opened):
            self.close(run)

    def failed(self, image: ImageFile, reason: str) -> None:
        """Note on the page why an image has no mask."""
        if self.page is not None:
            self.page.add_failure(image.relative, reason)

    def close(self, run: RunFacts) -> None:
        """Write them, with the images of all processes, on the main process.

        Raises:
            ValueError: If one cannot be written.
        """
        try:
            if self.table is not None:
                self.table.close()
            if self.page is not None:
                self.page.close(run)
        except OSError as error:
            refuse_full_disk(error)
            reason = error.strerror or error
            raise ValueError(f"--output: {self._folder} cannot be written ({reason})") from None


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is written of each image, and where.

    Args:
        folder: The output folder.
        kinds: The products.
        settings: How they look.
    """

    folder: Path
    kinds: tuple[Kind, ...]
    settings: Settings

    @classmethod
    def of(cls, text: str, classes: Sequence[str], folder: Path, settings: Settings) -> "Outputs":
        """Read the words of `--save`; `classes` matter only if it names one.

        Raises:
            ValueError: If there is no such product, or a package for one is missing.
        """
        kinds = parse_save(text, classes)
        for kind in kinds:
            if kind.name == "polygons":
                check_available(kind.format_for(geo=False), simplify=settings.simplify)
        return cls(folder, kinds, settings)

    @property
    def needs(self) -> frozenset[str]:
        """The fields of `Rows` that the products take."""
        return frozenset(field for kind in self.kinds for field in kind.needs)

    @property
    def per_image(self) -> tuple[Kind, ...]:
        """The products that are files of an image."""
        return tuple(kind for kind in self.kinds if not kind.is_per_run)

    def paths(self, image: ImageFile) -> list[str]:
        """Return the files to make of an image.

        Raises:
            DataError: If it is geo-referenced and a package for that is missing.
        """
        geo = self.is_geo(image)
        return [str(kind.path(self.folder, image.relative, geo)) for kind in self.per_image]

    def is_geo(self, image: ImageFile) -> bool:
        """Return whether products are geo-referenced like the image."""
        if is_address(image.file) or not image.file.lower().endswith(_TIFF_ENDINGS):
            return False
        if not is_georeferenced(image.file):
            return False
        import_rasterio(f"{image.file}: is geo-referenced, and so are its masks")
        return True

    def lost_placement(self, image: ImageFile) -> str | None:
        """Return how an image is placed in a way that its products do not take over, or None."""
        return None if is_address(image.file) else lost_placement(image.file)

    def open(
        self, image: ImageFile, facts: ImageFacts, of_run: Sequence[RunProduct], *, replace: bool
    ) -> list[Product]:
        """Open the products of an image that are missing, or all of them if `replace` is on.

        Raises:
            ValueError: If one cannot be made of this image.
            OSError: If one cannot be written.
        """
        settings = dataclasses.replace(self.settings, overwrite=replace)
        for path in self.paths(image):  # before the first is written
            if len(os.fsencode(os.path.basename(path))) > _MAX_NAME:
                raise ValueError(
                    f"its file {path} would have a name of more than {_MAX_NAME} bytes"
                )
        opened: list[Product] = []
        try:
            for kind, path in zip(self.per_image, self.paths(image), strict=True):
                if replace or not os.path.exists(path):
                    opened.append(kind.open(Path(path), facts, settings))
            opened += [each.product(facts) for each in of_run]
        except BaseException:
            for product in opened:
                product.discard()
            raise
        return opened


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return how products look, as the command line says.

    Raises:
        ValueError: If a number is out of its range.
    """
    given = {name: getattr(arguments, name) for name in ("strength", "min_area", "simplify")}
    return Settings(
        overwrite=arguments.overwrite,
        outlines_only=arguments.outlines,
        legend=not arguments.no_legend,
        **{name: value for name, value in given.items() if value is not None},
    )
