"""Read every sample on all cores, each file only once as long as it stays the same."""

import contextlib
import hashlib
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import msgspec

from base.base_dataset import BaseDataset
from base.samples import Samples
from inspection.facts import FORMAT, SampleFacts, examine, names_of
from utils.cli.launcher import usable_cores
from utils.progress import Progress
from utils.samples.pairing import Sample
from utils.transforms.augmentation import Augmentation

logger = logging.getLogger(__name__)

Job = tuple[int, int]  # which dataset, which of its samples

SECONDS_BETWEEN_COMMITS = 2


class FactsCache:
    """Facts in an SQLite file, by paths, sizes, times and rule.

    A file that cannot be made or written to costs only a warning and a second reading.

    Args:
        folder: The folder of the file; made if needed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder, "audit.sqlite")
        self._database: sqlite3.Connection | None = None
        self._committed = time.monotonic()
        with self._warning():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()

    def get(self, sample: Sample, rule: str) -> SampleFacts | None:
        """Return the facts of a sample whose files have not changed, or None."""
        key, stamp = _key(sample, rule)
        if self._database is None or stamp is None:
            return None
        with self._warning():
            query = "SELECT data FROM facts WHERE sample = ? AND stamp = ?"
            row = self._database.execute(query, (key, stamp)).fetchone()
            if row is not None:
                with contextlib.suppress(msgspec.MsgspecError):
                    facts = msgspec.msgpack.decode(row[0], type=SampleFacts)
                    return msgspec.structs.replace(facts, **names_of(sample))
        return None

    def put(self, sample: Sample, rule: str, facts: SampleFacts) -> None:
        """Keep facts, unless a file could not be read: its permissions may change."""
        key, stamp = _key(sample, rule)
        failed = facts.image.error or (facts.mask is not None and facts.mask.error)
        if self._database is None or stamp is None or failed:
            return
        with self._warning():
            # Names may contain bytes that are not UTF-8; the sample knows them.
            nameless = msgspec.structs.replace(facts, name="", files=[], label="")
            row = (key, stamp, msgspec.msgpack.encode(nameless))
            self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", row)
            if time.monotonic() - self._committed > SECONDS_BETWEEN_COMMITS:
                self._database.commit()
                self._committed = time.monotonic()

    def close(self) -> None:
        """Commit what is left, and close the file."""
        if self._database is not None:
            with self._warning():
                self._database.commit()
        if self._database is not None:
            self._database.close()

    def _open(self) -> None:
        self._database = sqlite3.connect(self.path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS facts (sample TEXT PRIMARY KEY, stamp TEXT, data BLOB)"
        )

    def _replace(self, error: sqlite3.Error) -> None:
        """Start a new file if this one is not a database, or no longer one."""
        logger.warning("%s is damaged (%s) and is replaced", self.path, error)
        if self._database is not None:
            self._database.close()
        self._database = None
        with self._warning():
            self.path.unlink(missing_ok=True)
            self._open()

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            # Its sub-classes are about locks, permissions and full disks instead.
            if type(error) is sqlite3.DatabaseError:
                self._replace(error)
                return
            logger.warning(
                "%s cannot be used (%s); the next check reads every file again unless --cache "
                "names another folder",
                self.path,
                error,
            )
            self._database = None


def _key(sample: Sample, rule: str) -> tuple[str, str | None]:
    """Return a sample's key in the cache, and the state of its files; None if it has none."""
    words = [rule, sample.name, *(f"{os.path.abspath(f)}|{f}" for f in sample.files)]
    key = hashlib.sha256(os.fsencode("\n".join(words))).hexdigest()
    try:
        states = [os.stat(file) for file in sample.files]
    except OSError:
        return key, None
    return key, " ".join(f"{state.st_size}:{state.st_mtime_ns}" for state in states)


def scan(
    datasets: Sequence[BaseDataset],
    ignore_index: int,
    workers: int | None,
    cache_folder: str | Path,
) -> list[list[SampleFacts]]:
    """Return the facts of every sample of every dataset; `workers` of None uses every core.

    Raises:
        ValueError: If a process was killed.
    """
    cache = FactsCache(cache_folder)
    rules = [f"{FORMAT} {ignore_index} {dataset.reading_rule()}" for dataset in datasets]
    result: list[list[SampleFacts | None]] = [
        [cache.get(sample, rule) for sample in dataset.samples]
        for dataset, rule in zip(datasets, rules, strict=True)
    ]
    jobs = [(d, i) for d, facts in enumerate(result) for i, fact in enumerate(facts) if not fact]
    total = sum(map(len, result))
    try:
        with Progress(total=total, initial=total - len(jobs), label="reading", unit="pair") as bar:
            examined = _examine_all(datasets, ignore_index, jobs, workers or usable_cores())
            for (d, i), facts in zip(jobs, examined, strict=True):
                result[d][i] = facts
                cache.put(datasets[d].samples[i], rules[d], facts)
                bar.update()
    finally:
        cache.close()  # an interruption keeps what has been read
    return [[fact for fact in facts if fact is not None] for facts in result]


def _examine_all(
    datasets: Sequence[BaseDataset], ignore_index: int, jobs: Sequence[Job], workers: int
) -> Iterator[SampleFacts]:
    """Yield the facts of each job, in order."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(_examiner(datasets, ignore_index), jobs)
        return
    pool = ProcessPoolExecutor(
        workers, initializer=_start_worker, initargs=(list(datasets), ignore_index)
    )
    try:
        # Small enough that the bar moves, large enough that the transfer costs nothing.
        chunk = max(1, min(16, len(jobs) // (4 * workers)))
        yield from pool.map(_work, jobs, chunksize=chunk)
    except BrokenProcessPool:
        raise ValueError(
            "a process that was reading images was killed, usually because memory ran out; "
            f"use fewer than --workers {workers}"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _examiner(datasets: Sequence[BaseDataset], ignore_index: int) -> Callable[[Job], SampleFacts]:
    """Return a function that does one job; its look-up tables are made once."""
    maps = [
        Samples(dataset, Augmentation(), seed=0, ignore_index=ignore_index).label_map
        for dataset in datasets
    ]
    return lambda job: examine(datasets[job[0]], job[1], maps[job[0]])


_examine: Callable[[Job], SampleFacts]  # of a worker process


def _start_worker(datasets: Sequence[BaseDataset], ignore_index: int) -> None:
    global _examine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    cv2.setNumThreads(0)
    _examine = _examiner(datasets, ignore_index)


def _work(job: Job) -> SampleFacts:
    return _examine(job)
