"""utils/samples/pair_cache.py: what comes out is what went in, or nothing."""

import errno
import multiprocessing
import os

import numpy as np
import pytest

from utils.samples import pair_cache
from utils.samples.pair_cache import DiskCache, RamCache


def arrays(seed, dtype=np.uint8, size=(5, 7, 3), label_type=np.uint8):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 99, size).astype(dtype), rng.integers(0, 9, size[:2]).astype(label_type)


def equal(found, expected):
    pairs = zip(found, expected, strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("label_type", [np.uint8, np.int16])
def test_feature_ram_keeps_any_type_and_size(dtype, label_type):
    cache = RamCache(3, 10_000)
    pairs = [arrays(i, dtype, (3 + i, 11, 1 + 5 * i), label_type) for i in range(3)]
    assert cache.get(1) is None
    for index, pair in enumerate(pairs):
        cache.put(index, *pair)
    assert all(equal(cache.get(i), pair) for i, pair in enumerate(pairs))
    with pytest.raises(ValueError, match="read-only"):
        cache.get(0)[0][0] = 1


def test_feature_ram_is_shared_by_processes():
    cache = RamCache(2, 10_000)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=cache.put, args=(1, *arrays(1)))
    process.start()
    process.join()
    assert equal(cache.get(1), arrays(1))
    assert cache.get(0) is None


def test_feature_ram_that_is_full_keeps_what_it_has(caplog):
    size = 128 + 64  # 105 bytes and 35, each rounded up to 64
    cache = RamCache(4, 2 * size + 10)
    for index in range(4):
        cache.put(index, *arrays(index))
    assert [cache.get(i) is not None for i in range(4)] == [True, True, False, False]
    assert equal(cache.get(1), arrays(1))
    assert caplog.text.count("are full after 2 of 4 images") == 1


def test_exception_ram_without_fork(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    with pytest.raises(ValueError, match='set it to "disk", or num_workers to 0'):
        RamCache(1, 100)
    RamCache(1, 100, forked=False)


@pytest.mark.parametrize("limit", [1e-3, 1e15, 1e300])
def test_exception_ram_that_is_not_there(limit):
    with pytest.raises(ValueError, match=r"cache_gb: .* cannot be allocated; [\d.]+ GB"):
        RamCache(1, limit)


def test_feature_disk_leaves_room_for_checkpoints(tmp_path, files, monkeypatch, caplog):
    usage = pair_cache.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(pair_cache, "MIN_FREE", usage.free + 10**12)
    cache = DiskCache(tmp_path / "cache", files, "rule")
    cache.put(0, *arrays(0))
    assert cache.get(0) is None
    assert "would be left" in caplog.text


def test_feature_disk_takes_names_of_any_bytes(tmp_path):
    name = os.fsdecode(b"stra\xdfe.png")
    (tmp_path / name).write_bytes(b"x")
    cache = DiskCache(tmp_path / "cache", [[str(tmp_path / name)]], "rule")
    cache.put(0, *arrays(0))
    assert equal(cache.get(0), arrays(0))


@pytest.fixture
def files(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    return [[str(tmp_path / "a.png")], [str(tmp_path / "b.png")], [str(tmp_path / "c.png")]]


def test_feature_disk_is_found_again_until_a_file_or_the_rule_changes(tmp_path, files):
    cache = DiskCache(tmp_path / "cache", files, "rule")
    assert cache.get(0) is None
    cache.put(0, *arrays(0, np.float32))
    again = DiskCache(tmp_path / "cache", files, "rule")
    assert equal(again.get(0), arrays(0, np.float32))
    assert again.get(1) is None
    assert DiskCache(tmp_path / "cache", files, "other rule").get(0) is None
    os.utime(files[0][0], (1, 1))
    assert again.get(0) is None


def test_feature_disk_leaves_alone_what_is_no_file(tmp_path, files):
    cache = DiskCache(tmp_path / "cache", files, "rule")
    cache.put(2, *arrays(0))
    assert cache.get(2) is None
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_feature_disk_reads_an_unfinished_file_as_absent(tmp_path, files, damage):
    cache = DiskCache(tmp_path / "cache", files, "rule")
    cache.put(0, *arrays(0))
    path = next(cache.folder.glob("*.image.npy"))
    path.write_bytes(path.read_bytes()[:-10] if damage is None else damage)
    assert cache.get(0) is None
    cache.put(0, *arrays(0))
    assert equal(cache.get(0), arrays(0))


def test_feature_disk_that_is_full_does_not_end_the_training(tmp_path, files, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = DiskCache(tmp_path / "cache", files, "rule")
    cache.put(1, *arrays(1))
    monkeypatch.setattr(pair_cache.np, "save", fail)
    cache.put(0, *arrays(0))
    cache.put(0, *arrays(0))
    assert caplog.text.count("No space left on device") == 1
    assert cache.get(0) is None
    assert equal(cache.get(1), arrays(1))
    assert all(path.suffix == ".npy" for path in cache.folder.iterdir())


def test_exception_disk_folder(tmp_path, files):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cache_dir: .*file/x cannot be made"):
        DiskCache(tmp_path / "file" / "x", files, "rule")
