"""The images of one call: fetched, predicted and delivered, all at the same time."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from prediction.cluster import stores
from prediction.cluster.calls import Result, Todo
from prediction.cluster.in_order import in_order
from prediction.cluster.targets import Target
from prediction.jobs.image_file import ImageFile, is_address
from prediction.jobs.manifest import Digests, is_result
from prediction.jobs.results_file import Row
from prediction.pipeline import Done
from prediction.predict_images import ImageRun, reason_of_failure
from utils.cli.sanitize import first_line
from utils.files.data_file import DataError
from utils.files.digest import digest_file, digest_files, digest_settings


class Prepared(NamedTuple):
    """An image that is on this machine and to be predicted."""

    todo: Todo
    image: ImageFile
    digest: str  # "" without a manifest
    products: dict[str, str]  # the name of each, by its kind


class CallPredictor:
    """Predicts the images of calls.

    Args:
        run: Predicts images that are on this machine, into the work folder of the target.
        target: Where the products go.
        digests: Those of models and settings, for a manifest; None without one.
        overwrite: Whether products that exist are replaced.
        threads: How many threads fetch images, and how many deliver products.
    """

    def __init__(
        self,
        run: ImageRun,
        target: Target,
        *,
        digests: tuple[str, str] | None,
        overwrite: bool,
        threads: int,
    ) -> None:
        self.run, self._target = run, target
        self._digests, self._overwrite, self._threads = digests, overwrite, threads
        self._kinds = [kind.title for kind in run.outputs.per_image]

    def predict(
        self, todos: Sequence[Todo], originals: dict[str, str], *, repeated: bool = False
    ) -> list[Result]:
        """Predict images, and return what has become of each, in any order.

        Args:
            todos: The images.
            originals: Gets the address of each temporary file.
            repeated: Whether another process may have done some of them since they were listed.

        Raises:
            ValueError: If the disk is full, or there is too little memory for any image.
        """
        results: list[Result] = []
        prepared: dict[str, Prepared] = {}
        with (
            tempfile.TemporaryDirectory(prefix="images-") as folder,
            ThreadPoolExecutor(self._threads, "fetcher") as fetchers,
            ThreadPoolExecutor(self._threads, "deliverer") as deliverers,
        ):

            def prepare(todo: Todo) -> Prepared | Result:
                return self._prepare(todo, Path(folder), repeated)

            def images() -> Iterator[ImageFile]:
                for one in in_order(fetchers, prepare, todos, 2 * self._threads):
                    if isinstance(one, Result):
                        results.append(one)
                        continue
                    prepared[one.image.name] = one
                    if one.image.file != one.todo.file:
                        originals[one.image.file] = one.todo.file
                    yield one.image

            def finish(done: Done[ImageFile]) -> Result:
                return self._finish(done, prepared.pop(done.job.name))

            predicted = self.run.run(images())
            results += in_order(deliverers, finish, predicted, 2 * self._threads)
        return results

    # Before the network

    def _prepare(self, todo: Todo, folder: Path, repeated: bool) -> Prepared | Result:
        """Return an image that is here, or what has become of it already."""
        try:
            image = self._fetched(todo, folder)
            digest = "" if self._digests is None else self._digest(image)
            names = [_below(path, self._target.work) for path in self.run.outputs.paths(image)]
            if self._is_done(todo, digest, names, repeated):
                return Result(todo.name, kept=self._digests is not None)
        except (ValueError, OSError) as error:
            return Result(todo.name, first_line(error).removeprefix(f"{todo.file}: "))
        return Prepared(todo, image, digest, dict(zip(self._kinds, names, strict=True)))

    def _fetched(self, todo: Todo, folder: Path) -> ImageFile:
        """Return the image as a file: of an object, and of those of other bands, a copy."""
        if not stores.is_store(todo.file):
            return todo.image
        own = Path(tempfile.mkdtemp(dir=folder))  # bands are found beside each other
        first = todo.file.rpartition("/")[2]
        for name in self._files_of(first):
            stores.fetch(stores.sibling(todo.file, name), own / name)
        return ImageFile(str(own / first), todo.name)

    def _files_of(self, name: str) -> list[str]:
        """Return the name of each band's file, given that of the first one."""
        rule = self.run.rule.band_rule
        if rule is None or not rule.suffixes:
            return [name]
        stem, extension = os.path.splitext(name)
        return [f"{stem.removesuffix(rule.suffixes[0])}{each}{extension}" for each in rule.suffixes]

    def _digest(self, image: ImageFile) -> str:
        if is_address(image.file):  # as in a manifest of inference.py
            return digest_settings({"address": image.file})
        return digest_files(self.run.rule.paths(image.path))

    def _is_done(self, todo: Todo, digest: str, names: Sequence[str], repeated: bool) -> bool:
        """Return whether nothing is to be made: what is not asked of a store was listed before."""
        if self._overwrite:
            return False
        if self._digests is not None:
            return todo.row is not None and self._is_as_made(Row(*todo.row), digest, names)
        if self._target.is_remote and not repeated:
            return False
        return all(map(self._target.exists, names))

    def _is_as_made(self, row: Row, digest: str, names: Sequence[str]) -> bool:
        assert self._digests is not None
        if not is_result(row, Digests(digest, *self._digests), names):
            return False
        try:
            return all(self._target.digest(name) == made for name, made in row.files().values())
        except DataError:  # it is missing
            return False

    # After it

    def _finish(self, done: Done[ImageFile], one: Prepared) -> Result:
        """Deliver the products of an image."""
        names = list(one.products.values())
        digests: list[str] = []
        error: BaseException | None = done.error
        if isinstance(error, FileExistsError) and all(map(self._target.exists, names)):
            error = None  # another process had the same call, and was first
        try:
            if error is None and self._digests is not None:
                digests = [digest_file(self._target.work / name) for name in names]
        except DataError as problem:
            error = problem
        error = self._deliver(one, error)
        if one.image.file != one.todo.file:
            shutil.rmtree(one.image.path.parent, ignore_errors=True)
        if error is not None:
            reason = reason_of_failure(error, one.image.file, self.run.predictor)
            reason = reason.replace(one.image.file, one.todo.file)
            return Result(one.todo.name, reason, False, one.digest, {}, done.seconds)
        products = dict(zip(self._kinds, zip(names, digests, strict=False), strict=False))
        return Result(one.todo.name, "", False, one.digest, products, done.seconds)

    def _deliver(self, one: Prepared, error: BaseException | None) -> BaseException | None:
        """Bring all products to their places, or after an error none; return the error, if any."""
        for name in one.products.values():
            try:
                self._target.deliver(name, wanted=error is None and name not in one.todo.there)
            except (ValueError, OSError) as problem:
                error = error or problem
        return error


def _below(path: str, folder: Path) -> str:
    return Path(path).relative_to(folder).as_posix()
