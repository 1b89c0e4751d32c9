"""Seeded, resumable, rank-aware batches."""

import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, cast

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from base.base_dataset import BaseDataset
from base.batches import Batch, CollateBySize, EpochBatches, MixedSizesError, collate
from base.loader_stream import LoaderStream, end_workers
from base.samples import SampleArrays, Samples
from utils.cli.launcher import usable_cores
from utils.cli.signals import ignore_signals_in_worker
from utils.config.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from utils.distributed.collectives import all_gather_json, world_size
from utils.files.data_file import DataError
from utils.files.file_notes import FileNote, count_notes
from utils.memory import free_memory
from utils.samples.pair_cache import CACHE_FOLDER, DiskCache, PairCache, RamCache
from utils.samples.pairing import Sample
from utils.transforms.augmentation import Augmentation

logger = logging.getLogger(__name__)

# More images than this that cannot be used are a fault of the whole set, not of some files.
MAX_BAD_FRACTION = 0.05


@dataclasses.dataclass(frozen=True)
class LoaderOptions:
    """How a dataset is split into batches; in the config beside the dataset's arguments."""

    # Samples of a whole step, over all processes; in validation of one process.
    batch_size: PositiveInt
    shuffle: bool = False  # another order in each epoch
    num_workers: NonNegativeInt = 1  # processes that load; 0 loads in the main process
    # The fraction of the samples held back for validation, the same ones every time.
    val_split: Fraction | None = None
    drop_last: bool = False  # leave out a last batch that is not full
    # What happens to a sample whose files cannot be used: `"raise"` ends the training; `"skip"`
    # warns, counts, and takes another in its place (validation: leaves it out), up to one image in
    # twenty.
    on_bad_sample: Literal["raise", "skip"] = "raise"
    # Keep decoded images: `"ram"` for this run, `"disk"` for later ones too.
    cache: Literal["ram", "disk"] | None = None
    # What `"ram"` may take; a third of the free memory by default.
    cache_gb: PositiveFloat | None = None
    cache_dir: str = CACHE_FOLDER  # the folder of `"disk"`

    legacy_args: ClassVar[dict[str, str]] = {
        "return_id": "a batch always has the indices of its samples"
    }


