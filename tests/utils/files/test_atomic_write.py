"""Files that get their name when they are complete; links and races: tests/security."""

import os

import pytest

from tests.row_files import full_disk
from utils.files.atomic_write import PendingFile, open_spool


def test_feature_a_pending_file_has_its_name_at_the_end(tmp_path):
    path = tmp_path / ("x" * 255)  # the longest name
    pending = PendingFile(path)
    pending.file.write(b"half")
    assert not path.exists() and len(os.listdir(tmp_path)) == 1
    pending.finish()
    pending.discard()  # of no effect any more
    assert path.read_bytes() == b"half" and os.listdir(tmp_path) == [path.name]


def test_feature_a_discarded_file_is_gone(tmp_path):
    pending = PendingFile(tmp_path / "a")
    pending.file.write(b"half")
    pending.discard()
    pending.discard()
    assert os.listdir(tmp_path) == [] and pending.file.closed


def test_feature_a_disk_that_is_full_at_the_end(tmp_path):
    """What is buffered is written when the file is closed."""
    pending = PendingFile(tmp_path / "a")
    pending.file.write(b"0123456789")
    with full_disk(5), pytest.raises(OSError):
        pending.finish()
    assert os.listdir(tmp_path) == []
    pending = PendingFile(tmp_path / "a")
    pending.file.write(b"0123456789")
    with full_disk(5):
        pending.discard()
    assert os.listdir(tmp_path) == []


def test_feature_a_spool_has_no_name(tmp_path):
    spool = open_spool(tmp_path / "a.png", 4)
    spool.write(b"0123456789")  # more than is kept in memory
    spool.seek(3)
    assert spool.read(4) == b"3456" and os.listdir(tmp_path) == []
    spool.close()
