"""How Ray is started, and what each actor gets."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs.draw_architecture import LAYERS, read_imports
from prediction.cluster import start
from prediction.cluster.start import PACKAGES, Share, check_installed, harden, share_out
from tests.conftest import ROOT
from tests.ray_here import environment, needs_ray


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_feature_a_new_cluster_has_a_token_of_its_own():
    first, second = dict[str, str](), {"RAY_AUTH_MODE": "disabled"}
    for environ in (first, second):
        harden(environ, None)
        assert environ["RAY_AUTH_MODE"] == "token" and environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert len(environ["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    given = {"RAY_AUTH_TOKEN_PATH": "token.txt", "RAY_USAGE_STATS_ENABLED": "1"}
    harden(given, None)
    assert "RAY_AUTH_TOKEN" not in given and given["RAY_USAGE_STATS_ENABLED"] == "0"


def test_feature_the_token_of_a_running_cluster(home):
    for given in ({"RAY_AUTH_TOKEN": "t"}, {"RAY_AUTH_TOKEN_PATH": "p"}):
        environ = dict(given)
        harden(environ, "auto")
        assert environ.items() >= {**given, "RAY_AUTH_MODE": "token"}.items()
    with pytest.raises(ValueError, match="--address: there is no token for the cluster: copy"):
        harden({}, "auto")
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("t")
    harden({}, "auto")


def test_feature_a_cluster_without_tokens_has_to_be_meant():
    environ = {"RAY_AUTH_MODE": "disabled"}
    harden(environ, "auto")
    assert environ["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.parametrize(
    ("resources", "wanted", "expected"),
    [
        ({}, (None, None), Share(1, 2, 0)),
        ({}, (3, None), Share(3, 2, 0)),
        ({"GPU": 4.0}, (None, None), Share(4, 2, 1)),
        ({"GPU": 4.0}, (2, None), Share(2, 2, 1)),
        ({"GPU": 2.0}, (None, 0.5), Share(4, 2, 0.5)),
        ({"GPU": 4.0}, (None, 2), Share(2, 2, 2)),
        ({"GPU": 4.0}, (None, 0), Share(1, 2, 0)),
    ],
)
def test_feature_what_each_actor_gets(resources, wanted, expected):
    actors, gpus = wanted
    assert share_out(resources, actors=actors, cpus=2, gpus=gpus, grows=False) == expected


def test_exception_too_few_gpus():
    with pytest.raises(ValueError, match=r"--actors: 4 with 1 GPU each take 4, and there are 2; .*"
                                         r"--gpus-per-actor 0\.5"):  # fmt: skip
        share_out({"GPU": 2.0}, actors=4, cpus=1, gpus=1, grows=False)
    # A cluster may start machines when they are asked for.
    assert share_out({}, actors=4, cpus=1, gpus=1, grows=True) == Share(4, 1, 1)
    for gpus in (-1, 1.5):
        with pytest.raises(ValueError, match="--gpus-per-actor: write 0, a part of 1"):
            share_out({"GPU": 2.0}, actors=1, cpus=1, gpus=gpus, grows=False)


def test_feature_what_is_set_is_said():
    assert Share(2, 1, 0).text() == "2 actors, each on the CPU with 1 thread of torch"
    assert Share(1, 4, 0.5).text() == "1 actor, each on 0.5 GPU with 4 threads of torch"


def test_exception_without_ray(monkeypatch):
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "ray\[data\]"'):
        check_installed()


def test_feature_all_code_that_prediction_imports_is_sent_to_other_machines():
    """And it is all in folders: a file at the top would not be sent."""
    pairs = {(one.split("/")[0], other.split("/")[0]) for one, other in read_imports()}
    needed, new = set[str](), {"prediction"}
    while new:
        needed |= new
        new = {other for one, other in pairs if one in needed} - needed
    assert needed <= set(PACKAGES)
    assert all((ROOT / name / "__init__.py").is_file() for name in PACKAGES)
    assert set(PACKAGES) <= {name for layer in LAYERS for name in layer}


# Starts Ray as a run does, and then knocks at its door.
DOOR = """
import os, subprocess, sys
from prediction.cluster import start
assert start.start(None, actors=1, cpus=1, gpus=0, extra_bytes=0) == (1, 1, 0)
import ray
address = ray.get_runtime_context().gcs_address
knock = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False)"
token = os.environ["RAY_AUTH_TOKEN"]
others = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
for own in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}):
    ran = subprocess.run([sys.executable, "-c", knock, address], env={**others, **own},
                         capture_output=True, text=True)
    print(ran.returncode, "oken" in ran.stderr)
print(ray._private.worker._global_node.webui_url or "no dashboard")
start.stop()
"""


@needs_ray
@pytest.mark.faults
def test_feature_nobody_gets_in_without_the_token(tmp_path):
    """Ray listens on all interfaces, and runs what it is told."""
    ran = subprocess.run(
        [sys.executable, "-c", DOOR], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["1 True", "1 True", "0 False", "no dashboard"], ran.stdout
    assert not Path(tmp_path, ".ray").exists()  # the token was nowhere on the disk
