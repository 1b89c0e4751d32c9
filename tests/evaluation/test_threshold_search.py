"""evaluate.py --find-threshold: found, kept, refused."""

import re
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

import evaluate
import evaluation.output
import evaluation.page
import evaluation.score_split
import evaluation.threshold
import inference
from tests.evaluation.evaluate_case import collected, counted, overrides, refused, run
from tests.utils.runs.test_run_lock import holder
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint
from utils.metrics.threshold import SearchedMetric


def test_feature_one_output_channel_is_the_difference_of_two(saved, one_channel):
    for flags in ((), ("--find-threshold",), ("--mode", "sliding")):
        (code, both), (other, one) = run(saved, *flags), run(one_channel, *flags)
        assert (code, other) == (0, 0)
        assert one["threshold"] == both["threshold"]
        # Subtracted before or after the sum, a pixel on the edge may fall to either side.
        assert np.abs(np.array(one["confusion"]) - both["confusion"]).max() <= 3
        assert one["figures"]["ECE"] == pytest.approx(both["figures"]["ECE"], abs=1e-3)


@pytest.mark.parametrize("figure", evaluate.METRICS)
def test_feature_the_threshold_is_found_and_kept(saved, binary, capsys, figure):
    code, report = run(saved, "--find-threshold", figure)
    out = capsys.readouterr().out
    threshold = report["threshold"]
    assert code == 0
    assert 0 < threshold < 0.5
    found = re.search(r"Best threshold for (\w+) on val: (\S+) \((\S+), (\S+) against 0.5\)", out)
    assert (found[1], found[2]) == (figure, f"{threshold:.4g}")
    assert float(found[4]) > 0
    truth, said = counted(collected(binary, "val", model=saved, threshold=threshold))
    assert report["confusion"] == confusion_matrix(truth, said).tolist()
    keys = {"Mean_IoU": lambda f: f["Mean_IoU"], "IoU": lambda f: f["Class_IoU"][1],
            "Dice": lambda f: f["Class_Dice"][1]}  # fmt: skip
    assert f"{keys[figure](report['figures']):.4f}" == found[3]
    (note,) = threshold_notes(report)
    assert note in out
    assert note == (
        f"The threshold {threshold:.4g} was chosen on these images, so its metrics are "
        "optimistic; report those of another split."
    )
    again = run(saved)
    assert again[1]["confusion"] == report["confusion"]
    assert threshold_notes(again[1]) == [note]


def threshold_notes(report):
    return [note for note in report["notes"] if note.startswith("The threshold ")]


def test_feature_images_of_the_threshold_are_known_again(saved, binary, tmp_path):
    """Elsewhere, and under another split's name; a config may call others val."""
    run(saved, "--find-threshold")
    for name in ("images", "masks"):
        shutil.copytree(binary[0] / name, tmp_path / "moved" / name)
    _, moved = run(saved, *overrides(tmp_path / "moved"))
    _, renamed = run(saved, "--split", "test", "-o", "test_loader.args.split=val")
    assert len(threshold_notes(moved)) == len(threshold_notes(renamed)) == 1
    _, other = run(saved, "--split", "test")
    _, replaced = run(saved, "-o", "val_loader.args.split=test")
    assert threshold_notes(other) == threshold_notes(replaced) == []
    assert other["threshold"] == moved["threshold"]


def test_feature_a_threshold_of_another_mode(saved, binary, tmp_path, capsys):
    run(saved, "--find-threshold", "--mode", "sliding")
    _, report = run(saved, "--split", "test")
    (note,) = threshold_notes(report)
    assert "was chosen in mode sliding; in mode whole another may be best" in note
    words = ["-m", saved, "-i", binary[0] / "images/val", "-d", "cpu", "-o"]
    for mode, noted in (("whole", 1), ("sliding", 0)):
        capsys.readouterr()
        assert inference.main([*map(str, words), str(tmp_path / mode), "-mo", mode]) == 0
        err = capsys.readouterr().err
        assert err.count("was chosen in mode sliding; in mode whole") == noted
        assert err.count("was measured in mode sliding; score this mode with") == noted


def test_feature_a_threshold_that_was_not_searched(binary, tmp_path):
    checkpoint = load_checkpoint(binary[1])
    checkpoint["meta"]["threshold"] = 0.3
    save_checkpoint(checkpoint, tmp_path / "model.pth")
    code, report = run(tmp_path / "model.pth", "--mode", "sliding")
    assert (code, report["threshold"], threshold_notes(report)) == (0, 0.3, [])


def test_feature_confidence_is_that_of_what_the_threshold_decides(saved, binary):
    _, report = run(saved, "--find-threshold")
    bins = [row for row in report["calibration"] if row["count"]]
    right = sum(row["count"] * row["accuracy"] for row in bins)
    pixels = sum(row["count"] for row in bins)
    assert right / pixels == pytest.approx(report["figures"]["Pixel_Accuracy"], abs=1e-12)
    pairs = collected(binary, "val", model=saved, threshold=report["threshold"])
    assert report["issues"]
    for issue in report["issues"]:
        label, ids = pairs[issue["index"]]
        left, top, right, bottom = issue["box"]
        inside = (label == issue["given"]) & (ids == issue["suggested"])
        assert inside[top:bottom, left:right].sum() >= issue["pixels"]


