"""prediction.on_ray whose processes are killed at random: each mask is there once, and whole.

The truth is what inference.py writes in one process.
"""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

import inference
from prediction.jobs import summary
from prediction.jobs.results_file import read_results
from tests.conftest import ROOT
from tests.prediction.conftest import model_file  # noqa: F401  the fixture
from tests.prediction.program import write_image
from tests.ray_here import changed_actors, environment, needs_ray

pytestmark = [needs_ray, pytest.mark.faults]

IMAGES = 500
PATIENCE = 300  # seconds
SEEDS = range(max(1, int(os.environ.get("KILLED_RUNS", "20")) // 10))
# End their process in the middle of one image, or while they load the model, each time.
DEADLY_IMAGE = """
prepare = module.CallPredictor._prepare
def deadly(self, todo, *words):
    if todo.name == "p0042.png": os.kill(os.getpid(), 9)
    return prepare(self, todo, *words)
module.CallPredictor._prepare = deadly
"""
DEADLY_MODEL = """
def deadly(*words): os.kill(os.getpid(), 9)
module._open = deadly
"""


@pytest.fixture(scope="module")
def made(model_file, tmp_path_factory):  # noqa: F811
    """Small images, the masks of one process, and its manifest."""
    folder = tmp_path_factory.mktemp("kills")
    for number in range(IMAGES):
        sub = "sub/" if number % 3 else ""
        write_image(folder / f"images/{sub}p{number:04}.png", (64, 64), seed=number)
    words = ["-m", model_file, "-i", folder / "images", "-o", folder / "single",
             "--manifest", folder / "single.csv", "--device", "cpu"]  # fmt: skip
    assert inference.main([*map(str, words)]) == 0
    return folder


def start(made, model, output, *words, env=None):
    command = [sys.executable, "-m", "prediction.on_ray", "-m", model, "-i", made / "images",
               "-o", output, "--actors", "2", *words]  # fmt: skip
    return subprocess.Popen(
        [*map(str, command)], cwd=ROOT, env=env or environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def masks(folder):
    """The masks, without temporary files."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): p for p in paths if not p.name.startswith(".")}


def wait_for(output, count, process):
    """Wait until so many masks are there; return False if the run has ended before."""
    until = time.monotonic() + PATIENCE
    while len(masks(output)) < count:
        if process.poll() is not None:
            return False
        assert time.monotonic() < until, f"{len(masks(output))} masks after {PATIENCE} s"
        time.sleep(0.01)
    return True


def processes(driver, *, actors):
    """The actors with models of a run, or all its other workers."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        node = "Agent" in title  # without it Ray gives up the machine, like without the driver
        if title.startswith("ray::") and not node and ("MapWorker" in title) == actors:
            found.append(process)
    return found


def kill(victims, rng):
    """Kill one of some processes; return its title in a list, none if all are gone."""
    for victim in rng.sample(victims, len(victims)):
        try:
            title = " ".join(victim.cmdline())
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
        return [title]
    return []


@pytest.mark.parametrize("with_manifest", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_feature_killed_runs_end_as_one_that_was_not(
    made, model_file, tmp_path, seed, with_manifest  # noqa: F811
):  # fmt: skip
    rng = random.Random(seed)
    output, killed = tmp_path / "out", []
    manifest = ("--manifest", tmp_path / "m.csv") if with_manifest else ()
    first = start(made, model_file, output, *manifest)
    for actors in rng.sample([True, True, False], 3):
        if wait_for(output, len(masks(output)) + rng.randint(20, 80), first):
            killed += kill(processes(first, actors=actors), rng)
    assert wait_for(output, len(masks(output)) + rng.randint(1, 60), first), first.communicate()
    first.kill()
    first.communicate()
    left = len(masks(output))
    assert 0 < left < IMAGES, killed
    second = start(made, model_file, output, *manifest)
    if wait_for(output, left + rng.randint(1, (IMAGES - left) // 2), second):
        killed += kill(processes(second, actors=True), rng)
    out, err = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, (killed, out, err)
    # The second run may have been at its end before it was found.
    assert sum("MapWorker" in title for title in killed) >= 2 and len(killed) >= 3, killed
    compare(made, output, IMAGES)
    if with_manifest:
        check_manifest(made, tmp_path / "m.csv", output)


def compare(made, output, count):
    expected, found = masks(made / "single"), masks(output)
    assert len(found) == count and found.keys() <= expected.keys()
    for name, path in found.items():
        assert path.read_bytes() == expected[name].read_bytes(), name


def check_manifest(made, manifest, output):
    """Each image has one row, as it would have without any fault."""
    ours, theirs = (
        [row._replace(seconds=0.0) for row in read_results(path)]
        for path in (manifest, made / "single.csv")
    )
    assert ours == theirs
    words = [manifest, "--images", made / "images", "--output", output]
    assert summary.main([*map(str, words)]) == 0


def test_exception_an_image_that_kills_whoever_reads_it(made, model_file, tmp_path):  # noqa: F811
    """It is given up and named; all others have their masks."""
    (tmp_path / "images").mkdir()
    for number in range(0, 90, 3):
        name = f"p{number:04}.png"
        (tmp_path / "images" / name).symlink_to(made / "images" / name)
    changed = changed_actors(tmp_path / "patch", "prediction.cluster.predict_call", DEADLY_IMAGE)
    run = start(tmp_path, model_file, tmp_path / "out", env=changed)
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, (out, err)
    assert "29 masks written" in out and "1 image failed" in out
    (line,) = [line for line in err.splitlines() if line.startswith("skipped ")]
    assert "p0042.png: 3 processes were killed while they predicted it" in line
    compare(made, tmp_path / "out", 29)


def test_exception_a_model_that_kills_whoever_loads_it(made, model_file, tmp_path):  # noqa: F811
    """Ray would start processes for ever."""
    changed = changed_actors(tmp_path / "patch", "prediction.cluster.worker", DEADLY_MODEL)
    run = start(made, model_file, tmp_path / "out", env=changed)
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2, (out, err)
    assert "prediction.on_ray: the processes that load the model are killed" in err
    assert masks(tmp_path / "out") == {}
