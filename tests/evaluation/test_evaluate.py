"""evaluate.py against scikit-learn on collected arrays, and against the trainer's validation."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

import evaluate
import evaluation.output
import evaluation.page
import evaluation.run
import evaluation.threshold
import inference
import models
import train
from base.base_dataloader import BaseDataLoader
from base.loader_stream import WorkerError
from builders.data import describe_dataset
from dataloaders.camvid import CamVid
from dataloaders.shapes import Shapes
from evaluation.table import headline, text_of
from prediction import predictor
from prediction.load_model import restore
from prediction.predictor import IN_TILES, SLOWER, Predictor
from tests.conftest import ROOT
from tests.utils.runs.test_run_lock import holder
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint
from utils.cli.choices import DEFAULT_MODE, MODES, SPLITS
from utils.logits.to_labels import predict_labels
from utils.metrics.calibration import CalibrationMetrics
from utils.metrics.threshold import Figure

CLASSES = list(Shapes.classes)
SIZES = ((48, 40), (40, 56))  # width, height


def write_set(folder, split, count):
    """Scenes of two sizes with a strip of ignored pixels."""
    for index in range(count):
        width, height = SIZES[index % 2]
        image, mask, _ = Shapes(num_images=count, image_size=64, seed=len(split)).load(index)
        mask = mask.copy()
        mask[:3] = 255
        for name, pixels in (("images", image), ("masks", mask)):
            (folder / name / split).mkdir(parents=True, exist_ok=True)
            crop = pixels[:height, :width]
            Image.fromarray(crop).save(folder / name / split / f"{split}{index}.png")


def loader(folder, split, **args):
    args = {"classes": CLASSES, "data_dir": str(folder), "split": split, "num_workers": 0, **args}
    return {"type": "Folder", "args": args}


def make_tree(folder):
    augmentation = {"augment": True, "crop_size": 32, "base_size": 48, "flip": True}
    return {
        "name": "own",
        "arch": {"type": "UNet", "args": {"base_channels": 4}},
        "train_loader": loader(folder, "train", batch_size=4, shuffle=True, **augmentation),
        "val_loader": loader(folder, "val", batch_size=3),
        "test_loader": loader(folder, "test", batch_size=2),
        "init_from": str(folder / "start.pth"),
        "optimizer": {"type": "Adam", "args": {"lr": 0.001}},
        "loss": "CrossEntropyLoss2d",
        "trainer": {
            "epochs": 2, "save_dir": str(folder / "saved"), "log_dir": str(folder / "runs"),
            "tensorboard": False,
        },
    }  # fmt: skip


def write_start(folder):
    """Weights that say every class somewhere; a few steps alone come to the commonest."""
    torch.manual_seed(0)
    network = models.UNet(len(CLASSES), base_channels=4)
    network.final_conv.weight.data.normal_()
    meta = {"classes": CLASSES}
    torch.save({"state_dict": network.state_dict(), "meta": meta}, folder / "start.pth")


def trained_model(folder, tree):
    (folder / "config.json").write_text(json.dumps(tree))
    assert train.main(["-c", str(folder / "config.json"), "--device", "cpu"]) == 0
    (model,) = (folder / "saved").glob("*/*/best_model.pth")
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures on disk and a model that was trained on them for a moment."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("made")
    for split, count in (("train", 12), ("val", 7), ("test", 4)):
        write_set(folder, split, count)
    write_start(folder)
    return folder, trained_model(folder, make_tree(folder))


@pytest.fixture
def model(made, tmp_path):
    """A copy of the checkpoint that a test may change."""
    return shutil.copy(made[1], tmp_path / "best_model.pth")


@pytest.fixture
def data(made, tmp_path):
    """A copy of the pictures that a test may damage, as overrides of the config."""
    for name in ("images", "masks"):
        shutil.copytree(made[0] / name, tmp_path / "data" / name)
    return tmp_path / "data"


def overrides(data):
    return [f"-o{split}_loader.args.data_dir={data}" for split in SPLITS]


def run(model, *flags):
    """Exit code and JSON of the program."""
    out = Path(model).with_name("out.json")
    out.unlink(missing_ok=True)
    words = ["--model", str(model), "--device", "cpu", "--json", str(out), *map(str, flags)]
    code = evaluate.main(words)
    return code, json.loads(out.read_text()) if out.exists() else None


def refused(capsys, model, *flags):
    """The message of a run that does nothing."""
    code, report = run(model, *flags)
    assert (code, report) == (2, None)
    return capsys.readouterr().err.strip().rpartition("error: ")[2]


def collected(made, split, mode="whole", model=None, threshold=None):
    """Labels and predictions (H, W) of every picture, read and predicted one by one."""
    network, meta = restore(model or made[1], "cpu")
    one = Predictor(network, meta.mean, meta.std, "cpu", mode=mode)
    pairs = []
    for path in sorted((made[0] / "images" / split).iterdir()):
        label = np.array(Image.open(made[0] / "masks" / split / path.name))
        logits = one.predict_logits(np.array(Image.open(path)))
        pairs.append((label, predict_labels(logits[None], threshold)[0].numpy()))
    return pairs


def counted(pairs):
    truth = np.concatenate([label[label != 255] for label, _ in pairs])
    said = np.concatenate([ids[label != 255] for label, ids in pairs])
    return truth, said


# --------------------------------------------------------------------------------------------------
# Figures


def test_feature_the_figure_is_that_of_the_training_to_the_last_bit(made, model):
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
        said = f"inference.py makes masks in mode {DEFAULT_MODE}" in last
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


@pytest.mark.parametrize("mode", MODES)
def test_feature_counts_equal_scikit_learn(made, model, mode):
    code, report = run(model, "--mode", mode, "--split", "test")
    assert (code, report["mode"], report["split"]) == (0, mode, "test")
    pairs = collected(made, "test", mode)
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


def test_feature_training_pictures_are_whole(made, model, capsys):
    code, report = run(model, "--split", "train")
    assert (code, capsys.readouterr().err) == (0, "")
    truth, said = counted(collected(made, "train"))
    assert report["confusion"] == confusion_matrix(truth, said, labels=range(6)).tolist()


def test_feature_crops_are_left_out_with_a_warning(made, model, capsys):
    _, whole = run(model)
    flags = ("-oval_loader.args.val=true", "-oval_loader.args.crop_size=24")
    code, report = run(model, *flags, "-oval_loader.args.drop_last=true")
    assert (code, report["confusion"]) == (0, whole["confusion"])
    assert "val_loader.args: crop_size is left out; figures here are of whole" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("batch_size", [1, 7])
def test_feature_the_order_and_size_of_batches_change_no_figure(model, batch_size):
    _, expected = run(model)
    flags = (f"-oval_loader.args.batch_size={batch_size}", "-oval_loader.args.shuffle=true")
    _, report = run(model, *flags)
    for name in ("confusion", "intervals", "images"):
        assert report[name] == expected[name], name
    for name, value in expected["figures"].items():
        close = value if isinstance(value, list) else pytest.approx(value, abs=1e-6)
        assert report["figures"][name] == close, name


def test_feature_intervals_and_bins_belong_to_the_figures(model):
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


@pytest.mark.parametrize("num_workers", [0, 2])
def test_feature_several_processes_read_the_same(model, num_workers):
    _, expected = run(model)
    _, report = run(model, f"-oval_loader.args.num_workers={num_workers}")
    assert report["confusion"] == expected["confusion"]


def test_feature_pictures_without_a_labelled_pixel(model, data, tmp_path, capsys):
    first, *rest = sorted((data / "masks" / "test").iterdir())
    for path in rest:
        Image.fromarray(np.full_like(np.array(Image.open(path)), 255)).save(path)
    words = ("--split", "test", *overrides(data))
    code, report = run(model, *words, "--report", tmp_path / "page")
    assert code == 0
    assert [image["mean_iou"] is None for image in report["images"]] == [False, True, True, True]
    # One picture says nothing of others.
    intervals = report["intervals"]
    assert intervals.pop("Class_IoU") == [None] * len(CLASSES)
    assert set(intervals.values()) == {None}
    assert report["notes"][-1] == "Only one picture counts, so there are no 95 % intervals."
    Image.fromarray(np.full_like(np.array(Image.open(first)), 255)).save(first)
    assert refused(capsys, model, *words) == (
        "no pixel of the 4 pictures counts: all are labelled 255, which is ignore_index"
    )


def test_feature_real_pictures_of_camvid(real_data, tmp_path):
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


# --------------------------------------------------------------------------------------------------
# Pictures that fail


def test_feature_a_damaged_picture_is_named_and_left_out(made, model, data, capsys):
    broken = data / "images" / "val" / "val3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, report = run(model, *overrides(data))
    out, err = capsys.readouterr()
    assert code == 1
    assert f"warning: skipped: {broken}" in err
    assert "The figures are without 1 of 7 pictures, named above." in out
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
    assert f"{path}: 3 pixels have label 77, which is neither a class (0..5)" in (
        capsys.readouterr().err
    )
    shutil.copy(path, data / "masks" / "val" / "val0.png")
    message = refused(capsys, model, *overrides(data))
    assert message.startswith("2 of 7 pictures cannot be used, more than one in 20")


def test_exception_masks_that_are_missing(model, data, capsys):
    (data / "masks" / "val" / "val1.png").unlink()
    message = refused(capsys, model, *overrides(data))
    assert "1 of 7 images" in message and "have no mask" in message
    assert message.endswith("(-o val_loader.args.on_bad_sample=skip leaves them out)")
    code, report = run(model, *overrides(data), "-oval_loader.args.on_bad_sample=skip")
    assert (code, len(report["images"])) == (0, 6)
    assert "1 picture that lists or folders name is not there or incomplete." in report["notes"]


def test_feature_a_batch_that_fails_is_tried_picture_by_picture(model, monkeypatch, capsys):
    _, expected = run(model)
    whole = Predictor.predict_logits

    def out_of_memory_advice(self, images):
        raise torch.OutOfMemoryError("no room")

    def one_fails(self, image):
        if image.shape[:2] == (56, 40):
            raise RuntimeError("a picture like this\nwith advice")
        return whole(self, image)

    monkeypatch.setattr(Predictor, "predict_batch", out_of_memory_advice)
    code, report = run(model)
    assert (code, report["confusion"]) == (0, expected["confusion"])
    monkeypatch.setattr(Predictor, "predict_logits", one_fails)
    capsys.readouterr()
    code, report = run(model)
    assert (code, len(report["images"]), len(report["skipped"])) == (1, 4, 3)
    assert report["skipped"][0]["reason"].endswith("val1.png: a picture like this")
    assert "val1.png: a picture like this\n" in capsys.readouterr().err
    # What the config allows is what cannot be read, not what the model cannot take.
    assert run(model, "-oval_loader.args.on_bad_sample=skip")[0] == 1
    monkeypatch.setattr(Predictor, "predict_logits", out_of_memory_advice)
    message = refused(capsys, model)
    assert message == "no picture could be scored; each is named above with the reason"


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


def test_feature_pictures_in_tiles_are_noted(model, tmp_path, monkeypatch, capsys):
    whole = models.UNet.forward

    def forward(self, images):
        if images[0, 0].numel() > 40 * 40:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return whole(self, images)

    monkeypatch.setattr(models.UNet, "forward", forward)
    monkeypatch.setattr(predictor, "_SMALLEST_TILE", 32)
    code, report = run(model)
    out, err = capsys.readouterr()
    assert (code, report["skipped"]) == (0, [])
    (note,) = [note for note in report["notes"] if "tiles" in note]
    assert note == (
        "Memory was too small for some pictures as a whole. They were predicted in overlapping "
        "tiles, so their figures are not quite those of mode whole."
    )
    assert note in " ".join(out.split())
    assert err == f"warning: {SLOWER}\nwarning: {IN_TILES}\n"


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

    monkeypatch.setattr(evaluation.run, "with_cpu_fallback", with_cpu_fallback)
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


# --------------------------------------------------------------------------------------------------
# Mistakes


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
    """Of the ancestor with --config, and bare weights."""
    weights = load_checkpoint(model)["state_dict"]
    torch.save(weights, model)
    assert refused(capsys, model) == (
        f"{model}: holds no config, so that it does not say which pictures are meant: add --config"
    )
    (tmp_path / "config.json").write_text(json.dumps(make_tree(made[0])))
    code, report = run(model, "--config", tmp_path / "config.json")
    truth, said = counted(collected(made, "val"))
    assert code == 0
    assert report["confusion"] == confusion_matrix(truth, said, labels=range(6)).tolist()


def test_exception_overrides_that_nothing_reads(model, capsys):
    message = refused(capsys, model, "-o", "valloader.args.batch_size=1", "-o", "arch.type=UNet")
    assert message.endswith("'arch.type=UNet': has no effect here; what is read: train_loader, "
                            "val_loader, test_loader, ignore_index")  # fmt: skip
    message = refused(capsys, model, "-o", "val_loader.args.batch_sise=1")
    assert "Folder takes no such argument; did you mean 'batch_size'?" in message
    message = refused(capsys, model, "-o", "val_loader.args.val_split=0.5")
    assert "args.val_split: belongs in train_loader" in message


def test_exception_other_classes(model, capsys):
    fewer = json.dumps(CLASSES[:5])
    message = refused(capsys, model, f"-oval_loader.args.classes={fewer}")
    assert message.startswith(
        f"{model} has 6 classes and val_loader has 5: only one of them has 'cross'"
    )
    renamed = json.dumps([*CLASSES[:4], "rings", "cross"])
    message = refused(capsys, model, f"-oval_loader.args.classes={renamed}")
    assert message.startswith(
        f"class 4 is 'ring' in {model} and 'rings' in val_loader; did you mean 'ring'?"
    )


def test_exception_other_bands(model, capsys):
    flags = [f"-oval_loader.args.{word}" for word in
             ("bands=[1,2,3]", "mean=[0.5,0.5,0.5]", "std=[0.2,0.2,0.2]")]  # fmt: skip
    message = refused(capsys, model, *flags)
    assert message.startswith(f"{model} has images of 8-bit RGB and val_loader has 3 bands of")


def test_feature_another_normalisation_is_said_and_has_no_effect(model, capsys):
    _, expected = run(model)
    code, report = run(model, "-oval_loader.args.mean=[0.1,0.1,0.1]")
    assert (code, report["confusion"]) == (0, expected["confusion"])
    assert "val_loader: its images are normalised as in training" in capsys.readouterr().err


def test_exception_a_process_that_ends(model, monkeypatch, capsys):
    def epoch(self, number):
        raise WorkerError("a process that loads pictures has ended")

    monkeypatch.setattr(BaseDataLoader, "epoch", epoch)
    assert refused(capsys, model) == "a process that loads pictures has ended"


def test_exception_the_device(model, capsys):
    assert refused(capsys, model, "--device", "gpu").startswith("--device: 'gpu' cannot be used")


# --------------------------------------------------------------------------------------------------
# Threshold


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """A model of two classes that says the second far too seldom."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("binary")
    for split in ("val", "test"):
        write_set(folder, split, 5)
        for path in (folder / "masks" / split).iterdir():
            mask = np.array(Image.open(path))
            Image.fromarray(np.where(mask == 255, 255, mask > 0).astype(np.uint8)).save(path)
    torch.manual_seed(0)
    network = models.UNet(2, base_channels=2)
    network.final_conv.weight.data.normal_(0, 0.3)
    network.final_conv.bias.data = torch.tensor([0.5, -0.5])
    args = {"classes": ["ground", "shape"]}
    checkpoint = {
        "state_dict": network.state_dict(),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        "rng": {"torch": torch.get_rng_state(), "numpy": [1, "two", None]},
        "monitor_best": 0.1 + 0.2,
        "config": {
            "arch": {"type": "UNet", "args": {"base_channels": 2}},
            "val_loader": loader(folder, "val", batch_size=2, **args),
            "test_loader": loader(folder, "test", batch_size=2, **args),
        },
        "meta": {
            "classes": args["classes"], "palette": [[0, 0, 0], [255, 0, 0]],
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": 3,
            "ignore_index": 255, "versions": {"torch": "2"},
        },
    }  # fmt: skip
    save_checkpoint(checkpoint, folder / "model.pth")
    return folder, folder / "model.pth"


