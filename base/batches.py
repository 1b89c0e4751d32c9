"""The samples of each batch, and how they are stacked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler, get_worker_info

from base.samples import SampleArrays, SampleError
from utils.files.data_file import DataError
from utils.files.file_notes import FileNote
from utils.random_state import Stream


class MixedSizesError(DataError):
    """Samples of several sizes, which cannot be stacked to one batch.

    Args:
        sizes: (width, height) -> the index of a sample of that size.
    """

    def __init__(self, sizes: Mapping[tuple[int, int], int]) -> None:
        self.sizes = dict(sorted(sizes.items())[:2])
        super().__init__(self.describe({}))

    def __reduce__(self) -> tuple[type[MixedSizesError], tuple[dict[tuple[int, int], int]]]:
        return type(self), (self.sizes,)

    def describe(self, names: Mapping[int, str]) -> str:
        """Return the message, with the names of the two samples as far as they are known."""
        shown = []
        for (width, height), index in self.sizes.items():
            name = f" ({names[index]})" if names.get(index) else ""
            shown.append(f"{width}x{height}{name}")
        return (
            f"images of {' and '.join(shown)} cannot be stacked to one batch; set crop_size (with "
            "augment), a crop in the pipeline of albumentations, or a batch_size of 1"
        )


class Batch(NamedTuple):
    """Images of one size with their labels."""

    images: Tensor  # (B, H, W, C), uint8 as a rule; not normalised
    labels: Tensor  # (B, H, W) uint8 or int16
    indices: Tensor  # (B,) of the samples in the dataset
    # The samples that are not in it, and what was wrong with them.
    skipped: tuple[tuple[int, str], ...] = ()
    # (B, H, W) bool, where the objects are; None where the dataset does not say.
    foreground: Tensor | None = None
    # Images of the batch over all ranks, of which these are some; None: B.
    whole_size: int | None = None
    notes: tuple[FileNote, ...] = ()  # oddities of the files that were read for it


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The samples of each batch: a function of (seed, epoch) alone.

    Goes from `epoch` to `last_epoch` without a gap, so that loader processes never run dry between
    two epochs.

    Args:
        indices: The samples to draw from.
        batch_size: Samples of a whole step, over all processes.
        shuffle: Another order in each epoch.
        seed: The run's seed.
        drop_last: Leave out the last batch if it is not full.
        drop_single: Leave out the last batch if it has one sample only.
        rank: This process.
        world_size: The number of processes.
        in_blocks: Give each process samples that follow each other, in batches as one process
            alone has them, instead of every n-th sample.
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
        in_blocks: bool = False,
    ) -> None:
        self.indices = np.asarray(indices, dtype=np.int64)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.in_blocks = in_blocks
        full, rest = divmod(len(self.indices), batch_size)
        self.leaves_out = rest if drop_last or (drop_single and rest == 1 < batch_size) else 0
        self.num_batches = full + (rest > self.leaves_out)
        self.epoch = 0
        self.first_batch = 0
        self.last_epoch = 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first = self.first_batch
        for epoch in range(self.epoch, max(self.epoch, self.last_epoch) + 1):
            yield from self.of_epoch(epoch, first)
            first = 0

    def size_of(self, number: int) -> int:
        """Return how many samples a batch of an epoch has, over all ranks."""
        return min(self.batch_size, len(self.indices) - number * self.batch_size)

    def of_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yield the batches of one epoch, from `first_batch` on."""
        order = self.indices
        if self.shuffle:
            rng = np.random.default_rng((Stream.ORDER, self.seed, epoch))
            order = rng.permutation(order)
        for number in range(first_batch, self.num_batches):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in batch[self._own]]

    @property
    def _own(self) -> slice:
        if not self.in_blocks:
            return slice(self.rank, None, self.world_size)
        size = self.batch_size // self.world_size
        return slice(self.rank * size, (self.rank + 1) * size)


def collate(samples: Sequence[SampleArrays | SampleError]) -> Batch | DataError:
    """Stack samples of one size; instead return the first that failed, or sizes that differ.

    No samples give a batch without a shape.
    """
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    arrays = [sample for sample in samples if isinstance(sample, SampleArrays)]
    if not arrays:
        return Batch(torch.empty(0), torch.empty(0), torch.empty(0))
    sizes = {(a.image.shape[1], a.image.shape[0]): a.index for a in arrays}
    if len(sizes) > 1:
        return MixedSizesError(sizes)
    foregrounds = [a.foreground for a in arrays if a.foreground is not None]
    return Batch(
        _stack([a.image for a in arrays]),
        _stack([a.label for a in arrays]),
        _stack([np.int64(a.index) for a in arrays]),
        tuple(pair for a in arrays for pair in a.skipped),
        _stack(foregrounds) if foregrounds else None,
        notes=tuple(note for a in arrays for note in a.notes),
    )


def _stack(arrays: Sequence[np.ndarray | np.int64]) -> Tensor:
    tensor = torch.from_numpy(np.stack(arrays))
    if get_worker_info() is not None:
        # The loader would do it in a thread that has nobody to tell that there is no room: the
        # batch would be lost, and the training wait for it forever.
        tensor.share_memory_()
    return tensor


@dataclasses.dataclass(frozen=True)
class CollateBySize:
    """Stacks one batch for each size: padding an image would change its prediction."""

    # Leave out samples that cannot be used; a first batch without images says which.
    skip: bool = False

    def __call__(self, samples: Sequence[SampleArrays | SampleError]) -> list[Batch] | DataError:
        """Return the batches, or the first sample that failed."""
        groups: dict[tuple[int, ...], list[SampleArrays | SampleError]] = {}
        skipped = []
        for sample in samples:
            if isinstance(sample, SampleArrays):
                groups.setdefault(sample.image.shape, []).append(sample)
            elif self.skip:
                skipped.append((sample.index, str(sample)))
            else:
                return sample
        batches = [cast(Batch, collate(group)) for group in groups.values()]
        if skipped:
            nothing = Batch(torch.empty(0), torch.empty(0), torch.empty(0))
            batches.insert(0, nothing._replace(skipped=tuple(skipped)))
        return batches
