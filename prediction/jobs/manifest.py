"""What has become of each image (`--manifest`): a rerun verifies what is done, and skips it."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prediction.jobs.image_file import ImageFile, posix
from prediction.jobs.journal import Journal, find_journals, journal_folder, read_journals
from prediction.jobs.plan import run_on_main
from prediction.jobs.results_file import (
    Row,
    check_results_file,
    products_text,
    read_results,
    write_results,
)
from utils.cli.launcher import is_launched, launched_rank
from utils.files.data_file import DataError, StrPath
from utils.files.digest import digest_file
from utils.files.output_files import refusing
from utils.runs.run_lock import RunLock

UNFINISHED = "not finished"  # the error of an image from its beginning to its end


class Digests(NamedTuple):
    """What a result depends on."""

    image: str  # see `digest_files()`
    model: str
    settings: str  # see `digest_settings()`


NO_DIGESTS = Digests("", "", "")


class Manifest:
    """The rows of earlier runs, and those that this process adds.

    For each image: `is_done()`; if not, `begin()`, the work, and `finish()` or `fail()`. Threads
    may work on different images at once.

    Args:
        path: The `.csv` or `.parquet` file; see `open_manifest()`.
        output: The folder that the paths of products are relative to.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._rows = rows_of(path)
        self._output = output
        self._earlier: dict[str, Mapping[str, tuple[str, str]]] = {}  # of images that have begun
        self._journal = Journal(journal_folder(path))

    def row(self, name: str) -> Row | None:
        """Return what is known of an image, by its name."""
        return self._rows.get(name)

    def is_done(self, image: ImageFile, digests: Digests, outputs: Sequence[StrPath]) -> bool:
        """Return whether all outputs are there as they were made, of just this input.

        Args:
            image: The image.
            digests: What its result depends on now.
            outputs: The files to make of it.
        """
        row = self._rows.get(image.name)
        if row is None or not is_result(row, digests, map(self._relative, outputs)):
            return False
        return not changed_products(row, self._output)

    def begin(
        self,
        image: ImageFile,
        outputs: Sequence[StrPath],
        *,
        overwrite: bool,
        exists: Callable[[Path], bool] = os.path.lexists,
    ) -> None:
        """Note that the files of an image are about to be written, replacing older ones.

        If the process is killed now, the next run knows whose they are.

        Args:
            image: The image.
            outputs: The files to make of it.
            overwrite: Whether files that no run with this manifest has made are replaced, too.
            exists: Returns whether there is such a file.

        Raises:
            ValueError: If one exists that no run with this manifest has made, and `overwrite` is
                off.
            OSError: If the row cannot be written.
        """
        row = self._rows.get(image.name)
        earlier = {} if row is None else row.files()
        ours = {path for path, _ in earlier.values()}
        wanted = set(map(self._relative, outputs))
        for path in () if overwrite else sorted(wanted - ours):
            if exists(self._output / path):
                raise ValueError(
                    f"{self._output / path} exists and is not in the manifest; --overwrite "
                    "replaces it"
                )
        # From now on they are, whatever becomes of this image.
        files = products_text({path: (path, "") for path in sorted(wanted | ours)})
        self._earlier[image.name] = earlier
        self.add(Row(image.name, *NO_DIGESTS, files, 0.0, UNFINISHED))

    def finish(
        self, image: ImageFile, digests: Digests, products: Mapping[str, StrPath], seconds: float
    ) -> None:
        """Add the row of an image whose files are written.

        Args:
            image: The image.
            digests: What its result depends on.
            products: The file of each product, by its name.
            seconds: How long the image took.

        Raises:
            DataError: If one of the files cannot be read.
            OSError: If the row cannot be written.
        """
        files = {name: (self._relative(path), digest_file(path)) for name, path in products.items()}
        made = {path for path, _ in files.values()}
        for path, digest in self._earlier.pop(image.name, {}).values():
            # What earlier runs have made beside these stays ours, as long as nobody changes it.
            if path not in made and (self._output / path).is_file():
                now = digest_file(self._output / path)
                if digest in ("", now):
                    files[path] = (path, now)
        self.add(Row(image.name, *digests, products_text(files), seconds, ""))

    def fail(self, image: ImageFile, digests: Digests, error: str, seconds: float) -> None:
        """Add the row of an image that has no result; what is left of it or earlier stays ours.

        Args:
            image: The image.
            digests: As far as they are known; "" otherwise.
            error: The reason, without the image's name, so that equal reasons can be counted.
            seconds: How long the image took.

        Raises:
            OSError: If the row cannot be written.
        """
        self._earlier.pop(image.name, None)
        row = self._rows.get(image.name)
        products = "{}" if row is None else row.products
        self.add(Row(image.name, *digests, products, seconds, error or "failed"))

    def close(self) -> None:
        """Wait until the rows of this process are on the disk."""
        self._journal.close()

    def add(self, row: Row) -> None:
        """Add the row of an image.

        Raises:
            OSError: If it cannot be written.
        """
        self._journal.add(row)
        self._rows[row.path] = row

    def _relative(self, path: StrPath) -> str:
        return posix(os.path.relpath(path, self._output))


