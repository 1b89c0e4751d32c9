"""What has become of each image: verified, made again, killed, shared."""

import csv
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prediction.jobs.image_file import ImageFile
from prediction.jobs.journal import find_journals, journal_folder
from prediction.jobs.manifest import (
    NO_DIGESTS,
    UNFINISHED,
    Manifest,
    changed_products,
    merge_journals,
    open_manifest,
    rows_of,
)
from prediction.jobs.results_file import read_results
from tests.conftest import ROOT
from tests.prediction.jobs.products import outputs, predict, source
from tests.processes import on_processes
from utils.files.digest import digest_file
from utils.runs.run_lock import RunLock


@pytest.fixture(params=["results.csv", "sub/results.parquet"])
def file(request, here):
    (here / "out").mkdir()
    return Path(request.param)


def test_feature_a_rerun_verifies_and_skips(file):
    images = [source(name) for name in ("a.jpg", "sub/b.jpg", "=1,\n'\udcff.jpg")]
    with open_manifest(file, Path("out")) as manifest:
        assert [predict(manifest, *image) for image in images] == [True] * 3
        # Not a moment later only: what this run has made is done for it, too.
        assert [predict(manifest, *image) for image in images] == [False] * 3
    before = file.read_bytes()
    with open_manifest(file, Path("out")) as manifest:
        assert [predict(manifest, *image) for image in images] == [False] * 3
    assert file.read_bytes() == before
    assert os.listdir(journal_folder(file)) == ["run.lock"]
    rows = list(read_results(file))
    assert [row.path for row in rows] == sorted(image.name for image, _ in images)
    (row,) = [row for row in rows if row.path == "sub/b.jpg"]
    assert (row.image_sha256, row.model_sha256) == (hashlib.sha256(b"pixels").hexdigest(), "m")
    expected = {name: (path, hashlib.sha256(Path("out", path).read_bytes()).hexdigest())
                for name, path in (("ids", "sub/b.png"), ("table", "sub/b.csv"))}  # fmt: skip
    assert row.files() == expected and (row.seconds, row.error) == (0.5, "")


