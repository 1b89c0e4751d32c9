"""What --model means: a file, a run folder, or a path that is mistyped."""

import os
from pathlib import Path

import pytest

from utils.checkpoint.last import named_checkpoint
from utils.checkpoint.model_file import find_model, latest_below


@pytest.fixture
def runs(folder):
    """Two runs of one name, the second one later, and one of another name without a best model."""
    for place, name in enumerate(("UNet/2026-01-01", "UNet/2026-01-02", "ENet/2026-01-03")):
        run = folder / "saved" / name
        run.mkdir(parents=True)
        for file in ("last.pth", "best_model.pth") if place < 2 else ("last.pth",):
            (run / file).touch()
            os.utime(run / file, (place, place))
    return folder / "saved"


def refused(path):
    with pytest.raises(ValueError, match="--model: ") as caught:
        find_model(str(path))
    return str(caught.value)


def test_feature_a_file_is_itself(runs):
    assert find_model("saved/UNet/2026-01-01/last.pth") == ("saved/UNet/2026-01-01/last.pth", "")


def test_feature_a_run_folder_is_its_best_model(runs):
    file, line = find_model("saved/UNet/2026-01-01/")
    assert file == "saved/UNet/2026-01-01/best_model.pth"
    assert file in line
    file, line = find_model("saved/ENet/2026-01-03")
    assert file == "saved/ENet/2026-01-03/last.pth"
    assert file in line
    assert "no best_model.pth" in line


@pytest.mark.parametrize(
    ("path", "run"),
    [("saved", "saved/ENet/2026-01-03"), ("saved/UNet", "saved/UNet/2026-01-02"),
     (".", "saved/ENet/2026-01-03")],
)  # fmt: skip
def test_exception_a_folder_above_runs_names_the_latest(runs, path, run):
    message = refused(path)
    assert f"the folder {path} has no best_model.pth" in message
    assert message.endswith(f"the latest run below it is {run}: --model {run}")


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("saved/UNet/2026-01-01/best_modl.pth", "saved/UNet/2026-01-01/best_model.pth"),
        ("saved/Unet/2026-01-01/last.pth", "saved/UNet/2026-01-01/last.pth"),
        ("saved/UNet/2026-01-1", "saved/UNet/2026-01-01"),
        ("savd/UNet/2026-01-01", "saved/UNet/2026-01-01"),
        ("saved/ENet/2026-01-03/final.pt", "saved/ENet/2026-01-03/last.pth"),
        ("saved/UNet/x/y.pth", "saved/UNet/2026-01-02"),
        ("best_model.pth", "saved/ENet/2026-01-03"),  # as the README writes it
        ("/nowhere/model.pth", "saved/ENet/2026-01-03"),
    ],
)
def test_exception_a_mistyped_path_names_the_nearest(runs, path, fix):
    message = refused(path)
    assert f"there is no file {path}; " in message
    assert message.rstrip("?").endswith(f"--model {fix}")


def test_exception_a_mistyped_run_to_resume(runs):
    with pytest.raises(ValueError, match="no such file") as caught:
        named_checkpoint(Path("saved/UNet/2026-01-0"))
    assert str(caught.value).startswith("--resume saved/UNet/2026-01-0: ")
    assert "did you mean --resume saved/UNet/2026-01-0" in str(caught.value)


def test_exception_other_weights_are_named(folder):
    (folder / "my models").mkdir()
    for name in "dcba":
        (folder / "my models" / f"net {name}.pth").touch()
    files = "my models contains net a.pth, net b.pth, net c.pth, ..."
    assert refused("my models").endswith(files)
    assert refused("my models/xyz").endswith(files)
    assert refused("my models/net_a.pth").endswith("--model 'my models/net a.pth'?")


def test_exception_nothing_near(folder):
    assert refused("x.pth") == "--model: there is no file x.pth"
    (folder / "empty").mkdir()
    assert refused("empty/x.pth").endswith("empty exists and has no x.pth")
    assert refused("empty") == "--model: the folder empty has no best_model.pth and no last.pth"
    assert latest_below(folder) is None
    assert refused("x" * 300).startswith("--model: there is no file xxx")
