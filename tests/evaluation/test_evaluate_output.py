"""What evaluate.py says beside its metrics, and where it writes."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
import evaluation.output
import evaluation.page
import evaluation.score_split
import evaluation.threshold
from evaluation.table import headline, text_of
from tests.conftest import ROOT
from tests.evaluation.evaluate_case import CLASSES, collected, make_tree, overrides, refused, run
from tests.report_case import Case
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint
from utils.cli.choices import SPLITS

# --- Notes


def test_feature_metrics_of_the_training_images_are_called_optimistic(model, made):
    so = "on these images, so its metrics are optimistic; report those of another split."
    trained, chosen = f"The model was trained {so}", f"The best epoch was chosen {so}"
    found = {split: run(model, "--split", split)[1]["notes"] for split in SPLITS}
    assert found["train"][0] == trained
    assert found["val"][0] == chosen
    assert not any("optimistic" in note for note in found["test"])
    # Other images than those that the checkpoint names may be the same or not.
    for flags, text in (("--split", "train", "-o", "train_loader.args.split=test"), trained), (
        ("-o", "val_loader.args.split=test"), chosen
    ):  # fmt: skip
        assert run(model, *flags)[1]["notes"][0] == text.replace(" was ", " may have been ")


@pytest.mark.parametrize(
    ("change", "value"),
    [("monitor_best", None), ("best_epoch", 99), ("config", {"trainer": {"val": False}})],
)
def test_feature_an_epoch_that_no_validation_has_chosen(model, change, value):
    checkpoint = load_checkpoint(model)
    if change == "config":
        value = {**checkpoint["config"], **value}
    save_checkpoint({**checkpoint, change: value}, model)
    assert not any("optimistic" in note for note in run(model)[1]["notes"])


def test_feature_few_images_and_missing_intervals_are_noted(model, capsys):
    _, report = run(model)
    out = capsys.readouterr().out
    few, none = report["notes"][-2:]
    assert few == "Only 7 images have labelled pixels: the 95 % intervals are too narrow."
    assert few in out
    pairs = zip(report["figures"]["Class_IoU"], report["intervals"]["Class_IoU"], strict=True)
    count = sum(iou is not None and interval is None for iou, interval in pairs)
    assert none.startswith(f"No 95 % interval for the IoU of {count} class") and count
    assert "too narrow" not in str(run(model, "--split", "train")[1]["notes"])


def test_feature_a_class_that_is_ignored_is_noted(model, capsys):
    _, report = run(model, "-o", "ignore_index=1")
    note = "ignore_index: 1 is the class 'disk', whose pixels are ignored"
    assert note in report["notes"] and note in capsys.readouterr().out
    assert report["figures"]["Class_IoU"][1] in (None, 0)


# --- Outputs


@pytest.mark.slow
def test_feature_json_on_the_standard_output(model):
    words = ["--model", str(model), "--device", "cpu", "--json", "-"]
    result = subprocess.run([sys.executable, ROOT / "evaluate.py", *words], cwd=ROOT,
                            capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["program"], report["format"]) == ("evaluate.py", 1)
    assert report["command"].startswith("python evaluate.py --model ")
    assert "mean IoU" in result.stderr


def test_feature_json_is_documented(model):
    _, report = run(model)
    text = (ROOT / "docs/evaluation.md").read_text()
    for name in (*report, *report["figures"], *report["images"][0]):
        assert f"`{name}`" in text, name


def test_feature_what_is_not_ours_is_not_replaced(model, tmp_path, capsys):
    foreign = Path(model).with_name("foreign.json")
    foreign.write_text('{"format": 1}')
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text("<h1>my page on evaluate.py</h1>")
    assert evaluate.main(["--model", str(model), "--json", str(foreign)]) == 2
    said = capsys.readouterr().err
    assert "was not written by evaluate.py" in said
    assert evaluate.main(["--model", str(model), "--report", str(folder)]) == 2
    assert "is not a report" in capsys.readouterr().err
    assert foreign.read_text() == '{"format": 1}'
    assert (folder / "index.html").read_text() == "<h1>my page on evaluate.py</h1>"


def test_exception_a_report_takes_no_folder_of_other_files(model, tmp_path, capsys, monkeypatch):
    """Before any work, and with a folder that can be used."""
    monkeypatch.setattr(evaluation.score_split, "evaluate", None)  # would be a TypeError
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"name": "roads"}')
    folder = Path("my data")
    (folder / "images").mkdir(parents=True)
    for name in ("b.txt", "c.txt", "d.txt"):
        (folder / name).write_text("")
    before = sorted(folder.rglob("*"))
    message = refused(capsys, model, "--report", folder)
    assert "my data contains other files (b.txt, c.txt, d.txt and 1 more)" in message
    assert message.endswith("--report 'my data/report/roads'")
    assert sorted(folder.rglob("*")) == before
    (folder / "report/roads").mkdir(parents=True)
    assert refused(capsys, model, "--report", folder).endswith("--report 'my data/report/roads'")
    (folder / "report/roads/index.html").write_text("")
    assert refused(capsys, model, "--report", folder).endswith("'my data/report/roads_2'")
    # A folder of reports gets one more; no name that leads out of it comes from a config.
    (tmp_path / "config.json").write_text('{"name": "../out"}')
    message = refused(capsys, model, "--report", folder / "report")
    assert "(roads/)" in message and message.endswith("--report 'my data/report/best_model'")


def test_feature_a_report_takes_a_folder_with_its_own_json_and_hidden_files(model, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / ".DS_Store").write_text("")
    (folder / "Thumbs.db").write_text("")
    words = ["--model", str(model), "--json", str(folder / "own.json"), "--report", str(folder)]
    assert evaluate.main(words) == 0
    (folder / "notes.txt").write_text("of mine, beside the report")
    assert evaluate.main(words) == 0
    assert (folder / "notes.txt").exists()


def test_feature_what_is_ours_is_replaced(model, tmp_path):
    path = tmp_path / "new" / "own.json"
    for mode in ("whole", "sliding"):
        assert evaluate.main(["--model", str(model), "--json", str(path), "--mode", mode]) == 0
        assert json.loads(path.read_text())["mode"] == mode
    assert [entry.name for entry in path.parent.iterdir()] == ["own.json"]


def test_exception_places_that_cannot_be_written(model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = refused(capsys, model, "--report", tmp_path / "file")
    assert message.startswith(f"--report {tmp_path / 'file'}: cannot be written")
    assert evaluate.main(["--model", str(model), "--json", str(tmp_path)]) == 2
    assert "cannot be written (Is a directory)" in capsys.readouterr().err


def test_feature_the_page_is_given_what_it_shows(made, model, tmp_path, monkeypatch):
    given = {}

    def write_page(found, look, folder):
        given.update(found=found, looks=[look(image.index) for image in found.images])
        return folder / "index.html"

    monkeypatch.setattr(evaluation.page, "write_page", write_page)
    code, report = run(model, "--report", tmp_path / "page")
    assert code == 0
    for look, (label, ids), image in zip(
        given["looks"], collected(made, "val"), report["images"], strict=True
    ):
        assert look.label.tolist() == label.tolist()
        assert look.prediction.tolist() == ids.tolist()
        assert (look.height, look.width) == label.shape
        assert look.image.tolist() == np.array(Image.open(image["image"])).tolist()
    assert evaluation.output.plain_data(given["found"])["images"] == report["images"]


def test_feature_the_table(model, capsys):
    _, report = run(model)
    out = capsys.readouterr().out
    figures = report["figures"]
    assert "(Folder), val: 7 images, " in out
    for name, iou in zip(CLASSES, figures["Class_IoU"], strict=True):
        if iou is not None:
            assert re.search(rf"^{name} +{100 * iou:.1f} ", out, re.M), name
    assert re.search(rf"^mean IoU +{figures['Mean_IoU']:.4f} +\d", out, re.M)
    worst = min(report["images"], key=lambda image: image["mean_iou"])
    assert f"worst: {worst['name']}: mean IoU {worst['mean_iou']:.4f}" in out
    confusion = np.array(report["confusion"])
    np.fill_diagonal(confusion, 0)
    given, said = np.unravel_index(confusion.argmax(), confusion.shape)
    assert f"often confused: {CLASSES[given]} predicted as {CLASSES[said]}: " in out
    assert f"{confusion.max():,} pixels" in out


def test_feature_names_cannot_reach_the_terminal(model, data, capsys):
    """A file name with colours, a bell and letters that run from right to left."""
    hostile = "a\x1b[31m\x07\u202e"
    for folder in ("images", "masks"):
        for path in (data / folder / "test").iterdir():
            path.rename(path.with_stem(f"{hostile}{path.stem}"))
    broken = data / "images" / "test" / f"{hostile}test1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, report = run(model, "--split", "test", *overrides(data))
    out, err = capsys.readouterr()
    assert code == 1
    assert report["skipped"][0]["name"] == f"{hostile}test1"
    assert "worst: a\ufffd[31m\ufffd\ufffdtest" in out
    assert "a\ufffd[31m\ufffd\ufffdtest1.png" in err
    assert not set(hostile[1:]) & {"\x1b", "\x07", "\u202e"} & set(out + err)
    broken.with_name(f"{hostile}test2.png").write_bytes(b"")
    assert "\x1b" not in refused(capsys, model, "--split", "test", *overrides(data))


def test_feature_terminal_json_and_page_have_one_heading(made, model, tmp_path, capsys):
    _, report = run(model, "--split", "test", "--report", tmp_path / "page")
    told = (report["run"], report["model"], report["data"], report["arch"], report["dataset"])
    assert told == ("own", "UNet", str(made[0]), "UNet", "Folder")
    heading = f"own: UNet on {made[0]} (Folder)"
    page, out = tmp_path / "page/index.html", capsys.readouterr().out
    assert re.search(rf"^{re.escape(heading)}, test: 4 images", out, re.M)
    assert f"Report: {page}" in out
    assert f"<title>{heading}: evaluation</title>" in page.read_text()
    (log,) = (made[0] / "saved/own").glob("*/log.txt")
    assert heading in log.read_text()


def test_feature_a_checkpoint_without_a_config_has_a_heading(made, model, tmp_path, capsys):
    """The file that `--config` names says the rest."""
    checkpoint = load_checkpoint(model)
    del checkpoint["config"]
    save_checkpoint(checkpoint, model)
    tree = {**make_tree(made[0]), "name": "given"}
    (tmp_path / "c.json").write_text(json.dumps(tree))
    _, report = run(model, "--config", tmp_path / "c.json")
    assert (report["run"], report["model"]) == ("given", "UNet")
    del tree["name"]
    (tmp_path / "c.json").write_text(json.dumps(tree))
    _, report = run(model, "--config", tmp_path / "c.json")
    assert report["run"] is None
    assert f"\nUNet on {made[0]} (Folder), val: 7" in capsys.readouterr().out


def test_feature_one_image_is_one_image():
    made = Case(num_images=1).evaluation()
    confusion = np.zeros_like(made.confusion)
    confusion[0, 0] = 1
    made = dataclasses.replace(made, confusion=confusion)
    assert headline(made) == "UNet on Shapes, val: 1 image, 1 labelled pixel, mode whole"


def test_feature_the_table_of_many_classes_stays_narrow():
    names = ["a class with a very, very long name indeed"]
    made = Case(num_classes=182, num_images=3, unused=100, names=names).evaluation()
    metrics = {"Class_Boundary_IoU": [0.5] * 182, **made.metrics}
    text = text_of(dataclasses.replace(made, metrics=metrics))
    assert max(map(len, text.splitlines())) <= 100
    assert "a class with a very, ..." in text
    shown = re.findall(r"^class \d+", text, re.M)
    assert re.search(rf"^{182 - 1 - len(shown)} more classes in no label or prediction", text, re.M)
