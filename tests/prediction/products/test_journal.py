"""Entries of images, merged while other processes write, and after they are killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from prediction.products.journal import Journal
from tests.conftest import ROOT


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "table.csv"


def merged(journal):
    with journal.merge() as places:
        return {key: place.read()["value"] for key, place in places.items()}


def files(target):
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != ".lock")


def test_feature_entries_are_merged_once(target):
    journal = Journal(target)
    assert merged(Journal(target)) == {} and set(journal.waiting()) == set()
    for key in ("b", "a", "\udcff\n"):
        journal.append(key, {"value": key * 2})
    assert set(journal.waiting()) == {"a", "b", "\udcff\n"} == set(Journal(target).waiting())
    assert merged(journal) == {"b": "bb", "a": "aa", "\udcff\n": "\udcff\n\udcff\n"}
    assert files(target) == [] and merged(journal) == {}


def test_feature_the_newest_entry_of_an_image_counts(target):
    first, second = Journal(target), Journal(target)
    first.append("a", {"value": 1})
    second.append("a", {"value": 2})
    first.append("b", {"value": 3})
    second.append("b", {"value": 4})
    first.append("a", {"value": 5})
    assert merged(second) == {"a": 5, "b": 4}


def test_feature_a_process_whose_file_is_taken_goes_on(target):
    mine, other = Journal(target), Journal(target)
    mine.append("a", {"value": 1})
    assert merged(other) == {"a": 1}
    mine.append("b", {"value": 2})
    mine.append("c", {"value": 3})
    assert merged(other) == {"b": 2, "c": 3}


def test_feature_a_line_that_comes_too_late_is_repeated(target, monkeypatch):
    """The file is taken between the writing and the look at its name."""
    mine, other = Journal(target), Journal(target)
    mine.append("a", {"value": 1})
    write, taken = mine._write, []

    def late(line):
        if not taken:
            taken.append(merged(other))
        write(line)

    monkeypatch.setattr(mine, "_write", late)
    mine.append("b", {"value": 2})
    assert taken == [{"a": 1}] and merged(other) == {"b": 2}


def test_exception_a_merge_that_fails_keeps_all(target):
    journal = Journal(target)
    journal.append("a", {"value": 1})
    with pytest.raises(OSError), journal.merge():
        raise OSError
    assert set(Journal(target).waiting()) == {"a"}
    journal.append("b", {"value": 2})
    assert merged(Journal(target)) == {"a": 1, "b": 2}


@pytest.mark.parametrize("end", [b'{"key": "b", "ti', b"[1]\n", b"\0\0\n", b'{"key": "b"}\n'])
def test_feature_half_a_line_is_none(target, end):
    journal = Journal(target)
    journal.append("a", {"value": 1})
    (path,) = target.parent.iterdir()
    with path.open("ab") as file:
        file.write(end)
    assert set(Journal(target).waiting()) == {"a"} and merged(Journal(target)) == {"a": 1}


def test_exception_what_follows_a_failure_is_not_lost(target, monkeypatch):
    """A full disk leaves half a line: the next entry begins a file of its own."""
    journal = Journal(target)
    journal.append("a", {"value": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.append("b", {"value": 2})
    (path,) = target.parent.iterdir()
    os.truncate(path, path.stat().st_size - 5)
    journal.append("c", {"value": 3})
    assert merged(journal) == {"a": 1, "c": 3}


def test_feature_merging_waits_for_another_merge(target):
    journal, order = Journal(target), []
    journal.append("a", {"value": 1})

    def second():
        order.append(merged(Journal(target)))

    with journal.merge() as places:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        assert order == [] and set(places) == {"a"}
    thread.join()
    assert order == [{}]


WRITER = """
import pathlib, sys
from prediction.products.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]))
for number in range(10**6):
    journal.append(f"{sys.argv[2]}-{number}", {"value": number})
    print(number, flush=True)
"""


@pytest.mark.slow
def test_feature_killed_processes_lose_nothing_that_they_finished(target):
    """Four write and are killed, while this one merges all the time."""
    journal, found = Journal(target), {}
    command = [sys.executable, "-c", WRITER, str(target)]
    writers = [
        subprocess.Popen([*command, str(n)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for writer in writers:
        writer.stdout.readline()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        found |= merged(journal)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
    lines = [writer.communicate()[0].split() for writer in writers]
    found |= merged(journal)
    assert all(len(some) > 20 for some in lines)
    for number, some in enumerate(lines):
        finished = {f"{number}-{value}": int(value) for value in ["0", *some]}
        assert finished.items() <= found.items()
    assert files(target) == []


def test_feature_entries_are_lines_of_json(target):
    Journal(target).append("a", {"value": [1, "\u00e4"]})
    (path,) = target.parent.iterdir()
    assert path.name.startswith("table.csv.") and path.name.endswith(".journal")
    entry = json.loads(path.read_text())
    assert entry["key"] == "a" and entry["value"] == [1, "\u00e4"] and path.read_bytes().isascii()
