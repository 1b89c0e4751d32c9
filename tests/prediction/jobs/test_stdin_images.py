"""Images from standard input, and paths to standard output, through real pipes."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from prediction.jobs.image_file import ImageFile
from prediction.jobs.stdin_images import PathOutput, images_of_lines
from tests.conftest import ROOT

# Line in, image out.
LINES = {
    b"a.jpg\n": ("a.jpg", "a.jpg"),
    b"./sub/../b.jpg\r\n": ("sub/../b.jpg", "b.jpg"),
    b"/data/x/c.jpg\n": ("/data/x/c.jpg", "data/x/c.jpg"),
    b"../../up/d.jpg\n": ("../../up/d.jpg", "up/d.jpg"),
    b" two words .jpg\n": (" two words .jpg", " two words .jpg"),
    b"#e,\"'.jpg\n": ("#e,\"'.jpg", "#e,\"'.jpg"),
    b"\xff.jpg\n": ("\udcff.jpg", "\udcff.jpg"),
    b"..\n": ("..", "image"),
    b"last.jpg": ("last.jpg", "last.jpg"),
}


def test_feature_lines():
    found = list(images_of_lines([b"\n", *LINES, b"  \n"]))
    assert found == [ImageFile(*image) for image in LINES.values()]


def test_feature_images_are_handed_on_as_they_arrive():
    """As `tail -f` writes them: each is there before the next line is written."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as lines, os.fdopen(writing, "wb", buffering=0) as pipe:
        images = images_of_lines(lines)
        stop = threading.Timer(60, pipe.write, [b"too late\n"])  # or it would wait for ever
        stop.start()
        for number in range(3):
            pipe.write(b"%d.jpg\nhalf" % number)
            assert next(images).file == f"{'half' * bool(number)}{number}.jpg"
        stop.cancel()
        pipe.close()
        assert [image.file for image in images] == ["half"]


def test_exception_addresses_and_several_processes(monkeypatch):
    with pytest.raises(ValueError, match="--allow-download"):
        list(images_of_lines([b"https://host/a.jpg\n"]))
    (image,) = images_of_lines([b"https://host/x/a.jpg\n"], allow_download=True)
    assert image == ("https://host/x/a.jpg", "host/x/a.jpg")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="torchrun"):
        next(images_of_lines([b"a.jpg\n"]))


FILTER = """
import sys
from prediction.jobs.stdin_images import PathOutput, images_of_lines
with PathOutput() as out:
    print("a line that is not for the pipe")
    for image in images_of_lines(sys.stdin.buffer):
        out.write(image.output("out", ".png"))
print("after it")
"""


def test_feature_only_paths_go_to_standard_output():
    command = [sys.executable, "-c", FILTER]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for name in (b"a", b"\xff"):
            process.stdin.write(name + b".jpg\n")
            process.stdin.flush()
            # Before the input ends.
            assert process.stdout.readline() == b"out/" + name + b".png\n"
        out, err = process.communicate(timeout=60)
    assert (out, err) == (b"after it\n", b"a line that is not for the pipe\n")
    assert process.returncode == 0


def test_exception_a_reader_that_has_gone():
    reading, writing = os.pipe()
    os.close(reading)
    out = sys.stdout
    with os.fdopen(writing, "w") as sys.stdout:
        try:
            with PathOutput() as paths, pytest.raises(BrokenPipeError):
                paths.write(Path("a.png"))
        finally:
            pipe, sys.stdout = sys.stdout, out
            os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())
