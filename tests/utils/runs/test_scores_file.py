"""scores.jsonl: what evaluate.py measured, and the mode of it that inference.py names."""

import json
from pathlib import Path

import pytest

import evaluate
import inference
from tests.inspection.test_survey import make, start
from tests.utils.files.test_exif import noise, save
from utils.checkpoint.content import Checkpoint
from utils.runs.last_score import last_score
from utils.runs.scores_file import SCORES, keep_score, last_kept


@pytest.fixture
def run(tmp_path):
    for name in ("config.json", "log.txt", "best_model.pth"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_feature_the_newest_of_this_file_counts(run):
    best = str(run / "best_model.pth")
    assert last_kept(best) is None
    keep_score(best, split="val", mode="whole", score=0.5)
    keep_score(best, split="test", mode="sliding", score=0.25)
    known = last_score(Checkpoint(state_dict={}), best)
    assert known.mode == "sliding"
    assert "Mean_IoU 0.2500 on test" in known.sentence
    (run / "last.pth").write_text("{}")
    assert last_kept(str(run / "last.pth")) is None
    (run / "best_model.pth").write_text("{ }")  # a better epoch has come
    assert last_kept(best) is None


def test_feature_no_file_beside_a_checkpoint_that_is_in_no_run(run):
    (run / "log.txt").unlink()
    keep_score(str(run / "best_model.pth"), split="val", mode="whole", score=0.5)
    assert not (run / SCORES).exists()


def test_feature_a_link_is_not_followed(run, tmp_path_factory):
    victim = tmp_path_factory.mktemp("else") / "victim"
    victim.write_text("mine")
    (run / SCORES).symlink_to(victim)
    keep_score(str(run / "best_model.pth"), split="val", mode="whole", score=0.5)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("change", [
    {"mode": "\x1b[31m"}, {"split": 3}, {"Mean_IoU": "x"}, {"Mean_IoU": float("nan")},
])  # fmt: skip
def test_exception_lines_of_strangers_count_for_nothing(run, change):
    best = str(run / "best_model.pth")
    keep_score(best, split="val", mode="whole", score=0.5)
    entry = {**json.loads((run / SCORES).read_text()), **change}
    with (run / SCORES).open("a") as file:
        file.write(json.dumps(entry) + "\n[1]\n" + "[" * 9000 + "\nnonsense\n")
    assert last_kept(best)["mode"] == "whole"


def test_feature_inference_names_the_mode_of_the_last_score(tmp_path, capsys):
    make(tmp_path, values=(0, 1))
    assert start(tmp_path, capsys)[0] == 0
    best = str(next((tmp_path / "saved").rglob("best_model.pth")))
    save(tmp_path / "new/a.png", noise(16, 16))
    words = ["-m", best, "-i", str(tmp_path / "new"), "-o", str(tmp_path / "out"), "-d", "cpu"]
    for mode in ("sliding", "multiscale"):
        # The folder of a run stands for its best model.
        model = str(Path(best).parent) if mode == "multiscale" else best
        assert evaluate.main(["--model", model, "--mode", mode, "-d", "cpu"]) == 0
        capsys.readouterr()
        assert inference.main([*words, "--mode", "sliding", "--overwrite"]) == 0
        said = "was measured in mode multiscale" in capsys.readouterr().err
        assert said == (mode == "multiscale")
