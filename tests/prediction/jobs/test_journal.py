"""Rows on their way into the manifest: cut, full disks, threads, kills."""

import concurrent.futures
import errno
import os
import signal
import subprocess
import sys

import pytest

from prediction.jobs import journal
from prediction.jobs.journal import Journal, find_journals, read_journals
from prediction.jobs.results_file import Row
from tests.conftest import ROOT


def row(path):
    return Row(path, "i", "m", "s", '{"ids": ["a.png", "d"]}', 0.25, "")


ROWS = [row(f"{name}{n}") for n, name in enumerate(["a.jpg", "=1\n,'\"", "\udcff", "ü", "\x00"])]


def written(folder, rows=ROWS):
    own = Journal(folder)
    for one in rows:
        own.add(one)
    own.close()
    own.close()  # again is fine
    (path,) = find_journals(folder)
    return path


def test_feature_wherever_a_line_is_cut_the_others_are_there(tmp_path):
    path = written(tmp_path)
    data = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(data) if byte == ord("\n")]
    assert len(ends) == len(ROWS)
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        # A row is whole with its last bracket, also without the end of its line.
        count = sum(end - 1 <= size for end in ends)
        assert list(read_journals([path])) == ROWS[:count]


@pytest.mark.parametrize("junk", [b"\0" * 4096, b"\xff\n", b"[]\n", b"{}\n", b"1\n", b"\n\n"])
def test_feature_what_is_no_row_is_skipped(tmp_path, junk):
    """As after a power failure, which may leave zeros instead of the last bytes."""
    path = written(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\n") + 1] + junk + b"\n" + data)
    assert list(read_journals([path])) == [ROWS[0], *ROWS]


def test_feature_a_process_without_rows_leaves_no_file(tmp_path):
    Journal(tmp_path).close()
    assert not os.listdir(tmp_path)
    assert find_journals(tmp_path / "nowhere") == []


def test_feature_threads(tmp_path):
    own = Journal(tmp_path)
    rows = [row(f"{n}.jpg" * 50) for n in range(500)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(own.add, rows))
    own.close()
    assert sorted(read_journals(find_journals(tmp_path))) == sorted(rows)


def test_exception_a_full_disk_leaves_no_half_a_row(tmp_path, monkeypatch):
    """It takes some bytes and refuses the rest, and has room again later."""
    own, room = Journal(tmp_path), [10**6]
    whole = os.write

    def write(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = whole(descriptor, data[: room[0]])
        room[0] -= count
        return count

    own.add(ROWS[0])
    monkeypatch.setattr(os, "write", write)
    for space in (0, 1, 7):
        room[0] = space
        with pytest.raises(OSError, match="No space"):
            own.add(ROWS[1])
    room[0] = 10**6
    own.add(ROWS[2])
    own.close()
    assert list(read_journals(find_journals(tmp_path))) == [ROWS[0], ROWS[2]]


def test_feature_waits_for_the_disk_are_rare(tmp_path, monkeypatch):
    clock, waits, whole = [100.0], [], os.fsync
    monkeypatch.setattr(journal.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(os, "fsync", lambda descriptor: waits.append(clock[0]) or whole(descriptor))
    own = Journal(tmp_path)
    for _ in range(35):
        own.add(ROWS[0])
        clock[0] += 0.1
    own.close()
    assert len(waits) == 5 and waits[-1] == clock[0]


ENDLESS = """
import sys
from pathlib import Path
from prediction.jobs.journal import Journal
from prediction.jobs.results_file import Row
own = Journal(Path(sys.argv[1]))
for n in range(10**9):
    own.add(Row(f"{n}.jpg", "i", "m", "s", "{}", 0.25, ""))
    print(n, flush=True)
"""


def test_feature_a_kill_loses_no_row_that_was_written(tmp_path):
    """The next one may be cut, so one more than was said may be there, or half of it."""
    command = [sys.executable, "-c", ENDLESS, tmp_path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            if int(line) >= 300:
                process.send_signal(signal.SIGKILL)
                break
        said = [int(line), *map(int, process.stdout.read().split(b"\n")[:-1])][-1]
    found = list(read_journals(find_journals(tmp_path)))
    assert [one.path for one in found] == [f"{n}.jpg" for n in range(len(found))]
    assert len(found) in (said + 1, said + 2)