@pytest.fixture
def one_channel(binary, tmp_path):
    """The same model with one output channel: the difference of the two."""
    checkpoint = load_checkpoint(binary[1])
    for name in ("final_conv.weight", "final_conv.bias"):
        ground, shape = checkpoint["state_dict"][name]
        checkpoint["state_dict"][name] = (shape - ground)[None]
    checkpoint["meta"]["binary"] = True
    save_checkpoint(checkpoint, tmp_path / "one.pth")
    return tmp_path / "one.pth"


def test_feature_one_output_channel_is_the_difference_of_two(binary, one_channel, tmp_path):
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    for flags in ((), ("--find-threshold",), ("--mode", "sliding")):
        (code, two), (other, one) = run(model, *flags), run(one_channel, *flags)
        assert (code, other) == (0, 0)
        assert one["threshold"] == two["threshold"]
        # Subtracted before or after the sum, a pixel on the edge may fall to either side.
        assert np.abs(np.array(one["confusion"]) - two["confusion"]).max() <= 3
        assert one["figures"]["ECE"] == pytest.approx(two["figures"]["ECE"], abs=1e-3)


@pytest.mark.parametrize("figure", evaluate.FIGURES)
def test_feature_the_threshold_is_found_and_kept(binary, tmp_path, capsys, figure):
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    code, report = run(model, "--find-threshold", figure)
    out = capsys.readouterr().out
    threshold = report["threshold"]
    assert code == 0
    assert 0 < threshold < 0.5
    found = re.search(r"Best threshold for (\w+) on val: (\S+) \((\S+), (\S+) against 0.5\)", out)
    assert (found[1], found[2]) == (figure, f"{threshold:.4g}")
    assert float(found[4]) > 0
    truth, said = counted(collected(binary, "val", model=model, threshold=threshold))
    assert report["confusion"] == confusion_matrix(truth, said).tolist()
    keys = {"Mean_IoU": lambda f: f["Mean_IoU"], "IoU": lambda f: f["Class_IoU"][1],
            "Dice": lambda f: f["Class_Dice"][1]}  # fmt: skip
    assert f"{keys[figure](report['figures']):.4f}" == found[3]
    (note,) = threshold_notes(report)
    assert note in out
    assert note == (
        f"The threshold {threshold:.4g} was chosen on these pictures, so its figures are "
        "optimistic; report those of another split."
    )
    again = run(model)
    assert again[1]["confusion"] == report["confusion"]
    assert threshold_notes(again[1]) == [note]


