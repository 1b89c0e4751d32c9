"""The one path from the pixels of images to their products: read, predict and write at once."""

import collections
import contextvars
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from prediction.fields import LabelRule, complete_rows, fields_of
from prediction.predictor.memory import BudgetError, MemoryBudget
from prediction.predictor.network import Predictor
from prediction.predictor.windows import Window, WindowRule
from prediction.products.rows import ImageFacts, Product, Rows
from prediction.source.image_source import ImageSource, LoadedImage
from prediction.source.open_image import Limits
from utils.files.geo_file import GeoReference
from utils.files.spill import Spill
from utils.out_of_memory import none_if_out_of_memory

J = TypeVar("J")


class Task(NamedTuple, Generic[J]):
    """One image to predict."""

    job: J  # what the caller knows it by
    path: Path
    relative: Path
    open: Callable[[Limits], ImageSource]  # called in another thread
    products: Callable[[ImageFacts], Sequence[Product]]  # opens what is to be written
    geo: GeoReference | None = None


class Done(NamedTuple, Generic[J]):
    """What has become of an image."""

    job: J
    error: BaseException | None  # None: its products are complete
    seconds: float  # from the start of its prediction to its last product


@dataclasses.dataclass(frozen=True)
class Names:
    """The meaning of ids, and how an image looks."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    preview: Callable[[np.ndarray], np.ndarray]  # pixels (h, w, C) -> RGB (h, w, 3) uint8


class Pipeline:
    """Predicts images one after the other, or several of one size together.

    Reading, the network and writing overlap: `workers` threads read the next images while the
    network works, and as many write the last ones. The order is kept, an image that fails fails
    alone, and the masks are those of one after the other.

    Args:
        predictor: Predicts the logits.
        labels: How logits become ids.
        names: The meaning of the ids.
        budget: What may be in memory.
        needs: The fields of `Rows` that products need.
        workers: Threads that read, and threads that write; 0 to do everything in turn.
        batch_size: Windows, or small images, of one size that go through the model together.
        folder: Where temporary files go; None for the system's folder.
        large: Whether images may claim more pixels than the size of their file makes likely.
    """

    def __init__(
        self,
        predictor: Predictor,
        labels: LabelRule,
        names: Names,
        budget: MemoryBudget,
        *,
        needs: Iterable[str] = (),
        workers: int = 0,
        batch_size: int = 1,
        folder: Path | None = None,
        large: bool = False,
    ) -> None:
        self._predictor, self._labels, self._names, self._budget = predictor, labels, names, budget
        self._needs = frozenset(needs)
        self._workers, self._batch_size = workers, max(1, batch_size)
        self._folder, self._large = folder, large
        self._readers: Executor = _Inline()
        self._writers: Executor = _Inline()

    def run(
        self, tasks: Iterable[Task[J]], began: Callable[[J], None] = lambda job: None
    ) -> Iterator[Done[J]]:
        """Yield what has become of each image, in order.

        Args:
            tasks: The images.
            began: Called when the network begins with an image.

        Raises:
            BudgetError: If the memory budget is too small.
        """
        if not self._workers:
            yield from self._run(tasks, began)
            return
        with (
            ThreadPoolExecutor(self._workers, "reader") as self._readers,
            ThreadPoolExecutor(self._workers, "writer") as self._writers,
        ):
            yield from self._run(tasks, began)

    def _run(self, tasks: Iterable[Task[J]], began: Callable[[J], None]) -> Iterator[Done[J]]:
        waiting: collections.deque[tuple[Task[J], Future[None], float]] = collections.deque()
        for group in self._groups(self._opened(tasks)):
            start = time.perf_counter()
            began(group[0][0].job)
            for (task, _), future in zip(group, self._predict(group), strict=True):
                waiting.append((task, future, start))
            while waiting and (waiting[0][1].done() or len(waiting) > 2 * self._workers):
                yield _done(*waiting.popleft())
        while waiting:
            yield _done(*waiting.popleft())

    # Reading

    def _opened(self, tasks: Iterable[Task[J]]) -> Iterator["_Opened[J]"]:
        """Yield each task and its open image, or why it cannot be opened; others are read ahead."""
        ahead: collections.deque[tuple[Task[J], Future[ImageSource]]] = collections.deque()
        for task in tasks:
            ahead.append((task, self._read(task)))
            while len(ahead) > self._workers + self._batch_size - 1:
                yield _opened(*ahead.popleft())
        while ahead:
            yield _opened(*ahead.popleft())

    def _read(self, task: Task[J]) -> Future[ImageSource]:
        # Notes about files go to the collector of this thread.
        here = contextvars.copy_context()
        return self._readers.submit(here.run, task.open, self._limits())

    def _limits(self) -> Limits:
        shares = self._budget.shares()
        return Limits(shares.loaded, shares.once, shares.rows, self._folder, self._large)

    def _groups(self, opened: Iterator["_Opened[J]"]) -> Iterator[list["_Opened[J]"]]:
        """Yield images in order; together if they are small, of one size and type."""
        group: list[_Opened[J]] = []
        for each in opened:
            if group and not _alike(group[0][1], each[1]):
                yield group
                group = []
            group.append(each)
            if len(group) == self._batch_size:
                yield group
                group = []
        if group:
            yield group

    # The network

    def _predict(self, group: Sequence["_Opened[J]"]) -> list[Future[None]]:
        """Return for each image of a group when its products are complete."""
        if len(group) > 1:
            together = self._predict_together(group)
            if together is not None:
                return together
        return [self._predict_alone(task, source) for task, source in group]

    def _predict_alone(self, task: Task[J], source: ImageSource | BaseException) -> Future[None]:
        if isinstance(source, BaseException):
            return _failed(source)
        try:
            chain, products = self._write_rows(task, source)
            return chain.submit(_finish, products)
        except BudgetError:
            raise  # which is no fault of this image
        except Exception as error:
            return _failed(error)
        finally:
            source.close()

    def _write_rows(self, task: Task[J], source: ImageSource) -> tuple["Chain", list[Product]]:
        """Predict an image, and hand its rows to its products."""
        height, width = source.height, source.width
        rule = self._budget.rule_for(height, width)
        shares = self._budget.shares()

        def attempt(rule: WindowRule | None) -> tuple[Chain, list[Product]]:
            source.keep(height if rule is None else 2 * rule.size)
            chain, products = Chain(self._writers), list(task.products(self._facts(task, source)))
            try:
                with (
                    Spill(shares.carry, self._folder) as carry,
                    Spill(shares.products, self._folder) as kept,
                ):
                    blocks = self._predictor.blocks(
                        lambda window: source.read(*window),
                        height, width, rule, carry,
                        self._budget.at_once(rule, self._batch_size),
                    )  # fmt: skip
                    for rows in complete_rows(
                        blocks, width, self._labels, self._needs, kept, shares.products / 12
                    ):
                        chain.submit(_write, products, self._completed(rows, source))
                return chain, products
            except BaseException:
                chain.wait()
                _discard(products)
                raise

        return self._predictor.with_room(height, width, rule, attempt)

    def _predict_together(self, group: Sequence["_Opened[J]"]) -> list[Future[None]] | None:
        """Predict small images of one size in one batch; None if that does not work out."""
        sources = [source for _, source in group if isinstance(source, LoadedImage)]
        first = sources[0]
        rule = self._budget.rule_for(first.height, first.width)
        whole = rule is None or rule.size >= max(first.height, first.width)
        if not whole or not self._budget.fits(len(group) * first.height * first.width):
            return None
        pixels = torch.from_numpy(np.stack([source.pixels for source in sources]))
        try:
            logits = none_if_out_of_memory(self._predictor.predict_batch, pixels)
        except (ValueError, RuntimeError):
            return None  # one by one, so that only those that fail are lost
        if logits is None:
            return None
        futures = []
        for (task, _), source, each in zip(group, sources, logits, strict=True):
            futures.append(self._write_whole(task, source, each))
        return futures

    def _write_whole(
        self, task: Task[J], source: LoadedImage, logits: torch.Tensor
    ) -> Future[None]:
        try:
            fields = fields_of(logits, self._labels, self._needs)
            rows = self._completed(Rows(0, **fields), source)
            products = list(task.products(self._facts(task, source)))
        except Exception as error:
            return _failed(error)
        chain = Chain(self._writers)
        chain.submit(_write, products, rows)
        return chain.submit(_finish, products)

    # Products

    def _facts(self, task: Task[J], source: ImageSource) -> ImageFacts:
        reasons = ["no data"] * source.may_miss + ["unsure"] * (self._labels.unsure is not None)
        has_ignored = bool(reasons)
        return ImageFacts(
            task.path, task.relative, source.height, source.width,
            self._names.classes, self._names.palette,
            self._labels.ignored_id if has_ignored else None, task.geo,
            ignored=" or ".join(reasons), may_miss=source.may_miss,
        )  # fmt: skip

    def _completed(self, rows: Rows, source: ImageSource) -> Rows:
        """Return rows with the image, and with the ignored id where the image has no data."""
        height, width = rows.ids.shape
        window = Window(rows.top, 0, height, width)
        hole = source.missing(*window)
        if hole is not None:
            self._labels.ignore(rows.ids, hole)
            for field in (rows.confidence, rows.entropy, rows.probabilities):
                if field is not None:
                    field[..., hole] = np.nan
        if "image" not in self._needs:
            return rows
        return rows._replace(image=self._names.preview(source.read(*window)))


_Opened = tuple[Task[J], ImageSource | BaseException]


class _Inline(Executor):
    """Does what is submitted at once, in this thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Chain:
    """Work of one image, in order, in other threads; at most two pieces wait."""

    _WAITING = 2

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._futures: collections.deque[Future[None]] = collections.deque()

    def submit(self, work: Callable[..., None], *args: Any) -> Future[None]:
        """Do a piece after those before it; raise what one of them has raised."""
        while len(self._futures) > self._WAITING:
            self._futures.popleft().result()
        before = self._futures[-1] if self._futures else None
        # The one before is in the queue already, so that waiting for it cannot last for ever.
        future = self._pool.submit(_after, before, work, *args)
        self._futures.append(future)
        return future

    def wait(self) -> None:
        """Wait until nothing is in work."""
        for future in self._futures:
            future.exception()


def _after(before: Future[None] | None, work: Callable[..., None], *args: Any) -> None:
    if before is not None:
        before.result()
    work(*args)


def _write(products: Sequence[Product], rows: Rows) -> None:
    try:
        for product in products:
            product.write(rows)
    except BaseException:
        _discard(products)
        raise


def _finish(products: Sequence[Product]) -> None:
    try:
        for product in products:
            product.finish()
    except BaseException:
        _discard(products)
        raise


def _discard(products: Iterable[Product]) -> None:
    for product in products:
        product.discard()


def _alike(one: object, other: object) -> bool:
    return (
        isinstance(one, LoadedImage)
        and isinstance(other, LoadedImage)
        and one.pixels.shape == other.pixels.shape
        and one.pixels.dtype == other.pixels.dtype
    )


def _opened(task: Task[J], future: Future[ImageSource]) -> "_Opened[J]":
    error = future.exception()
    return task, error if error is not None else future.result()


def _failed(error: BaseException) -> Future[None]:
    future: Future[None] = Future()
    future.set_exception(error)
    return future


def _done(task: Task[J], future: Future[None], began: float) -> Done[J]:
    error = future.exception()
    return Done(task.job, error, time.perf_counter() - began)
