"""The reports of all actors: counted, shown, and written into the manifest."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from prediction.cluster.calls import Report, Result
from prediction.jobs.image_file import ImageFile
from prediction.jobs.manifest import NO_DIGESTS, Digests, Manifest
from prediction.jobs.results_file import Row, products_text
from utils.files.file_notes import FileNote, count_notes
from utils.progress import Progress, complain

logger = logging.getLogger(__name__)


class Counts(NamedTuple):
    """How many images have come to which end."""

    written: int
    kept: int
    failed: int


class Collector:
    """Takes results as they come.

    Args:
        files: The file or address of each image, by its name.
        manifest: Gets a row for each image.
        digests: Those of models and settings, for the manifest.
    """

    def __init__(
        self, files: Mapping[str, str], manifest: Manifest | None, digests: tuple[str, str] | None
    ) -> None:
        self._files, self._manifest, self._digests = files, manifest, digests
        self._left = set(files)
        self._counts = Counts(0, 0, 0)

    def collect(self, refused: Sequence[Result], reports: Iterable[Report]) -> Counts:
        """Take all results, and name the images that failed.

        Args:
            refused: Those of images that no actor was given.
            reports: Those of the actors.

        Raises:
            ValueError: If an actor says that all images would fail.
        """
        notes: dict[str, None] = {}
        file_notes: list[FileNote] = []
        with Progress(total=len(self._files), unit="image") as bar:
            for result in refused:
                self._take(result, bar)
            for report in reports:
                for result in report.results:
                    self._take(result, bar)
                if report.stop:
                    raise ValueError(report.stop)
                notes.update(dict.fromkeys(report.notes))
                file_notes += report.file_notes
        for line in [*notes, *(f"{line}; read anyway" for line in count_notes(file_notes))]:
            logger.warning("%s", line)
        assert not self._left, f"no word about {sorted(self._left)[:3]}"
        return self._counts

    def _take(self, result: Result, bar: Progress) -> None:
        """Take one result; Ray may repeat a call whose report was lost, but gives it once."""
        self._left.remove(result.name)
        written, kept, failed = self._counts
        self._counts = Counts(
            written + (not result.error and not result.kept),
            kept + result.kept,
            failed + bool(result.error),
        )
        if result.error:
            complain(f"skipped {self._files[result.name]}: {result.error}")
        if self._manifest is not None and not result.kept:
            self._record(self._manifest, result)
        bar.update()

    def _record(self, manifest: Manifest, result: Result) -> None:
        digests = NO_DIGESTS
        if result.image_sha256 and self._digests is not None:
            digests = Digests(result.image_sha256, *self._digests)
        if result.error:
            image = ImageFile(self._files[result.name], result.name)
            manifest.fail(image, digests, result.error, result.seconds)
        else:
            products = products_text(result.products)
            manifest.add(Row(result.name, *digests, products, result.seconds, ""))