def threshold_notes(report):
    return [note for note in report["notes"] if note.startswith("The threshold ")]


def test_feature_pictures_of_the_threshold_are_known_again(binary, tmp_path):
    """Elsewhere, and under another split's name; a config may call others val."""
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    run(model, "--find-threshold")
    for name in ("images", "masks"):
        shutil.copytree(binary[0] / name, tmp_path / "moved" / name)
    _, moved = run(model, *overrides(tmp_path / "moved"))
    _, renamed = run(model, "--split", "test", "-o", "test_loader.args.split=val")
    assert len(threshold_notes(moved)) == len(threshold_notes(renamed)) == 1
    _, other = run(model, "--split", "test")
    _, replaced = run(model, "-o", "val_loader.args.split=test")
    assert threshold_notes(other) == threshold_notes(replaced) == []
    assert other["threshold"] == moved["threshold"]


def test_feature_a_threshold_of_another_mode(binary, tmp_path, capsys):
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    run(model, "--find-threshold", "--mode", "sliding")
    _, report = run(model, "--split", "test")
    (note,) = threshold_notes(report)
    assert "was chosen in mode sliding; in mode whole another may be best" in note
    words = ["-m", model, "-i", binary[0] / "images/val", "-d", "cpu", "-o"]
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


def test_feature_confidence_is_that_of_what_the_threshold_decides(binary, tmp_path):
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    _, report = run(model, "--find-threshold")
    bins = [row for row in report["calibration"] if row["count"]]
    right = sum(row["count"] * row["accuracy"] for row in bins)
    pixels = sum(row["count"] for row in bins)
    assert right / pixels == pytest.approx(report["figures"]["Pixel_Accuracy"], abs=1e-12)
    pairs = collected(binary, "val", model=model, threshold=report["threshold"])
    assert report["issues"]
    for issue in report["issues"]:
        label, ids = pairs[issue["index"]]
        left, top, right, bottom = issue["box"]
        inside = (label == issue["given"]) & (ids == issue["suggested"])
        assert inside[top:bottom, left:right].sum() >= issue["pixels"]