def is_result(row: Row, digests: Digests, outputs: Iterable[str]) -> bool:
    """Return whether a row is of a result that depends on just this, and has all outputs."""
    made = {path for path, _ in row.files().values()}
    of_row = Digests(row.image_sha256, row.model_sha256, row.settings_sha256)
    return not row.error and of_row == digests and made.issuperset(outputs)


def changed_products(row: Row, output: Path) -> list[str]:
    """Return the paths of a row's products that are missing or not as they were made."""
    return [path for path, digest in row.files().values() if not _has(output / path, digest)]


def _has(path: Path, digest: str) -> bool:
    try:
        return digest_file(path) == digest
    except DataError:
        return False


@contextlib.contextmanager
def open_manifest(path: Path, output: Path) -> Iterator[Manifest]:
    """Return the manifest of a run, which is written when the context ends.

    Until then, rows are in journals in the folder `<path>.journal`, one for each process. If the
    run is killed, they stay there, and the next one takes them over. All processes of a run enter
    and leave the context together; another run with the same manifest is refused meanwhile. If one
    of several processes ends with an exception, the rows stay in the journals.

    Raises:
        ValueError: If the manifest is foreign, in use or cannot be written.
    """
    lock = RunLock()
    run_on_main(lambda: _prepare(path, lock))
    try:
        manifest = Manifest(path, output)
        together = False
        try:
            yield manifest
            together = True
        finally:
            manifest.close()
            if is_launched() and together:
                from utils.distributed.collectives import all_gather_json

                all_gather_json(None)  # until all have closed theirs
            if not launched_rank() and (together or not is_launched()):
                with refusing(f"--manifest {path}"):
                    merge_journals(path)
    finally:
        lock.release()


def _prepare(path: Path, lock: RunLock) -> None:
    """Lock a manifest, and make it the only file of its rows."""
    check_results_file(path)
    folder = journal_folder(path)
    with refusing(f"--manifest {path}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock.take(folder)
        merge_journals(path)


def rows_of(path: Path) -> dict[str, Row]:
    """Return the rows of a manifest by their image, with those that are still in journals.

    Raises:
        ValueError: If it is no manifest.
        OSError: If a journal cannot be read.
    """
    rows = {} if not path.exists() else {row.path: row for row in read_results(path)}
    rows.update((row.path, row) for row in read_journals(find_journals(journal_folder(path))))
    return rows


def merge_journals(path: Path) -> None:
    """Write the rows of all journals into the manifest, in the order of the images.

    A manifest without rows is written, too, so that it is seen that there is none.

    Raises:
        ValueError: If the file is no manifest.
        OSError: If it cannot be written; nothing is lost then.
    """
    journals = find_journals(journal_folder(path))
    if path.exists() and not journals:
        return
    rows = rows_of(path)
    write_results(path, (rows[name] for name in sorted(rows)))
    for journal in journals:
        journal.unlink()
