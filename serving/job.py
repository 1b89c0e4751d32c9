"""One image from its upload to its answer."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, InvalidStateError
from pathlib import Path

from prediction.pipeline import Chain, Task
from prediction.predictor.memory import BudgetError
from prediction.predictor.network import out_of_memory_advice
from prediction.products.rows import ImageFacts, Rows
from prediction.source.image_source import ImageSource, LoadedImage
from prediction.source.open_image import Limits, open_image, open_map
from serving.answer import Answer, OpenAnswer, Wanted
from serving.refusal import Refusal
from serving.served_model import ServedModel
from utils.cli.sanitize import first_line, one_line
from utils.files.data_file import DataError
from utils.files.geo_file import GeoReference, read_georeference
from utils.files.image_head import read_head
from utils.files.jpeg_file import JPEG_START
from utils.files.npy_file import NPY_START
from utils.files.png_file import PNG_START
from utils.files.tiff_io import TIFF_STARTS
from utils.out_of_memory import is_out_of_memory

logger = logging.getLogger(__name__)

# What a file of an image begins with, and the ending that it gets here.
_STARTS = {
    PNG_START: ".png", JPEG_START: ".jpg", NPY_START: ".npy", b"BM": ".bmp", b"GIF8": ".gif",
    b"RIFF": ".webp", **dict.fromkeys(TIFF_STARTS, ".tif"),
}  # fmt: skip


class GivenUp(RuntimeError):
    """Nobody waits for this image any more."""


class Job:
    """One image: decoded by `open()`, predicted as `task()`, answered in `answer`.

    Args:
        model: The model that it is for.
        wanted: What is made of it.
        folder: Where it gets a folder of its own.
        seconds: How long the client waits.
        closed: Called once, when nothing of the image is kept any more.

    Attributes:
        answer: Becomes the `Answer`, or an error; cancelled when the client has gone.
        queued: When the image was decoded, as `time.monotonic()`.
    """

    def __init__(
        self,
        model: ServedModel,
        wanted: Wanted,
        folder: Path,
        seconds: float,
        closed: Callable[[], None],
    ) -> None:
        self.model, self.wanted, self._closed = model, wanted, closed
        self._parent = folder
        self.answer: Future[Answer] = Future()
        self.queued = 0.0
        self._deadline = time.monotonic() + seconds
        self._closing = threading.Lock()
        self._folder: Path | None = None
        self._source: ImageSource | None = None
        self._geo: GeoReference | None = None

    # Before the network

    def open(self, data: bytes, max_pixels: float) -> None:
        """Decode an image, or open it for windows; called in a thread that reads.

        Args:
            data: The bytes of its file.
            max_pixels: The most pixels that it may have.

        Raises:
            Refusal: If it cannot be used.
        """
        ending = next((e for start, e in _STARTS.items() if data.startswith(start)), None)
        if ending is None:
            raise Refusal(
                415, "the upload is no image: expected PNG, JPEG, TIFF, BMP, GIF, WebP or NPY"
            )
        # The readers take files: large images are read window by window.
        path = self._written(data, ending)
        try:
            head = read_head(path)
            if head.width * head.height > max_pixels:
                raise Refusal(
                    413,
                    f"the image has {head.width}x{head.height} pixels, and {max_pixels:.0f} are "
                    "the most; scale it down, or raise --max-pixels of the server",
                )
            limits: Limits = self.model.limits(path.parent)
            self._geo = read_georeference(path) if ending == ".tif" else None
            opener = open_image if self._geo is None else open_map
            self._source = opener(path, self.model.rule, limits)
        except BudgetError as error:
            raise Refusal(503, one_line(first_line(error)), retry_after=5) from None
        except DataError as error:
            raise Refusal(422, self._told(error)) from None
        except Refusal:
            raise
        except Exception as error:
            # A damaged file can make a decoder raise anything.
            if is_out_of_memory(error):
                raise Refusal(413, "the image does not fit into the server's memory") from None
            logger.warning("an image cannot be decoded", exc_info=error)
            raise Refusal(422, "the image cannot be decoded; save it again") from None
        self.queued = time.monotonic()

    def _written(self, data: bytes, ending: str) -> Path:
        """Write the upload to a folder of its own."""
        try:
            self._folder = Path(tempfile.mkdtemp(dir=self._parent))
            path = self._folder / f"upload{ending}"
            path.write_bytes(data)
        except OSError as error:
            raise Refusal(
                503, f"the server has no room for an upload ({error.strerror})", retry_after=30
            ) from None
        return path

    def _told(self, error: BaseException) -> str:
        """Return a message without the server's paths."""
        text = one_line(first_line(error)).replace("--large", "another format")
        for path in (f"{self._folder}/upload", str(self._folder)):
            text = text.replace(path, "image")
        return text

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.answer.done() or time.monotonic() > self._deadline

    def check(self) -> None:
        """Raise an error if nobody waits for the answer any more.

        Raises:
            GivenUp: If it is so.
        """
        if self.is_over:
            raise GivenUp("nobody waits for this image")

    @property
    def left(self) -> float:
        """The seconds that the client still waits."""
        return self._deadline - time.monotonic()

    def goes_with(self, other: Job) -> bool:
        """Return whether two images can go through the network together."""
        one, two = self._source, other._source
        return (
            self.model is other.model
            and isinstance(one, LoadedImage)
            and isinstance(two, LoadedImage)
            and (one.pixels.shape, one.pixels.dtype) == (two.pixels.shape, two.pixels.dtype)
        )

    # The network, and after it

    def task(self, writers: Executor) -> Task[Job]:
        """Return the image as the pipeline takes it.

        Args:
            writers: Threads that make its products, while the network goes on.
        """
        source, self._source = self._source, None  # the pipeline closes it
        assert source is not None and self._folder is not None
        return Task(
            self, self._folder / "upload", Path("image"), lambda limits: source,
            lambda facts: [_Encoding(self, facts, writers)], self._geo,
        )  # fmt: skip

    def open_answer(self, facts: ImageFacts) -> OpenAnswer:
        """Open the products.

        Raises:
            Refusal: If the image cannot have one.
        """
        assert self._folder is not None
        try:
            return OpenAnswer(self.wanted, self._folder, facts)
        except ValueError as error:
            raise Refusal(422, self._told(error)) from None

    def fail(self, error: BaseException) -> None:
        """Answer with an error, and forget the image."""
        if isinstance(error, (Refusal, GivenUp)):
            told: BaseException = error
        elif isinstance(error, BudgetError):
            told = Refusal(503, one_line(first_line(error)), retry_after=5)
        elif isinstance(error, DataError):
            told = Refusal(422, self._told(error))
        elif is_out_of_memory(error):
            told = Refusal(413, f"the image {out_of_memory_advice(self.model.predictor.device)}")
        else:
            told = error
        self.close()
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            self.answer.set_exception(told)

    def done(self, answer: Answer) -> None:
        """Hand the answer over, and forget the image."""
        self.close()
        with contextlib.suppress(InvalidStateError):
            self.answer.set_result(answer)

    def close(self) -> None:
        """Close the image and remove its files; may be called twice."""
        with self._closing:
            folder, self._folder = self._folder, None
            source, self._source = self._source, None
            closed, self._closed = self._closed, _nothing
        if source is not None:
            with contextlib.suppress(OSError):
                source.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        closed()