@pytest.mark.parametrize("label", [0, 1])
def test_exception_a_threshold_between_one_class(binary, tmp_path, capsys, label):
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    before = Path(model).read_bytes()
    for name in ("images", "masks"):
        shutil.copytree(binary[0] / name, tmp_path / "data" / name)
    for path in (tmp_path / "data/masks/val").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 255, mask, label).astype(np.uint8)).save(path)
    message = refused(capsys, model, "--find-threshold", *overrides(tmp_path / "data"))
    counts = ("8,291 'ground' and 0 'shape'", "0 'ground' and 8,291 'shape'")
    assert message == (
        f"--find-threshold: the pixels of val are labelled {counts[label]}; a threshold needs "
        "both, so choose another --split"
    )
    assert Path(model).read_bytes() == before


def test_exception_a_threshold_of_weights_that_are_broken(binary, tmp_path, capsys):
    checkpoint = load_checkpoint(binary[1])
    checkpoint["state_dict"]["final_conv.bias"][:] = float("nan")
    save_checkpoint(checkpoint, tmp_path / "model.pth")
    assert run(tmp_path / "model.pth", "--find-threshold") == (2, None)
    err = capsys.readouterr().err
    assert "val0.png: " in err and "its weights are broken" in err
    assert err.endswith(
        "--find-threshold: no picture could be scored; each is named above with the reason\n"
    )