@pytest.mark.parametrize("label", [0, 1])
def test_exception_a_threshold_between_one_class(saved, binary, tmp_path, capsys, label):
    before = Path(saved).read_bytes()
    for name in ("images", "masks"):
        shutil.copytree(binary[0] / name, tmp_path / "data" / name)
    for path in (tmp_path / "data/masks/val").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 255, mask, label).astype(np.uint8)).save(path)
    message = refused(capsys, saved, "--find-threshold", *overrides(tmp_path / "data"))
    counts = ("8,291 'ground' and 0 'shape'", "0 'ground' and 8,291 'shape'")
    assert message == (
        f"--find-threshold: the pixels of val are labelled {counts[label]}; a threshold needs "
        "both, so choose another --split"
    )
    assert Path(saved).read_bytes() == before


def test_exception_a_threshold_of_weights_that_are_broken(binary, tmp_path, capsys):
    checkpoint = load_checkpoint(binary[1])
    checkpoint["state_dict"]["final_conv.bias"][:] = float("nan")
    save_checkpoint(checkpoint, tmp_path / "model.pth")
    assert run(tmp_path / "model.pth", "--find-threshold") == (2, None)
    err = capsys.readouterr().err
    assert "val0.png: " in err and "its weights are broken" in err
    assert err.endswith(
        "--find-threshold: no image could be scored; each is named above with the reason\n"
    )


def test_exception_an_interruption_says_what_is_there(saved, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    out = tmp_path / "out.json"
    words = ["--model", saved, "--device", "cpu", "--json", out, "--report", tmp_path / "page"]
    monkeypatch.setattr(evaluation.output, "write_report", interrupted)
    assert evaluate.main([*map(str, words), "--find-threshold"]) == 130
    threshold = load_checkpoint(saved)["meta"]["threshold"]
    assert capsys.readouterr().err.endswith(
        f"interrupted; written before: the threshold {threshold:.4g} in {saved}, {out}\n"
    )
    monkeypatch.setattr(evaluation.score_split, "evaluate", interrupted)
    assert evaluate.main([*map(str, words)]) == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was written\n")


def test_feature_inference_uses_the_threshold(saved, binary, tmp_path):
    _, report = run(saved, "--find-threshold")
    words = ["-m", saved, "-i", binary[0] / "images/val", "-o", tmp_path / "out", "-mo", "whole"]
    assert inference.main([*map(str, words), "-d", "cpu"]) == 0
    truth = [(np.array(Image.open(path)), np.array(Image.open(tmp_path / "out" / path.name)))
             for path in sorted((binary[0] / "masks/val").iterdir())]  # fmt: skip
    assert report["confusion"] == confusion_matrix(*counted(truth)).tolist()


def test_feature_nothing_else_in_the_checkpoint_changes(saved, tmp_path):
    link = tmp_path / "link.pth"
    link.symlink_to(saved)
    before = load_checkpoint(saved)
    assert run(link, "--find-threshold", "--split", "test")[0] == 0
    after = load_checkpoint(saved)
    assert link.is_symlink()
    added = {name: after["meta"].pop(name) for name in ("threshold", "threshold_search")}
    assert added["threshold_search"]["split"] == "test"
    assert added["threshold_search"]["score"] > added["threshold_search"]["score_at_half"]
    assert_equal(before, after)


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and one.stride() == other.stride()
        assert torch.equal(one, other)
    else:
        assert one == other


def test_exception_a_threshold_for_a_run_that_trains(binary, tmp_path, capsys):
    """Both would replace the file: the training with newer weights, this with older ones."""
    model = shutil.copy(binary[1], tmp_path / "best_model.pth")
    before = Path(model).read_bytes()
    with holder(tmp_path) as pid:
        message = refused(capsys, model, "--find-threshold")
    assert f"process {pid} " in message
    assert f"cp {model} {tmp_path.name}_best_model.pth" in message
    assert Path(model).read_bytes() == before


def test_exception_a_threshold_for_a_model_that_was_replaced(binary, tmp_path, capsys, monkeypatch):
    """A better epoch was saved during the search: the threshold is not that one's."""
    model = Path(shutil.copy(binary[1], tmp_path / "model.pth"))
    checkpoint = load_checkpoint(model)
    search = evaluation.threshold.find_threshold

    def replacing(*args):
        save_checkpoint(checkpoint, model)
        return search(*args)

    monkeypatch.setattr(evaluation.threshold, "find_threshold", replacing)
    assert f"{model} has been replaced" in refused(capsys, model, "--find-threshold")
    assert_equal(load_checkpoint(model), checkpoint)


def test_exception_thresholds(model, binary, tmp_path, capsys):
    before = Path(model).read_bytes()
    message = refused(capsys, model, "--find-threshold")
    assert message == f"--find-threshold is for two classes, and {model} has 6"
    assert Path(model).read_bytes() == before
    checkpoint = load_checkpoint(binary[1])
    del checkpoint["meta"]
    checkpoint["config"]["train_loader"] = checkpoint["config"]["val_loader"]
    torch.save(checkpoint, model)
    assert "cannot store it" in refused(capsys, model, "--find-threshold")


def test_feature_metrics_of_a_threshold_agree():
    """They are written twice, so that --help need not load torch."""
    assert get_args(SearchedMetric) == evaluate.METRICS