def _nothing() -> None:
    """Do nothing."""


class _Encoding:
    """The products of one image, made in other threads while the network goes on.

    Args:
        job: The image.
        facts: What the pipeline knows of it.
        writers: The threads.

    Raises:
        Refusal: If the image cannot have one of the products.
    """

    needs: Iterable[str] = ()

    def __init__(self, job: Job, facts: ImageFacts, writers: Executor) -> None:
        self._job, self._chain = job, Chain(writers)
        self._open = job.open_answer(facts)

    def write(self, rows: Rows) -> None:
        """Take the next rows; wait if the writers are far behind."""
        self._chain.submit(self._write, rows)

    def finish(self) -> None:
        """Let the writers answer when they have come to the end."""
        future = self._chain.submit(self._answer)
        future.add_done_callback(self._end)

    def _write(self, rows: Rows) -> None:
        self._job.check()
        self._open.write(rows)

    def _answer(self) -> None:
        self._job.check()
        self._job.done(self._open.finish(self._job.model.name))

    def _end(self, future: Future[None]) -> None:
        error = future.exception()
        if error is not None:
            self._open.discard()
            self._job.fail(error)

    def discard(self) -> None:
        """Remove what has been written: the image begins anew, or has failed."""
        self._chain.wait()
        self._open.discard()
