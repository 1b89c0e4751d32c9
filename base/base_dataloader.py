"""Seeded, resumable, rank-aware batches."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from base.base_dataset import BaseDataset, DataError, SampleArrays, Samples
from utils.config import Fraction, NonNegativeInt, PositiveInt
from utils.transforms import Augmentation

logger = logging.getLogger(__name__)

ORDER_STREAM = 2  # first word of the random seed of an epoch's order
SPLIT_STREAM = 3


class Batch(NamedTuple):
    """Pictures of one size with their labels.

    Attributes:
        images: (B, H, W, C), uint8 as a rule; not normalised.
        labels: (B, H, W) uint8 or int16.
        indices: (B,) places in the dataset.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Which samples stand in which batch, as a function of (seed, epoch) alone.

    Args:
        indices: The samples to draw from.
        batch_size: Samples of a whole step, over all processes.
        shuffle: Another order in each epoch.
        seed: The run's seed.
        drop_last: Leave out the last batch if it is not full.
        drop_single: Leave out the last batch if it holds one sample only.
        rank: This process.
        world_size: The number of processes.
    """

    def __init__(
        self,
        indices: Sequence[int],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        drop_last: bool = False,
        drop_single: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.indices = np.asarray(indices, dtype=np.int64)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        full, rest = divmod(len(self.indices), batch_size)
        self.leaves_out = rest if drop_last or (drop_single and rest == 1 < batch_size) else 0
        self.num_batches = full + (rest > self.leaves_out)
        self.epoch = 0
        self.first_batch = 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.indices
        if self.shuffle:
            rng = np.random.default_rng((ORDER_STREAM, self.seed, self.epoch))
            order = rng.permutation(order)
        for number in range(self.first_batch, self.num_batches):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in batch[self.rank :: self.world_size]]


@dataclasses.dataclass(frozen=True)
class LoaderOptions:
    """How a dataset is dealt out in batches; stands in the config beside the dataset's arguments.

    Args:
        batch_size: Samples of a whole step, over all processes.
        shuffle: Another order in each epoch.
        num_workers: Processes that load; 0 loads in the main process.
        val_split: The share of the samples held back for validation, the same ones every time.
        drop_last: Leave out a last batch that is not full.
    """

    batch_size: PositiveInt
    shuffle: bool = False
    num_workers: NonNegativeInt = 1
    val_split: Fraction | None = None
    drop_last: bool = False

    legacy_args: ClassVar[dict[str, str]] = {
        "return_id": "a batch always carries the places of its samples",
    }


class BaseDataLoader(DataLoader["Batch | list[Batch] | DataError"]):
    """Batches of a dataset for training or validation.

    Args:
        dataset: What to load.
        augmentation: What is done to each pair.
        options: Batch size, order, processes.
        seed: The run's seed.
        ignore_index: The label of pixels that do not count.
        training: Batches for training: one tensor a batch, so that all pictures need one size,
            and no batch of a single sample, on which batch normalisation fails. Otherwise a batch
            is a list with one entry a picture size.
        held_out: Load what `val_split` holds back instead of the rest.
        rank: This process.
        world_size: The number of processes.

    Raises:
        ValueError: If `batch_size` cannot be divided over the processes, or no batch is left.
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
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        batch_size = options.batch_size
        if batch_size % world_size:
            low = batch_size - batch_size % world_size
            fits = f"{low} or {low + world_size}" if low else str(world_size)
            raise ValueError(
                f"batch_size: {batch_size} is the size of the whole step and cannot be divided "
                f"over {world_size} processes; use {fits}"
            )
        self.source = dataset
        self.samples = Samples(dataset, augmentation, seed=seed, ignore_index=ignore_index)
        self.batches = EpochBatches(
            _share(len(dataset), options.val_split, held_out),
            batch_size,
            shuffle=options.shuffle,
            seed=seed,
            drop_last=options.drop_last,
            drop_single=training,
            rank=rank,
            world_size=world_size,
        )
        if len(self.batches) == 0:
            held = f" of {len(dataset)} (val_split {options.val_split})" * bool(options.val_split)
            raise ValueError(
                f"{len(self.batches.indices)} pictures{held} give no batch of {batch_size}; "
                "use a smaller batch_size or more pictures"
            )
        if self.batches.leaves_out and training:
            logger.info(
                "%d of %d pictures are left out of each epoch, at random: the last batch would "
                "not be %s",
                self.batches.leaves_out,
                len(self.batches.indices),
                "full" if options.drop_last else "large enough for batch normalisation",
            )
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        num_workers = options.num_workers
        if num_workers > (cores or 1):
            logger.warning("num_workers: %d on %s cores; using %s", num_workers, cores, cores)
            num_workers = cores or 1
        super().__init__(
            cast("Dataset[Any]", self.samples),
            batch_sampler=self.batches,
            num_workers=num_workers,
            collate_fn=collate if training else collate_by_size,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            worker_init_fn=_init_worker,
            # Its own generator: an epoch that starts must not move the global random state.
            generator=torch.Generator(),
        )

    @property
    def num_samples(self) -> int:
        """Pictures an epoch, over all processes."""
        return len(self.batches.indices) - self.batches.leaves_out

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch | list[Batch]]:
        """The batches of an epoch, from `first_batch` on.

        Raises:
            DataError: If a file cannot be used.
        """
        self.batches.epoch = epoch
        self.batches.first_batch = first_batch
        for batch in self:
            if isinstance(batch, DataError):
                raise batch
            yield batch


def collate(samples: Sequence[SampleArrays | DataError]) -> Batch | DataError:
    """Stack samples of one size; the first sample that failed, or a size that differs, instead."""
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    arrays = [sample for sample in samples if isinstance(sample, SampleArrays)]
    sizes = {(a.image.shape[1], a.image.shape[0]) for a in arrays}
    if len(sizes) > 1:
        shown = " and ".join(f"{w}x{h}" for w, h in sorted(sizes)[:2])
        return DataError(
            f"pictures of {shown} cannot stand in one batch; set crop_size (with augment), or a "
            "batch_size of 1"
        )
    return Batch(
        torch.from_numpy(np.stack([a.image for a in arrays])),
        torch.from_numpy(np.stack([a.label for a in arrays])),
        torch.tensor([a.index for a in arrays]),
    )


def collate_by_size(samples: Sequence[SampleArrays | DataError]) -> list[Batch] | DataError:
    """One batch for each size, so that no picture is padded: that would change its prediction."""
    groups: dict[tuple[int, ...], list[SampleArrays | DataError]] = {}
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        groups.setdefault(sample.image.shape, []).append(sample)
    batches = []
    for group in groups.values():
        batch = collate(group)
        if isinstance(batch, DataError):
            return batch
        batches.append(batch)
    return batches


def _share(length: int, val_split: float | None, held_out: bool) -> list[int]:
    """The samples that training keeps, or those that `val_split` holds back."""
    if val_split is None:
        return list(range(length))
    # Not the run's seed: runs with other seeds are to be compared on the same pictures.
    order = np.random.default_rng((SPLIT_STREAM, 0)).permutation(length)
    held = max(1, round(length * val_split))
    return sorted(order[:held].tolist() if held_out else order[held:].tolist())


def _init_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # one core a worker: OpenCV would start a pool of threads in each
