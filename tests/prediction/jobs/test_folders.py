"""What folders contain, held against os.path, which asks for each file."""

import os

import pytest

from prediction.jobs import folders
from prediction.jobs.folders import MAX_SINGLE, Folders


@pytest.fixture
def paths(here):
    """Paths of files, folders, links of every kind, and nothing."""
    (here / "real" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "ü.jpg", "u\u0308.jpg", "sub/b.jpg", os.fsdecode(b"\xff,\n.jpg")):
        (here / "real" / name).touch()
    (here / "away").symlink_to("real")
    for name, target in (("link.jpg", "a.jpg"), ("link", "sub"), ("lost", "x"), ("loop", "loop")):
        (here / "real" / name).symlink_to(target)
    names = [*os.listdir("real"), "none.jpg", "ö.jpg", "sub/b.jpg", "sub/c.jpg", "link/b.jpg"]
    tops = ("real", "away", str(here / "away"), "gone", "real/a.jpg", "./away/../away")
    return [os.path.join(top, name) for top in tops for name in names] + ["real", "x", "away"]


@pytest.mark.parametrize("single", [0, 3, MAX_SINGLE])
def test_feature_answers_are_those_of_os_path(paths, monkeypatch, single):
    monkeypatch.setattr(folders, "MAX_SINGLE", single)
    there = Folders()
    for path in paths:
        assert there.exists(path) == os.path.exists(path), path
        assert there.is_file(path) == os.path.isfile(path), path
        assert there.real(path) == os.path.realpath(path), path


def test_feature_many_paths_take_one_listing(here, monkeypatch):
    """And few do not: the folder may have millions of files."""
    (here / "many").mkdir()
    (here / "many" / "0.jpg").touch()
    calls = {"scandir": 0, "stat": 0}

    def counted(name):
        whole = getattr(os, name)

        def call(*args, **kwargs):
            calls[name] += 1
            return whole(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    counted("scandir")
    counted("stat")
    there = Folders()
    assert [there.exists(f"many/{n}.jpg") for n in range(3)] == [True, False, False]
    assert calls["scandir"] == 0
    assert sum(there.exists(f"many/{n}.jpg") for n in range(1000)) == 1
    assert calls["scandir"] == 1 and calls["stat"] <= MAX_SINGLE
