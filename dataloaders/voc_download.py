"""Download Pascal VOC 2012 and SBD."""

import contextlib
import http.client
import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from utils.files.data_file import DataError
from utils.files.mat_io import import_scipy

logger = logging.getLogger(__name__)

SILENCE = 20.0  # seconds without an answer after which a download has failed


def fetch_voc(data_dir: Path) -> Path:
    """Download VOC 2012, whose MD5 sum torchvision checks, and return its folder.

    Raises:
        DataError: If there is no connection, or the download is not the archive.
    """
    # Imported here, because torchvision's datasets take time to import.
    from torchvision.datasets import VOCSegmentation
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    def unpack(folder: Path) -> Path:
        VOCSegmentation(str(folder), year="2012", image_set="train", download=True)
        return folder / "VOCdevkit" / "VOC2012"

    target = data_dir / "VOCdevkit" / "VOC2012"
    return _fetch(str(DATASET_YEAR_DICT["2012"]["url"]), target, unpack, f"unpack it in {data_dir}")


def fetch_sbd(data_dir: Path) -> Path:
    """Download SBD, whose MD5 sum torchvision checks, and return its folder.

    Raises:
        DataError: If there is no connection, SciPy is missing, or the download is not the archive.
    """
    from torchvision.datasets import SBDataset

    import_scipy()

    def unpack(folder: Path) -> Path:
        dataset = folder / "dataset"
        SBDataset(str(dataset), image_set="train", mode="segmentation", download=True)
        (dataset / SBDataset.filename).unlink(missing_ok=True)
        shutil.rmtree(dataset / "benchmark_RELEASE", ignore_errors=True)
        return dataset

    target = data_dir / "benchmark_RELEASE" / "dataset"
    return _fetch(SBDataset.url, target, unpack, f"unpack it in {data_dir}")


def fetch_sbd_list(folder: Path) -> Path:
    """Download SBD's list without VOC's val, unless it exists, and return its file.

    Raises:
        DataError: If there is no connection, or the download is not the list.
    """
    from torchvision.datasets import SBDataset
    from torchvision.datasets.utils import download_url

    name = SBDataset.voc_split_filename

    def save(temporary: Path) -> Path:
        download_url(SBDataset.voc_train_url, str(temporary), name, SBDataset.voc_split_md5)
        return temporary / name

    return _fetch(SBDataset.voc_train_url, folder / name, save, f"put it into {folder}")


def _fetch(url: str, target: Path, unpack: Callable[[Path], Path], by_hand: str) -> Path:
    """Let `unpack` fill a temporary folder and move what it returns to `target`.

    Nothing incomplete is left behind: an interrupted run starts again.
    """
    if target.exists():
        return target
    logger.info("downloading %s to %s", url, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            _give_up_after(SILENCE),
            tempfile.TemporaryDirectory(prefix=".download", dir=target.parent) as folder,
        ):
            found = unpack(Path(folder))
            if not target.exists():  # another process may have been faster
                found.rename(target)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataError(
            f"{url}: could not be downloaded ({error}); download it in another way and {by_hand}"
        ) from None
    return target


@contextlib.contextmanager
def _give_up_after(seconds: float) -> Iterator[None]:
    """Set a timeout for connections, because torchvision sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
