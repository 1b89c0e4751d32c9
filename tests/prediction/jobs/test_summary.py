"""The manifests of all shards together: nothing lost, nothing twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from prediction.jobs.journal import journal_folder
from prediction.jobs.manifest import NO_DIGESTS, Manifest, open_manifest
from prediction.jobs.shards import Shard, in_shard, shard_path
from prediction.jobs.summary import main
from tests.conftest import ROOT
from tests.prediction.jobs.products import outputs, predict, source

NAMES = [f"{n % 3}/{n}.jpg" for n in range(40)]
SHARDS = 3


@pytest.fixture
def manifests(here):
    """Forty images of which each shard has predicted its own, and a list of them."""
    Path("in").mkdir()
    Path("in/list.txt").write_text("\n".join(NAMES))
    paths = [shard_path(Path("r.csv"), Shard(n, SHARDS)) for n in range(1, SHARDS + 1)]
    for number, path in enumerate(paths, 1):
        with open_manifest(path, Path("out")) as manifest:
            for name in NAMES:
                if in_shard(name, Shard(number, SHARDS)):
                    predict(manifest, *source(name))
    return [str(path) for path in paths]


def summary(capsys, *words):
    """Return the exit code and the lines of the program."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert bool(err) == (code == 2)
    return code, (out or err).splitlines()


def test_feature_all_is_there(manifests, capsys):
    said = "3 manifests, 40 images, of which 40 have a result"
    assert summary(capsys, *manifests) == (0, [said])
    for images in ("in/list.txt", "in", "in/**/*.jpg"):
        assert summary(capsys, *manifests, "-i", images, "-o", "out") == (0, [said])
    # Another source gives other names.
    assert summary(capsys, *manifests, "-i", "in/0")[0] == 1


def test_feature_a_lost_shard(manifests, capsys):
    code, lines = summary(capsys, manifests[0], manifests[2])
    assert (code, lines[1:]) == (1, ["no manifest of 1 shard: 2/3"])
    lost = [name for name in NAMES if in_shard(name, Shard(2, SHARDS))]
    code, lines = summary(capsys, manifests[0], manifests[2], "--images", "in/list.txt")
    assert code == 1 and f"in no manifest: {len(lost)} images: {lost[0]}, {lost[1]}" in lines[2]


def test_feature_an_image_that_came_later(manifests, capsys):
    source("new.jpg")
    words = [*manifests, "--images", "in"]
    assert summary(capsys, *words)[1][1:] == ["in no manifest: 1 image: new.jpg"]
    assert main([*words, "--exclude", "n*"]) == 0


def test_feature_an_image_in_two_shards(manifests, capsys):
    twice = next(name for name in NAMES if in_shard(name, Shard(2, SHARDS)))
    with open_manifest(Path(manifests[0]), Path("out")) as manifest:
        predict(manifest, *source(twice), overwrite=True)
    code, lines = summary(capsys, *manifests, "-i", "in/list.txt")
    assert code == 1 and len(lines) == 2
    assert lines[1].startswith("in several manifests: 1 image")
    assert (
        all(text in lines[1] for text in (twice, *manifests[:2])) and manifests[2] not in lines[1]
    )
    # The same file twice is a slip of the hand.
    assert summary(capsys, manifests[0], manifests[0])[1][0].startswith("1 manifest, ")


def test_feature_reasons_are_counted(manifests, capsys):
    images = [source(f"more/{n}.jpg")[0] for n in range(33)]
    with open_manifest(Path("more.csv"), Path("out")) as manifest:
        for n, image in enumerate(images):
            if n < 15:
                manifest.fail(image, NO_DIGESTS, "is damaged\x1b[2J", 0.5)
            elif n < 18:
                manifest.fail(image, NO_DIGESTS, "no such file", 0.5)
            elif n < 20:
                manifest.begin(image, outputs(image), overwrite=False)
            else:
                manifest.fail(image, NO_DIGESTS, f"reason {n}", 0.5)
    code, lines = summary(capsys, *manifests, "more.csv")
    assert code == 1
    assert lines[0] == "4 manifests, 73 images, of which 40 have a result"
    assert lines[1].startswith("failed: is damaged\ufffd[2J: 15 images: more/0.jpg, more/1.jpg")
    assert lines[1].endswith(", ...") and lines[1].count("more/") == 10
    assert lines[2] == "failed: no such file: 3 images: more/15.jpg, more/16.jpg, more/17.jpg"
    assert lines[3] == "not finished: 2 images: more/18.jpg, more/19.jpg"
    assert lines[-1] == "failed for 6 other reasons: 6 images"
    assert len(lines) == 1 + 10 + 1


def test_feature_products_that_changed_later(manifests, capsys):
    words = [*manifests, "--output", "out"]
    Path("out/1/1.png").unlink()
    Path("out/2/2.csv").write_text("mine")
    code, lines = summary(capsys, *words)
    assert code == 1 and len(lines) == 2
    assert set(lines[1].removeprefix("changed or missing: 2 files: ").split(", ")) == {
        "1/1.png", "2/2.csv"
    }  # fmt: skip
    assert summary(capsys, *manifests)[0] == 0


def test_feature_a_killed_shard_is_counted_as_far_as_it_came(manifests, capsys):
    manifest = Manifest(Path(manifests[0]), Path("out"))
    journal_folder(Path(manifests[0])).mkdir(exist_ok=True)
    predict(manifest, *source("late.jpg"))
    manifest.close()  # and nothing merges it
    assert summary(capsys, *manifests)[1] == ["3 manifests, 41 images, of which 41 have a result"]


def test_exception_mistakes(manifests, capsys):
    Path("mine.csv").write_text("a,b\n")
    for words, said in (
        (["gone.csv"], "there is no manifest gone.csv"),
        (["mine.csv"], "mine.csv is no manifest"),
        ([*manifests, "-i", "gone"], "no file or folder gone"),
    ):
        code, (line,) = summary(capsys, *words)
        assert code == 2 and said in line


def test_smoke_as_a_program(manifests, here):
    command = [sys.executable, "-m", "prediction.jobs.summary"]
    done = subprocess.run(
        [*command, *(here / path for path in manifests[:2])], cwd=ROOT, capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[1] == "no manifest of 1 shard: 3/3"