CHANGES = {
    "nothing": (lambda: None, {}, False),
    "image": (lambda: Path("in/a.jpg").write_text("other"), {}, True),
    "model": (lambda: None, {"model": "n"}, True),
    "settings": (lambda: None, {"settings": "t"}, True),
    "a product changed": (lambda: Path("out/a.csv").write_text("mine"), {}, True),
    "a product removed": (lambda: Path("out/a.png").unlink(), {}, True),
    "a product emptied": (lambda: os.truncate("out/a.png", 0), {}, True),
    "the other image": (lambda: Path("out/b.png").unlink(), {}, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_feature_what_is_made_again(here, change):
    (here / "out").mkdir()
    a, b = source("a.jpg"), source("b.jpg")
    with open_manifest(Path("r.csv"), Path("out")) as manifest:
        predict(manifest, *a)
        predict(manifest, *b)
    act, digests, again = CHANGES[change]
    act()
    wanted = a[1]._replace(image=digest_file("in/a.jpg"), **digests)
    with open_manifest(Path("r.csv"), Path("out")) as manifest:
        assert predict(manifest, a[0], wanted) == again
        assert not predict(manifest, a[0], wanted)
    assert not changed_products(rows_of(Path("r.csv"))["a.jpg"], Path("out"))
    assert f"of {wanted}" in Path("out/a.csv").read_text()


def test_feature_a_product_more_is_made(here):
    """Which the row does not have, though all that it has is there."""
    image, digests = source("a.jpg")
    with open_manifest(Path("r.csv"), Path("out")) as manifest:
        predict(manifest, image, digests)
        paths = outputs(image)
        assert manifest.is_done(image, digests, paths[:1])
        assert not manifest.is_done(image, digests, [*paths, "out/a.json"])
        assert not manifest.is_done(ImageFile("in/c.jpg", "c.jpg"), digests, paths)


def test_feature_files_of_others_are_not_replaced(here):
    image, digests = source("a.jpg")
    (here / "out").mkdir()
    Path("out/a.csv").write_text("mine")
    for _ in range(2):
        with open_manifest(Path("r.csv"), Path("out")) as manifest:
            with pytest.raises(ValueError, match=r"out/a.csv exists and is not in the manifest"):
                predict(manifest, image, digests)
            # That it failed does not make the file ours.
            manifest.fail(image, digests, "exists", 0.0)
    assert Path("out/a.csv").read_text() == "mine"
    with open_manifest(Path("r.csv"), Path("out")) as manifest:
        predict(manifest, image, digests, overwrite=True)
    assert Path("out/a.csv").read_text() != "mine"


def test_feature_what_a_failed_or_killed_image_left_is_ours(here):
    image, digests = source("a.jpg")
    for error in ("damaged", None):
        with open_manifest(Path("r.csv"), Path("out")) as manifest:
            manifest.begin(image, outputs(image), overwrite=False)
            (here / "out").mkdir(exist_ok=True)
            Path("out/a.png").write_text("the first product")
            if error:
                manifest.fail(image, NO_DIGESTS, error, 0.25)
        row = rows_of(Path("r.csv"))["a.jpg"]
        assert row.error == (error or UNFINISHED)
    with open_manifest(Path("r.csv"), Path("out")) as manifest:
        assert predict(manifest, image, digests)
    # A failure after a success, such as an image that has vanished: its masks are still ours.
    with open_manifest(Path("r.csv"), Path("out")) as manifest:
        manifest.fail(image, NO_DIGESTS, "no such file", 0.0)
    with open_manifest(Path("r.csv"), Path("out")) as manifest:
        assert predict(manifest, image, digests)


def test_feature_an_exception_loses_nothing(here):
    image, digests = source("a.jpg")
    with pytest.raises(KeyboardInterrupt), open_manifest(Path("r.csv"), Path("out")) as manifest:
        predict(manifest, image, digests)
        raise KeyboardInterrupt
    (row,) = read_results(Path("r.csv"))
    assert (row.path, row.error) == ("a.jpg", "")
    with open_manifest(Path("r.csv"), Path("out")) as manifest:  # the lock is free
        assert not predict(manifest, image, digests)


def test_exception_before_any_work(here):
    """A foreign file, a folder that cannot be, a manifest in use."""
    Path("mine.csv").write_text("a,b\n1,2\n")
    Path("file").touch()
    for name, said in (
        ("mine.csv", "not replaced"),
        ("file/r.csv", "cannot be written"),
        ("r.txt", "neither"),
    ):
        with pytest.raises(ValueError, match=said) as error, open_manifest(Path(name), Path("out")):
            raise AssertionError("opened")
        assert f"--manifest {name}" in str(error.value).replace(":", "")
    assert Path("mine.csv").read_text() == "a,b\n1,2\n"
    with (
        open_manifest(Path("r.csv"), Path("out")),
        pytest.raises(ValueError, match="is using"),
        open_manifest(Path("r.csv"), Path("out")),
    ):
        raise AssertionError("opened twice")


def test_exception_a_merge_that_fails_keeps_the_journals(here, monkeypatch):
    image, digests = source("a.jpg")

    def full(*_):
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(ValueError, match="cannot be written .No space left on device"),
        open_manifest(Path("r.csv"), Path("out")) as manifest,
    ):
        predict(manifest, image, digests)
        patch.setattr("prediction.jobs.manifest.write_results", full)
    assert list(read_results(Path("r.csv"))) == []
    assert len(find_journals(journal_folder(Path("r.csv")))) == 1
    assert rows_of(Path("r.csv"))["a.jpg"].error == ""
    merge_journals(Path("r.csv"))
    (row,) = read_results(Path("r.csv"))
    assert row.path == "a.jpg"
    assert find_journals(journal_folder(Path("r.csv"))) == []


# --- Kills and processes

COUNT = 150
KILLED = """
import sys, time
from pathlib import Path
from prediction.jobs.manifest import open_manifest
from tests.prediction.jobs.products import predict, source
made = 0
with open_manifest(Path("r.csv"), Path("out")) as manifest:
    print("begun", flush=True)
    for n in range(int(sys.argv[1])):
        made += predict(manifest, *source(f"{n % 5}/{n}.jpg", str(n)))
        time.sleep(0.002)
print(made)
"""


@pytest.mark.slow
def test_feature_kills_at_any_moment(here):
    """What is done is not done again but for the images in work, and nothing is lost."""
    random.seed(0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    kills = 0
    while True:
        command = [sys.executable, "-c", KILLED, str(COUNT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout.readline() == b"begun\n"
            if kills < 6:
                time.sleep(random.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
                kills += 1
            said = process.stdout.read()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert int(said) < COUNT  # the killed ones have done something
    rows = list(read_results(Path("r.csv")))
    assert sorted(row.path for row in rows) == sorted(f"{n % 5}/{n}.jpg" for n in range(COUNT))
    assert not any(row.error or changed_products(row, Path("out")) for row in rows)
    for n in range(COUNT):
        image, digests = source(f"{n % 5}/{n}.jpg", str(n))
        assert [Path(path).read_text() for path in outputs(image)] == [
            f"{path} of {digests}" for path in outputs(image)
        ]


def share(folder):
    """Predict every second image on each of two processes; the second time there is nothing."""
    os.chdir(folder)
    rank = int(os.environ["RANK"])
    counts = []
    for _ in range(2):
        with open_manifest(Path("r.csv"), Path("out")) as manifest:
            counts.append(sum(predict(manifest, *source(f"{n}.jpg")) for n in range(rank, 11, 2)))
    return counts


@pytest.mark.slow
def test_feature_processes_of_one_run_share_a_manifest(here):
    found = on_processes(2, share, str(here), folder=here)
    assert found == [[6, 0], [5, 0]]
    with open("r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == sorted(f"{n}.jpg" for n in range(11))
    assert not any(row["error"] for row in rows)
    with RunLock() as lock:
        lock.take(journal_folder(Path("r.csv")))


def test_feature_rows_of_a_running_process_can_be_read(here):
    manifest = Manifest(Path("r.csv"), Path("out"))
    journal_folder(Path("r.csv")).mkdir()
    predict(manifest, *source("a.jpg"))
    assert rows_of(Path("r.csv"))["a.jpg"].error == ""
    manifest.close()