class BaseDataLoader(DataLoader["Batch | list[Batch] | DataError"]):
    """Batches of a dataset for training or validation.

    Args:
        dataset: What to load.
        augmentation: What is done to each pair.
        options: Batch size, order, processes.
        seed: The run's seed.
        ignore_index: The label of ignored pixels.
        training: Batches for training: one tensor a batch, so that all images need one size,
            and no batch of a single sample, on which batch normalisation fails. Otherwise a batch
            is a list with one entry an image size.
        held_out: Load what `val_split` holds back instead of the rest.
        num_epochs: Up to which epoch batches are prepared ahead; 0 prepares each epoch when it is
            asked for.
        rank: This process.
        world_size: The number of processes.

    Raises:
        DataError: If the dataset has problems, unless bad samples are to be skipped.
        ValueError: If `batch_size` cannot be divided over the processes, no batch is left, or the
            cache cannot be made.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        augmentation: Augmentation,
        options: LoaderOptions,
        *,
        seed: int,
        ignore_index: int,
        training: bool = False,
        held_out: bool = False,
        num_epochs: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        # What the dataset knows to be wrong
        skip = options.on_bad_sample == "skip"
        most_lost = MAX_BAD_FRACTION * (len(dataset) + dataset.lost)
        if dataset.problems and (not skip or dataset.lost > max(1, most_lost)):
            raise DataError("; ".join(dataset.problems))
        if not held_out:  # else the loader of the rest has said it
            for note in (*dataset.problems, *dataset.notes):
                logger.warning(note)

        # What does not go together
        if dataset.has_foreground and augmentation.follows_labels:
            raise ValueError(
                f"{augmentation.follows_labels[0]}: cannot be used with a foreground, which "
                "it would not transform; remove one of the two"
            )
        # In training that is the whole step's; elsewhere it only says what fits into memory.
        batch_size = options.batch_size if training else options.batch_size * world_size
        if batch_size % world_size:
            low = batch_size - batch_size % world_size
            fits = f"{low} or {low + world_size}" if low else str(world_size)
            raise ValueError(
                f"batch_size: {batch_size} is the batch of all processes together and cannot "
                f"be divided over {world_size} processes; use {fits}"
            )

        # Samples
        indices = split_indices(dataset.samples, options.val_split, held_out)
        self.source = dataset
        self.samples = Samples(
            dataset,
            augmentation,
            seed=seed,
            ignore_index=ignore_index,
            indices=indices,
            substitute=skip and training,
            cache=_make_cache(dataset, options, ignore_index),
        )
        self.skips = skip
        self.bad: dict[int, str] = {}  # index in the dataset -> what was wrong
        self.notes: dict[FileNote, None] = {}  # of files that are odd but were read, each once
        self._notes_said = 0
        self.num_epochs = num_epochs
        self._stream: LoaderStream[Any] | None = None
        self._next = (0, 0)

        # Batches
        self.batches = EpochBatches(
            indices,
            batch_size,
            shuffle=options.shuffle,
            seed=seed,
            drop_last=options.drop_last,
            drop_single=training,
            rank=rank,
            world_size=world_size,
            # The same images together give the same logits, to the last bit.
            in_blocks=not training,
        )
        if len(self.batches) == 0:
            held = f" of {len(dataset)} (val_split {options.val_split})" * bool(options.val_split)
            raise ValueError(
                f"{len(self.batches.indices)} images{held} give no batch of {batch_size}; "
                "use a smaller batch_size or more images"
            )
        if self.batches.leaves_out and training:
            logger.info(
                "%d of %d images are left out of each epoch, at random: the last batch would "
                "not be %s",
                self.batches.leaves_out,
                len(self.batches.indices),
                "full" if options.drop_last else "large enough for batch normalisation",
            )

        # Worker processes
        cores = usable_cores()
        num_workers = min(options.num_workers, cores)
        if options.num_workers > cores:
            logger.warning(
                "num_workers: %d is more than the %d cores; using %d",
                options.num_workers, cores, cores,
            )  # fmt: skip
        super().__init__(
            cast("Dataset[Any]", self.samples),
            batch_sampler=self.batches,
            num_workers=num_workers,
            collate_fn=collate if training else CollateBySize(skip),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            worker_init_fn=_init_worker,
            # Its own generator: an epoch that starts must not move the global random state.
            generator=torch.Generator(),
        )

    @property
    def num_samples(self) -> int:
        """Images an epoch, over all processes."""
        return len(self.batches.indices) - self.batches.leaves_out

    def first_sample(self) -> SampleArrays:
        """Return the first sample; where bad ones are skipped, the first that can be used.

        Raises:
            DataError: If there is none.
        """
        for index in self.batches.indices.tolist():
            sample = self.samples[1, index]
            if isinstance(sample, SampleArrays):
                self.count_bad(sample.skipped)
                return sample
            if not self.skips:
                raise sample
            self.count_bad([(sample.index, str(sample))])
        raise DataError("no image can be used")

    def prepare(self, epoch: int, first_batch: int = 0) -> None:
        """Let the processes begin with an epoch before it is asked for."""
        self.batches.epoch, self.batches.first_batch = epoch, first_batch
        self.batches.last_epoch = self.num_epochs
        self._stream, self._next = LoaderStream(self), (epoch, first_batch)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch | list[Batch]]:
        """Yield the batches of an epoch, from `first_batch` on.

        Raises:
            DataError: If a file cannot be used.
            WorkerError: If a process that loads has ended.
        """
        if self._stream is None or self._next != (epoch, first_batch):
            self.prepare(epoch, first_batch)
        stream, self._stream = self._stream, None  # whoever leaves in the middle starts anew
        assert stream is not None
        for number in range(first_batch, len(self.batches)):
            batch = next(stream)
            if isinstance(batch, MixedSizesError):
                names = {index: self.source.samples[index].image for index in batch.sizes.values()}
                raise DataError(batch.describe(names))
            if isinstance(batch, DataError):
                self.close()
                raise batch
            batches = [batch] if isinstance(batch, Batch) else batch
            self.count_bad([pair for each in batches for pair in each.skipped])
            self.notes.update((note, None) for each in batches for note in each.notes)
            if not isinstance(batch, Batch):
                yield [each for each in batches if len(each.indices)]
            else:
                own = batch if len(batch.indices) else self._empty_batch()
                yield own._replace(whole_size=self.batches.size_of(number))
        if epoch < self.num_epochs:
            self._stream, self._next = stream, (epoch + 1, 0)

    def close(self) -> None:
        """End the processes that load; the next epoch starts others."""
        items, self._iterator, self._stream = self._iterator, None, None
        end_workers(items)

    def say_notes(self, *further: FileNote) -> None:
        """Log the odd files that were read anyway, if there are more than last time.

        Args:
            further: Notes on files that other processes have read.
        """
        self.notes.update(dict.fromkeys(further))
        if len(self.notes) > self._notes_said:
            for line in count_notes(self.notes):
                logger.warning("%s; read anyway", line)
        self._notes_said = len(self.notes)

    def merge_bad(self) -> None:
        """Exchange what any rank could not use; the main one names it. Every rank has to call this.

        Raises:
            DataError: If together it is too much.
        """
        if world_size() == 1:
            self.say_notes()
            return
        if self.skips:
            for bad in all_gather_json(list(self.bad.items())):
                self.count_bad(bad)
        notes = all_gather_json(list(self.notes))
        self.say_notes(*(FileNote(*note) for rank_notes in notes for note in rank_notes))

    def _empty_batch(self) -> Batch:
        """Return the batch of a rank for which the last one of an epoch has no image left."""
        sample = self.first_sample()
        images, labels = (
            torch.from_numpy(array[None][:0]) for array in (sample.image, sample.label)
        )
        inside = None if sample.foreground is None else labels.bool()
        return Batch(images, labels, torch.empty(0, dtype=torch.int64), foreground=inside)

    def count_bad(self, skipped: Iterable[tuple[int, str]]) -> None:
        """Name samples that are skipped (index and what was wrong), each once.

        Raises:
            DataError: If they have become too many.
        """
        total = len(self.batches.indices) + self.source.lost
        for index, message in skipped:
            if index in self.bad:
                continue
            self.bad[index] = message
            logger.warning("skipped: %s", message)
            count = len(self.bad) + self.source.lost
            if count > max(1, MAX_BAD_FRACTION * total):
                raise DataError(
                    f"{count} of {total} images cannot be used, more than one in "
                    f"{round(1 / MAX_BAD_FRACTION)}; the last: {message}. python check.py names all"
                )


def _make_cache(
    dataset: BaseDataset, options: LoaderOptions, ignore_index: int
) -> PairCache | None:
    if options.cache is None:
        return None
    if options.cache == "disk":
        if not os.path.exists(dataset.samples[0].image):
            logger.warning('cache: "disk" has no effect: the images are not files')
        rule = f"{dataset.reading_rule()} {ignore_index}"
        return DiskCache(options.cache_dir, [sample.files for sample in dataset.samples], rule)
    # A third for training, a third for validation.
    limit = options.cache_gb * 1e9 if options.cache_gb else free_memory() / 3
    return RamCache(len(dataset), limit, forked=options.num_workers > 0)


def split_indices(samples: Sequence[Sample], val_split: float | None, held_out: bool) -> list[int]:
    """Return the indices of the samples that training keeps, or that `val_split` holds back.

    A hash of its name decides on a sample: runs with other seeds are to be compared on the same
    images, and one more image must not split all others anew.

    Raises:
        DataError: If nothing is left for the training.
    """
    if val_split is None:
        return list(range(len(samples)))

    def rank(index: int) -> tuple[bytes, int]:
        name = samples[index].name.encode(errors="surrogateescape")
        return hashlib.sha256(name).digest(), index

    order = sorted(range(len(samples)), key=rank)
    held = max(1, round(len(samples) * val_split))
    if not held_out and held >= len(samples):
        raise DataError(_nothing_left(len(samples), val_split))
    return sorted(order[:held] if held_out else order[held:])


def _nothing_left(count: int, val_split: float) -> str:
    """Return why this fraction cannot be held back, and which can."""
    if count == 1:
        return (
            f"val_split: {val_split} of 1 image holds back that image, and none is left for "
            "training; add a second one, or leave val_split out and set trainer.val to false, or "
            "name other images in val_loader"
        )
    most = math.floor(100 * (count - 1) / count) / 100
    return (
        f"val_split: {val_split} of {count} images holds back all {count}, and none is left for "
        f'training; use at most "val_split": {most}, which leaves some'
    )


def _init_worker(worker: int) -> None:
    ignore_signals_in_worker()
    cv2.setNumThreads(0)  # one core a worker: OpenCV would start a pool of threads in each
