"""evaluate.py against scikit-learn on collected arrays, and against the trainer's validation."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

import evaluation.output
import evaluation.page
import evaluation.score_split
import evaluation.threshold
import models
from base.base_dataloader import BaseDataLoader
from base.loader_stream import WorkerError
from builders.data import describe_dataset
from dataloaders.camvid import CamVid
from prediction.predictor import network
from prediction.predictor.network import IN_WINDOWS, Predictor
from prediction.predictor.views import SLOWER
from tests.evaluation.evaluate_case import (
    CLASSES,
    collected,
    counted,
    make_tree,
    overrides,
    refused,
    run,
    trained_model,
)
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint
from utils.cli.choices import DEFAULT_MODE, MODES
from utils.metrics.calibration import CalibrationMetrics

# --- Metrics


def test_feature_the_metric_is_that_of_the_training_to_the_last_bit(made, model):
    code, report = run(model)
    assert code == 0
    assert report["figures"]["Mean_IoU"] == load_checkpoint(model)["monitor_best"]


def test_feature_the_best_model_of_a_run(made, model, capsys):
    code, report = run(model.parent, "--split", "test")
    assert (code, report["checkpoint"]) == (0, str(model))
    assert capsys.readouterr().out.startswith(f"Model: {model}\n")


def test_feature_the_mode_of_the_masks_is_named(model, capsys):
    for mode in MODES:
        run(model, "--split", "test", "--mode", mode)
        last = capsys.readouterr().out.rstrip().splitlines()[-1]
        said = "by default, inference.py makes other masks" in last
        assert said == (mode != DEFAULT_MODE)
        assert (f"--mode {mode} " in last) == said


def test_feature_lines_without_a_terminal(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("utils.progress.INTERVAL", 0.0)
    code, _ = run(model, "--split", "test", "--mode", "sliding", "--report", tmp_path / "page")
    assert code == 0
    out = capsys.readouterr().out.splitlines()
    assert re.match(r"test: image 1/4 \(test0: pass 1/\d+\), ", out[0])
    assert [line.partition(", ")[0] for line in out if ": pass " not in line][:4] == [
        f"test: image {number}/4" for number in range(1, 5)
    ]
    assert any(line.startswith("report: image 4/4, ") for line in out)


@pytest.mark.parametrize(
    ("mode", "split"), [*((mode, "test") for mode in MODES), ("whole", "train")]
)
def test_feature_counts_equal_scikit_learn(made, model, capsys, mode, split):
    """Also of training images, which are scored whole."""
    code, report = run(model, "--mode", mode, "--split", split)
    assert (code, report["mode"], report["split"]) == (0, mode, split)
    assert capsys.readouterr().err == ""
    pairs = collected(made, split, mode)
    truth, said = counted(pairs)
    expected = confusion_matrix(truth, said, labels=range(len(CLASSES)))
    assert report["confusion"] == expected.tolist()
    assert len(np.unique(said)) > 2
    occurring = np.union1d(truth, said)
    overall = jaccard_score(truth, said, labels=occurring, average="macro")
    assert report["figures"]["Mean_IoU"] == pytest.approx(overall, abs=1e-12)
    for image, (label, ids) in zip(report["images"], pairs, strict=True):
        one, other = counted([(label, ids)])
        present = np.union1d(one, other)
        score = jaccard_score(one, other, labels=present, average="macro")
        assert image["mean_iou"] == pytest.approx(score, abs=1e-12)
        assert image["pixel_accuracy"] == pytest.approx(np.mean(one == other))
        assert (image["height"], image["width"]) == label.shape
        assert image["labelled"] == len(one)


def test_feature_the_share_that_val_split_holds_back(made, tmp_path):
    tree = make_tree(made[0])
    tree["train_loader"]["args"]["val_split"] = 0.3
    del tree["val_loader"], tree["test_loader"]
    tree["trainer"] |= {"save_dir": str(tmp_path / "saved"), "epochs": 1}
    model = trained_model(tmp_path, tree)
    code, report = run(model)
    assert (code, len(report["images"])) == (0, 4)
    assert report["figures"]["Mean_IoU"] == load_checkpoint(model)["monitor_best"]
    _, rest = run(model, "--split", "train")
    names = [image["name"] for part in (report, rest) for image in part["images"]]
    assert len(names) == len(set(names)) == 12


def test_feature_crops_are_left_out_with_a_warning(made, model, capsys):
    _, whole = run(model)
    flags = ("-oval_loader.args.val=true", "-oval_loader.args.crop_size=24")
    code, report = run(model, *flags, "-oval_loader.args.drop_last=true")
    assert (code, report["confusion"]) == (0, whole["confusion"])
    err = capsys.readouterr().err
    assert "val_loader.args: crop_size is left out; images are scored whole" in err


@pytest.mark.parametrize(
    "args", [["batch_size=1", "shuffle=true"], ["batch_size=7", "shuffle=true"], ["num_workers=2"]]
)
def test_feature_batches_and_processes_change_no_metric(model, args):
    _, expected = run(model)
    _, report = run(model, *(f"-oval_loader.args.{arg}" for arg in args))
    for name in ("confusion", "intervals", "images"):
        assert report[name] == expected[name], name
    for name, value in expected["figures"].items():
        close = value if isinstance(value, list) else pytest.approx(value, abs=1e-6)
        assert report["figures"][name] == close, name


def test_feature_intervals_and_bins_belong_to_the_metrics(model):
    _, report = run(model)
    for name in ("Mean_IoU", "Pixel_Accuracy", "Mean_Dice", "Mean_Image_IoU"):
        low, high = report["intervals"][name]
        assert low <= report["figures"][name] <= high, name
    pixels = sum(map(sum, report["confusion"]))
    assert sum(row["count"] for row in report["calibration"]) == pixels
    right = sum(row[place] for place, row in enumerate(report["confusion"]))
    hits = sum(row["count"] * (row["accuracy"] or 0) for row in report["calibration"])
    assert hits == pytest.approx(right)
    for name in ("Class_IoU", "Class_Boundary_IoU"):
        assert len(report["figures"][name]) == len(CLASSES)


def test_feature_images_without_a_labelled_pixel(model, data, tmp_path, capsys):
    first, *rest = sorted((data / "masks" / "test").iterdir())
    for path in rest:
        Image.fromarray(np.full_like(np.array(Image.open(path)), 255)).save(path)
    words = ("--split", "test", *overrides(data))
    code, report = run(model, *words, "--report", tmp_path / "page")
    assert code == 0
    assert [image["mean_iou"] is None for image in report["images"]] == [False, True, True, True]
    # One image says nothing of others.
    intervals, note = report["intervals"], report["notes"][-1]
    assert intervals.pop("Class_IoU") == [None] * len(CLASSES)
    assert set(intervals.values()) == {None}
    assert note == "Only one image has labelled pixels, so there are no 95 % intervals."
    Image.fromarray(np.full_like(np.array(Image.open(first)), 255)).save(first)
    assert refused(capsys, model, *words) == (
        "the 4 images have no valid pixel: all are labelled 255, which is ignore_index"
    )


def test_feature_real_images_of_camvid(real_data, tmp_path):
    """Masks with 11 for what does not count; scikit-learn on what the files hold."""
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
        for path in sorted((real_data / "camvid" / folder).iterdir())[:3]:
            (tmp_path / folder / path.name).symlink_to(path)
    torch.manual_seed(0)
    network = models.UNet(len(CamVid.classes), base_channels=2)
    network.final_conv.weight.data.normal_()
    dataset = CamVid(str(tmp_path), "val")
    args = {"data_dir": str(tmp_path), "split": "val", "batch_size": 2, "num_workers": 0}
    checkpoint = {
        "state_dict": network.state_dict(),
        "config": {"arch": {"type": "UNet", "args": {"base_channels": 2}},
                   "val_loader": {"type": "CamVid", "args": args}},
        "meta": describe_dataset(dataset, 255),
    }  # fmt: skip
    save_checkpoint(checkpoint, tmp_path / "model.pth")
    code, report = run(tmp_path / "model.pth")
    one = Predictor(network, CamVid.mean, CamVid.std, "cpu", mode="whole")
    labels, said = [], []
    for sample in dataset.samples:
        label = np.array(Image.open(sample.label))
        labels.append(label[label != 11])
        said.append(one.predict(np.array(Image.open(sample.image)))[label != 11])
    matrix = confusion_matrix(*map(np.concatenate, (labels, said)), labels=range(11))
    assert (code, len(report["images"])) == (0, 3)
    # Libraries decode a JPEG a little differently.
    assert np.abs(matrix - report["confusion"]).sum() <= 1e-3 * matrix.sum()
    assert np.array_equal(matrix.sum(1), np.sum(report["confusion"], axis=1))


# --- Images that fail


def test_feature_a_damaged_image_is_named_and_left_out(made, model, data, capsys):
    broken = data / "images" / "val" / "val3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, report = run(model, *overrides(data))
    out, err = capsys.readouterr()
    assert code == 1
    assert f"warning: skipped: {broken}" in err
    assert "The metrics exclude 1 of 7 images, named above." in out
    ((skipped),) = report["skipped"]
    assert skipped["name"] == "val3" and str(broken) in skipped["reason"]
    pairs = collected(made, "val")
    truth, said = counted(pairs[:3] + pairs[4:])
    assert report["confusion"] == confusion_matrix(truth, said, labels=range(6)).tolist()
    lenient = run(model, *overrides(data), "-oval_loader.args.on_bad_sample=skip")
    assert lenient[0] == 0
    assert lenient[1]["skipped"] == report["skipped"]


def test_feature_a_label_that_is_no_class_is_named_with_its_value(model, data, capsys):
    path = data / "masks" / "val" / "val2.png"
    mask = np.array(Image.open(path))
    mask[5, 5:8] = 77
    Image.fromarray(mask).save(path)
    code, report = run(model, *overrides(data))
    assert (code, len(report["images"])) == (1, 6)
    err = capsys.readouterr().err
    assert f"{path}: 3 pixels have label 77, which is neither a class (0..5)" in err
    shutil.copy(path, data / "masks" / "val" / "val0.png")
    message = refused(capsys, model, *overrides(data))
    assert message.startswith("2 of 7 ") and "more than one in 20" in message


def test_exception_masks_that_are_missing(model, data, capsys):
    (data / "masks" / "val" / "val1.png").unlink()
    message = refused(capsys, model, *overrides(data))
    assert "1 of 7 " in message and "have no mask" in message
    assert message.endswith("(-o val_loader.args.on_bad_sample=skip leaves them out)")
    code, report = run(model, *overrides(data), "-oval_loader.args.on_bad_sample=skip")
    assert (code, len(report["images"])) == (0, 6)
    assert "1 image that lists or folders name is missing or incomplete." in report["notes"]


def test_feature_a_batch_that_fails_is_tried_image_by_image(model, monkeypatch, capsys):
    _, expected = run(model)
    whole = Predictor.predict_logits

    def out_of_memory_advice(self, images):
        raise torch.OutOfMemoryError("no room")

    def one_fails(self, image):
        if image.shape[:2] == (56, 40):
            raise RuntimeError("an image like this\nwith advice")
        return whole(self, image)

    monkeypatch.setattr(Predictor, "predict_batch", out_of_memory_advice)
    code, report = run(model)
    assert (code, report["confusion"]) == (0, expected["confusion"])
    monkeypatch.setattr(Predictor, "predict_logits", one_fails)
    capsys.readouterr()
    code, report = run(model)
    assert (code, len(report["images"]), len(report["skipped"])) == (1, 4, 3)
    assert report["skipped"][0]["reason"].endswith("val1.png: an image like this")
    assert "val1.png: an image like this\n" in capsys.readouterr().err
    # What the config allows is what cannot be read, not what the model cannot take.
    assert run(model, "-oval_loader.args.on_bad_sample=skip")[0] == 1
    monkeypatch.setattr(Predictor, "predict_logits", out_of_memory_advice)
    message = refused(capsys, model)
    assert message == "no image could be scored; each is named above with the reason"


def test_feature_a_batch_that_does_not_fit_is_halved(model, monkeypatch, capsys):
    _, expected = run(model)
    whole = models.UNet.forward

    def forward(self, images):
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return whole(self, images)

    monkeypatch.setattr(models.UNet, "forward", forward)
    capsys.readouterr()
    code, report = run(model)
    assert (code, report["skipped"], report["notes"]) == (0, [], expected["notes"])
    # Torch rounds otherwise in other batches: a pixel on the edge may fall to either side.
    assert np.abs(np.array(report["confusion"]) - expected["confusion"]).max() <= 2
    assert report["figures"]["ECE"] == pytest.approx(expected["figures"]["ECE"], abs=1e-4)
    assert capsys.readouterr().err == f"warning: {SLOWER}\n"


def test_feature_images_in_windows_are_noted(model, tmp_path, monkeypatch, capsys):
    whole = models.UNet.forward

    def forward(self, images):
        if images[0, 0].numel() > 40 * 40:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return whole(self, images)

    monkeypatch.setattr(models.UNet, "forward", forward)
    monkeypatch.setattr(network, "WINDOW_SIZES", (32,))
    code, report = run(model)
    out, err = capsys.readouterr()
    assert (code, report["skipped"]) == (0, [])
    (note,) = [note for note in report["notes"] if "windows" in note]
    assert note == (
        "Memory was too small for some images as a whole. They were predicted in overlapping "
        "windows, so their metrics are not quite those of mode whole."
    )
    assert note in " ".join(out.split())
    assert err == f"warning: {SLOWER}\nwarning: {IN_WINDOWS} 32\n"


def test_feature_what_scoring_does_not_fit_is_done_in_the_machines_memory(model, monkeypatch):
    """Stands in for an accelerator without room for probabilities, after the logits."""
    _, expected = run(model)
    tries = []

    def with_cpu_fallback(work, tensor):
        with pytest.raises(torch.OutOfMemoryError), monkeypatch.context() as patch:
            patch.setattr(CalibrationMetrics, "update_probabilities", out_of_memory_advice)
            work(tensor)
        tries.append(tensor)
        return work(tensor)

    def out_of_memory_advice(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(evaluation.score_split, "with_cpu_fallback", with_cpu_fallback)
    _, report = run(model)
    assert len(tries) == 7
    for name in ("confusion", "figures", "images", "issues", "calibration"):
        assert report[name] == expected[name], name


def test_exception_weights_that_are_broken(model, capsys):
    checkpoint = load_checkpoint(model)
    checkpoint["state_dict"]["final_conv.bias"][:] = float("nan")
    save_checkpoint(checkpoint, model)
    code, report = run(model)
    assert (code, report) == (2, None)
    assert "its weights are broken" in capsys.readouterr().err


# --- Mistakes


def test_exception_files_that_are_not_there(model, capsys):
    assert refused(capsys, "nowhere.pth") == "--model: there is no file nowhere.pth"
    assert refused(capsys, model, "-c", "no.json") == "--config: there is no file no.json"


def test_exception_a_split_that_is_not_there(made, model, tmp_path, capsys):
    tree = make_tree(made[0])
    del tree["test_loader"], tree["val_loader"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    assert refused(capsys, model, "-c", path) == (
        f"{path}: has no val_loader and no val_split for --split val; there is train (train_loader)"
    )
    tree["train_loader"]["args"]["val_split"] = 0.2
    path.write_text(json.dumps(tree))
    assert refused(capsys, model, "-c", path, "-s", "test") == (
        f"{path}: has no test_loader for --split test; there is train (train_loader), val "
        "(val_split of train_loader)"
    )


def test_feature_another_config_and_only_its_section(made, model, tmp_path):
    """What is not read is not checked: a loss, an optimizer, another split."""
    _, expected = run(model, "--split", "test")
    tree = {"test_loader": make_tree(made[0])["test_loader"], "loss": "Unknown", "val_loader": 3}
    (tmp_path / "own.json").write_text(json.dumps(tree))
    code, report = run(model, "--split", "test", "--config", tmp_path / "own.json")
    assert (code, report["confusion"]) == (0, expected["confusion"])


def test_exception_a_checkpoint_without_a_config(made, model, tmp_path, capsys):
    """Checkpoints of pytorch-segmentation with --config, and bare weights."""
    weights = load_checkpoint(model)["state_dict"]
    torch.save(weights, model)
    assert refused(capsys, model) == (
        f"{model}: contains no config, so it does not name its images: add --config"
    )
    (tmp_path / "config.json").write_text(json.dumps(make_tree(made[0])))
    code, report = run(model, "--config", tmp_path / "config.json")
    truth, said = counted(collected(made, "val"))
    assert code == 0
    assert report["confusion"] == confusion_matrix(truth, said, labels=range(6)).tolist()


def test_exception_overrides_that_nothing_reads(model, capsys):
    message = refused(capsys, model, "-o", "valloader.args.batch_size=1", "-o", "arch.type=UNet")
    assert "'arch.type=UNet': has no effect here" in message
    assert message.endswith("train_loader, val_loader, test_loader, ignore_index")
    for override, words in (
        ("batch_sise=1", "Folder takes no such argument; did you mean 'batch_size'?"),
        ("val_split=0.5", "args.val_split: belongs in train_loader"),
    ):
        assert words in refused(capsys, model, "-o", f"val_loader.args.{override}")


def test_exception_other_classes_and_bands(model, capsys):
    renamed = [*CLASSES[:4], "rings", "cross"]
    for args, message in (
        ({"classes": CLASSES[:5]}, "{} has 6 classes and val_loader has 5: only one of them has '"),
        ({"classes": renamed}, "class 4 is 'ring' in {} and 'rings' in val_loader; did you mean"),
        (
            {"bands": [1, 2, 3], "mean": [0.5] * 3, "std": [0.2] * 3},
            "{} has images of 8-bit RGB and val_loader has 3 bands of",
        ),
    ):
        flags = [f"-oval_loader.args.{name}={json.dumps(value)}" for name, value in args.items()]
        assert refused(capsys, model, *flags).startswith(message.format(model))


def test_feature_another_normalisation_is_said_and_has_no_effect(model, capsys):
    _, expected = run(model)
    code, report = run(model, "-oval_loader.args.mean=[0.1,0.1,0.1]")
    assert (code, report["confusion"]) == (0, expected["confusion"])
    assert "val_loader: its images are normalised as in training" in capsys.readouterr().err


def test_exception_a_process_that_ends(model, monkeypatch, capsys):
    def epoch(self, number):
        raise WorkerError("a process that loads images has ended")

    monkeypatch.setattr(BaseDataLoader, "epoch", epoch)
    assert refused(capsys, model) == "a process that loads images has ended"


def test_exception_the_device(model, capsys):
    assert refused(capsys, model, "--device", "gpu").startswith("--device: 'gpu' cannot be used")
