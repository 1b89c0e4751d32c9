"""The queue, and the one thread that runs the networks."""

from __future__ import annotations

import collections
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from serving.job import GivenUp, Job
from serving.metrics import Metrics

logger = logging.getLogger(__name__)

_WRITERS = 2


class Batcher:
    """Predicts images in the order in which they come, those of one size and model together.

    An image waits a few milliseconds for others that go with it; it never waits for others while
    the network could work on a whole batch. An image that fails fails alone.

    Args:
        batch_size: The most images that go through a network together.
        wait: Seconds that an image waits for others.
        metrics: What is counted.

    Attributes:
        seconds_per_image: How long an image has taken lately.
    """

    def __init__(self, batch_size: int, wait: float, metrics: Metrics) -> None:
        self._batch_size, self._wait, self._metrics = batch_size, wait, metrics
        self._waiting: collections.deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self.seconds_per_image = 0.0
        self._writers = ThreadPoolExecutor(_WRITERS, "writer")
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue an image that is open."""
        with self._changed:
            self._waiting.append(job)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()

    def close(self) -> None:
        """Finish what is queued, and end the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        self._writers.shutdown()

    def _work(self) -> None:
        while group := self._next_group():
            try:
                self._predict(group)
            except Exception as error:
                # Whatever it is: the next images are to be answered.
                logger.exception("a batch of %d images failed", len(group))
                for job in group:
                    job.fail(error)

    def _next_group(self) -> list[Job]:
        """Return the images that are next, at least one; none when everything is done."""
        with self._changed:
            while True:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                first = self._waiting[0]
                group = [job for job in self._waiting if job is first or job.goes_with(first)]
                rest = first.queued + self._wait - time.monotonic()
                if len(group) >= self._batch_size or rest <= 0 or self._is_closed:
                    break
                self._changed.wait(rest)
            group = group[: self._batch_size]
            for job in group:
                self._waiting.remove(job)
            self._metrics.waiting.set(len(self._waiting))
            return group

    def _predict(self, group: list[Job]) -> None:
        for job in [job for job in group if job.is_over]:
            group.remove(job)
            job.fail(GivenUp("nobody waits for this image"))
        if not group:
            return

        def look(done: int, total: int, fraction: float) -> None:
            if all(job.is_over for job in group):
                raise GivenUp("nobody waits for these images")

        model = group[0].model
        needs = frozenset[str]().union(*(job.wanted.needs for job in group))
        began = time.perf_counter()
        with model.predictor.watched_by(look):
            tasks = (job.task(self._writers) for job in group)
            for done in model.pipeline(needs).run(tasks):
                if done.error is not None:
                    done.job.fail(done.error)
        seconds = time.perf_counter() - began
        self._metrics.batch(model.name, len(group), seconds)
        self.seconds_per_image += 0.2 * (seconds / len(group) - self.seconds_per_image)
