"""Ray itself: the program with two actors gives what inference.py gives in one process."""

import subprocess
import sys

import pytest

import inference
from prediction.jobs.results_file import read_results
from tests.conftest import ROOT
from tests.prediction.program import write_image, written
from tests.ray_here import changed_actors, environment, needs_ray

pytestmark = [needs_ray, pytest.mark.faults]

PATIENCE = 300  # seconds


def on_ray(model_file, *words, env=None):
    command = [sys.executable, "-m", "prediction.on_ray", "-m", model_file, "--mode", "whole",
               "--actors", "2", *words]  # fmt: skip
    return subprocess.run(
        [*map(str, command)], cwd=ROOT, env=env or environment(),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


def test_feature_masks_and_rows_are_those_of_one_process(model_file, folder, tmp_path):
    for number in range(20):
        name = f"{'sub/' * (number % 3)}p{number}.{'png' if number % 2 else 'jpg'}"
        write_image(folder / name, (40, 30 + number % 4), seed=number)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ("--save", "ids,overlay,confidence.tif")
    single = ["-m", model_file, "--mode", "whole", "-i", folder, "-o", tmp_path / "single",
              "--manifest", tmp_path / "single.csv", "--device", "cpu", *words]  # fmt: skip
    assert inference.main([*map(str, single)]) == 1
    ran = on_ray(
        model_file, "-i", folder, "-o", tmp_path / "out", "--manifest", tmp_path / "m.csv", *words
    )
    assert ran.returncode == 1, ran.stderr
    assert "20 masks written to " in ran.stdout and "1 image failed, named above" in ran.stdout
    assert f"skipped {folder}/broken.png: " in ran.stderr
    assert "2 actors, each on the CPU with 1 thread of torch" in ran.stderr
    assert written(tmp_path / "out") == written(tmp_path / "single")
    for name in written(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()
    ours, theirs = (
        [row._replace(seconds=0.0) for row in read_results(tmp_path / name)]
        for name in ("m.csv", "single.csv")
    )
    assert ours == theirs


REFUSE = """
def refuse(*words): raise RuntimeError("CUDA error: no device\\nmore")
module._open = refuse
"""


def test_exception_a_model_that_no_actor_can_load(model_file, folder, tmp_path):
    """One line, and no trace of Ray's."""
    write_image(folder / "a.png")
    changed = changed_actors(tmp_path / "patch", "prediction.cluster.worker", REFUSE)
    ran = on_ray(model_file, "-i", folder, "-o", tmp_path / "out", env=changed)
    assert ran.returncode == 2, ran.stderr
    line = "prediction.on_ray: an actor cannot load the model: CUDA error: no device"
    assert line in ran.stderr.splitlines() and "Traceback" not in ran.stderr
