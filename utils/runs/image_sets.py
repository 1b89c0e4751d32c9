"""The images that a run has seen, to notice on resume that they have changed."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.samples.pairing import Sample

THREADS = 8  # a file server answers slowly; the threads wait


class ImageSets(NamedTuple):
    """Fingerprints of the training and the validation images; (N,) int64 each, sorted."""

    train: Tensor
    val: Tensor


def fingerprints(samples: Sequence[Sample], drawn_from: str = "") -> Tensor:
    """Return a 64-bit hash of each sample's name and of the sizes of its files.

    Nothing is opened, and where the files lie does not matter, so data that was moved is the same.
    A file that was replaced by one of the same size is not noticed.

    Returns:
        (N,) int64, sorted.
    """
    sizes: dict[str, int] = {}  # of a file that many samples share

    def hashes(part: Sequence[Sample]) -> list[int]:
        return [_hash(sample, drawn_from, sizes) for sample in part]

    with ThreadPoolExecutor(THREADS) as pool:
        found = [value for part in pool.map(hashes, _dealt(samples)) for value in part]
    return torch.from_numpy(np.sort(np.array(found, dtype=np.int64)))


def _dealt(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    return [samples[first::THREADS] for first in range(min(THREADS, len(samples)))]


def _hash(sample: Sample, drawn_from: str, sizes: dict[str, int]) -> int:
    for path in sample.files:
        if path not in sizes:
            try:
                sizes[path] = os.stat(path).st_size
            except (OSError, ValueError):  # generated, or missing, which the reader reports
                sizes[path] = -1
    text = "\0".join([sample.name, drawn_from, *(str(sizes[path]) for path in sample.files)])
    data = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(data, "little", signed=True)


def digest(images: Tensor) -> str:
    """Return a hash of a set of images: 32 hexadecimal digits."""
    return hashlib.sha256(images.numpy().astype("<i8").tobytes()).hexdigest()[:32]


def describe_change(before: Tensor, now: Tensor) -> str:
    """Describe how a set of images differs from the one in a checkpoint; empty if it does not."""
    if torch.equal(before, now):
        return ""
    new = np.isin(now.numpy(), before.numpy(), invert=True).sum()
    gone = np.isin(before.numpy(), now.numpy(), invert=True).sum()
    return (
        f"{len(before)} in the checkpoint, {len(now)} now; {new} are new and {gone} are gone "
        "(by name and file size)"
    )