def test_exception_an_interruption_says_what_is_there(binary, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    model = shutil.copy(binary[1], tmp_path / "model.pth")
    out = tmp_path / "out.json"
    words = ["--model", model, "--device", "cpu", "--json", out, "--report", tmp_path / "page"]
    monkeypatch.setattr(evaluation.output, "write_report", interrupted)
    assert evaluate.main([*map(str, words), "--find-threshold"]) == 130
    threshold = load_checkpoint(model)["meta"]["threshold"]
    assert capsys.readouterr().err.endswith(
        f"interrupted; written before: the threshold {threshold:.4g} in {model}, {out}\n"
    )
    monkeypatch.setattr(evaluation.run, "evaluate", interrupted)
    assert evaluate.main([*map(str, words)]) == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was written\n")


def test_feature_inference_uses_the_threshold(binary, tmp_path):
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    _, report = run(model, "--find-threshold")
    words = ["-m", model, "-i", binary[0] / "images/val", "-o", tmp_path / "out", "-mo", "whole"]
    assert inference.main([*map(str, words), "-d", "cpu"]) == 0
    truth = [(np.array(Image.open(path)), np.array(Image.open(tmp_path / "out" / path.name)))
             for path in sorted((binary[0] / "masks/val").iterdir())]  # fmt: skip
    assert report["confusion"] == confusion_matrix(*counted(truth)).tolist()


def test_feature_nothing_else_in_the_checkpoint_changes(binary, tmp_path):
    model = shutil.copy(binary[1], tmp_path / "model.pth")
    link = tmp_path / "link.pth"
    link.symlink_to(model)
    before = load_checkpoint(model)
    assert run(link, "--find-threshold", "--split", "test")[0] == 0
    after = load_checkpoint(model)
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
    assert message == f"--find-threshold: is for two classes, and {model} knows 6"
    assert Path(model).read_bytes() == before
    checkpoint = load_checkpoint(binary[1])
    del checkpoint["meta"]
    checkpoint["config"]["train_loader"] = checkpoint["config"]["val_loader"]
    torch.save(checkpoint, model)
    assert "has no place for it" in refused(capsys, model, "--find-threshold")


# --------------------------------------------------------------------------------------------------
# Notes


def test_feature_figures_of_the_training_pictures_are_called_optimistic(model, made):
    so = "on these pictures, so its figures are optimistic; report those of another split."
    trained, chosen = f"The model was trained {so}", f"The best epoch was chosen {so}"
    found = {split: run(model, "--split", split)[1]["notes"] for split in SPLITS}
    assert found["train"][0] == trained
    assert found["val"][0] == chosen
    assert not any("optimistic" in note for note in found["test"])
    # Other pictures than those that the checkpoint names may be the same or not.
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


def test_feature_few_pictures_and_missing_intervals_are_noted(model, capsys):
    _, report = run(model)
    out = capsys.readouterr().out
    few, none = report["notes"][-2:]
    assert few == "Only 7 pictures count: the 95 % intervals are too narrow." and few in out
    pairs = zip(report["figures"]["Class_IoU"], report["intervals"]["Class_IoU"], strict=True)
    count = sum(iou is not None and interval is None for iou, interval in pairs)
    assert none.startswith(f"No 95 % interval for the IoU of {count} class") and count
    assert "too narrow" not in str(run(model, "--split", "train")[1]["notes"])


def test_feature_a_class_that_is_ignored_is_noted(model, capsys):
    _, report = run(model, "-o", "ignore_index=1")
    note = "ignore_index: 1 is the class 'disk', whose pixels are ignored"
    assert note in report["notes"] and note in capsys.readouterr().out
    assert report["figures"]["Class_IoU"][1] in (None, 0)


def test_feature_metrics_of_a_threshold_agree():
    """They are written twice, so that --help need not load torch."""
    assert get_args(Figure) == evaluate.FIGURES


# --------------------------------------------------------------------------------------------------
# Outputs


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
    monkeypatch.setattr(evaluation.run, "evaluate", None)  # would be a TypeError
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"name": "roads"}')
    folder = Path("my data")
    (folder / "images").mkdir(parents=True)
    for name in ("b.txt", "c.txt", "d.txt"):
        (folder / name).write_text("")
    before = sorted(folder.rglob("*"))
    message = refused(capsys, model, "--report", folder)
    assert "my data holds other files (b.txt, c.txt, d.txt and 1 more)" in message
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
        assert look.picture.tolist() == np.array(Image.open(image["image"])).tolist()
    assert evaluation.output.plain_data(given["found"])["images"] == report["images"]


def test_smoke_the_page_itself(model, tmp_path, capsys):
    assert run(model, "--report", tmp_path / "page")[0] == 0
    page = tmp_path / "page" / "index.html"
    assert f"Report: {page}" in capsys.readouterr().out
    assert run(model, "--report", tmp_path / "page")[0] == 0  # its own page is replaced


def test_feature_the_table(model, capsys):
    _, report = run(model)
    out = capsys.readouterr().out
    figures = report["figures"]
    assert "(Folder), val: 7 pictures, " in out
    rows = [
        name for name, iou in zip(CLASSES, figures["Class_IoU"], strict=True) if iou is not None
    ]
    for name in rows:
        iou = figures["Class_IoU"][CLASSES.index(name)]
        assert re.search(rf"^{name} +{100 * iou:.1f} ", out, re.M), name
    assert re.search(rf"^mean IoU +{figures['Mean_IoU']:.4f} +\d", out, re.M)
    worst = min(report["images"], key=lambda image: image["mean_iou"])
    assert f"worst: {worst['name']}: mean IoU {worst['mean_iou']:.4f}" in out
    confusion = np.array(report["confusion"])
    np.fill_diagonal(confusion, 0)
    given, said = np.unravel_index(confusion.argmax(), confusion.shape)
    assert f"often confused: {CLASSES[given]} taken for {CLASSES[said]}: " in out
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


def test_feature_terminal_json_and_page_are_headed_by_run_model_and_folder(
    made, model, tmp_path, capsys
):
    _, report = run(model, "--split", "test", "--report", tmp_path / "page")
    told = (report["run"], report["model"], report["data"], report["arch"], report["dataset"])
    assert told == ("own", "UNet", str(made[0]), "UNet", "Folder")
    heading = f"own: UNet on {made[0]} (Folder)"
    assert re.search(rf"^{re.escape(heading)}, test: 4 pictures", capsys.readouterr().out, re.M)
    page = (tmp_path / "page/index.html").read_text()
    assert f"<title>{heading}: evaluation</title>" in page
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


def test_feature_one_picture_is_one_picture():
    from tests.report_case import Case

    made = Case(num_images=1).evaluation()
    confusion = np.zeros_like(made.confusion)
    confusion[0, 0] = 1
    made = dataclasses.replace(made, confusion=confusion)
    assert headline(made) == "UNet on Shapes, val: 1 picture, 1 labelled pixel, mode whole"


def test_feature_the_table_of_many_classes_stays_narrow():
    from tests.report_case import Case

    names = ["a class with a very, very long name indeed"]
    made = Case(num_classes=182, num_images=3, unused=100, names=names).evaluation()
    figures = {"Class_Boundary_IoU": [0.5] * 182, **made.figures}
    text = text_of(dataclasses.replace(made, figures=figures))
    assert max(map(len, text.splitlines())) <= 100
    assert "a class with a very, ..." in text
    shown = re.findall(r"^class \d+", text, re.M)
    assert re.search(rf"^{182 - 1 - len(shown)} more classes in no label or prediction", text, re.M)
