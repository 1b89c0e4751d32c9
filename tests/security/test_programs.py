"""Every program that reads a checkpoint, given hostile and damaged ones."""

import copy
import encodings.cp437  # noqa: F401  what zipfile reads names with
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import check
import convert
import evaluate
import inference
import models
import train
from builders.data import describe_dataset
from dataloaders.shapes import Shapes
from tests.hostile_files import CALLS, FORMATS, PLACES, torchscript
from tests.slow import mark_slow
from utils.random_state import get_random_state

pytestmark = pytest.mark.usefixtures("folder")


META = {"classes": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]], "mean": [0.5] * 3,
        "std": [0.5] * 3, "channels": 3}  # fmt: skip
LOADER = {"type": "Shapes", "args": {"split": "val", "num_images": 2, "image_size": 32,
                                     "batch_size": 2, "num_workers": 0}}  # fmt: skip


def tree(**changes):
    return {
        "name": "x", "arch": {"type": "UNet", "args": {"base_channels": 2}},
        "train_loader": copy.deepcopy(LOADER), "val_loader": copy.deepcopy(LOADER),
        "optimizer": {"type": "SGD"}, "loss": "CrossEntropyLoss2d",
        "trainer": {"epochs": 1, "tensorboard": False}, **changes,
    }  # fmt: skip


def good():
    """A whole checkpoint of a run, as the programs read it."""
    torch.manual_seed(0)
    model = models.UNet(len(Shapes.classes), base_channels=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {
        "arch": "UNet", "epoch": 1, "step": 1, "batch": 0, "progress": None, "logs": {},
        "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(),
        "lr_scheduler": None, "monitor_best": 0.5, "best_epoch": 1, "rng": get_random_state(),
        "config": tree(), "meta": describe_dataset(Shapes("val", num_images=2, image_size=32), 255),
    }  # fmt: skip


def write_config(path, **changes):
    path.write_text(json.dumps(tree(**changes)))
    return str(path)


def resume(path):
    return train.main(["--resume", str(path), "--device", "cpu"])


def as_last(path, run):
    """Put a file into a run folder as its `last.pth`."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "last.pth").write_bytes(path.read_bytes())
    return run


def resume_folder(path):
    return resume(as_last(path, path.parent / "run"))


def resume_auto(path):
    as_last(path, path.parent / "saved/x/2020-01-01")
    config = write_config(path.parent / "c.json")
    return train.main(["--resume", "auto", "-c", config, "--device", "cpu"])


def start_from(path):
    config = write_config(path.parent / "c.json", init_from=str(path))
    return train.main(["-c", config, "--device", "cpu"])


def backbone_weights(path):
    arch = {"type": "UNetResnet", "args": {"backbone": "resnet18", "pretrained": str(path)}}
    config = write_config(path.parent / "c.json", arch=arch)
    return train.main(["-c", config, "--device", "cpu"])


def predict(path):
    pictures = path.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / "a.png")
    flags = ["-d", "cpu", "-mo", "whole", "--overwrite"]
    return inference.main(["-m", str(path), "-i", str(pictures), *flags])


def predict_with_config(path):
    words = ["-m", str(path), "-i", str(path.parent / "pictures"), "-d", "cpu"]
    return inference.main([*words, "-c", write_config(path.parent / "c.json")])


def score(path):
    return evaluate.main(["-m", str(path), "-d", "cpu"])


def score_with_config(path):
    return evaluate.main(["-m", str(path), "-c", write_config(path.parent / "c.json"), "-d", "cpu"])


def score_threshold(path):
    return evaluate.main(["-m", str(path), "-d", "cpu", "--find-threshold"])


ENTRIES = [
    resume, resume_folder, resume_auto, start_from, backbone_weights, predict,
    predict_with_config, score, score_with_config, score_threshold,
]  # fmt: skip
CHOSEN = [
    ("zipped", "config", "exec"), ("legacy", "weights", "system"), ("raw", "top", "import"),
    ("raw_new", "meta", "open"), ("tarred", "top", "system"), ("replaced", "optimizer", "map"),
    ("packed", "other", "eval"), ("signed", "rng", "torch"), ("signed", "bare", "getattr"),
]  # fmt: skip


def last_line(capsys):
    """What the user reads: one line that names the mistake."""
    text = capsys.readouterr().err.strip()
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("entry", mark_slow(ENTRIES), ids=lambda entry: entry.__name__)
def test_exception_every_program_refuses(folder, marker, capsys, entry):
    (folder / "pictures").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "pictures/a.png")
    path = folder / "evil.pth"
    path.write_bytes(b"PK is none")
    assert entry(path) == 2  # imports what it needs to refuse a file
    capsys.readouterr()
    files = [FORMATS[form](PLACES[place](CALLS[c](str(marker)))) for form, place, c in CHOSEN]
    for data in [*files, torchscript()]:
        path.write_bytes(data)
        loaded = set(sys.modules)
        assert entry(path) == 2
        message = last_line(capsys)
        assert len(message.splitlines()) == 1, message
        assert "pth" in message
        assert not marker.exists()
        assert set(sys.modules) == loaded
    assert not (folder / "outputs").exists()


# --- other content than the program writes


def deep(levels=90):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = {
    "text": lambda: "text", "number": lambda: 7, "negative": lambda: -3,
    "float": lambda: 0.5, "nan": lambda: float("nan"), "inf": lambda: float("inf"),
    "huge": lambda: 2**200, "true": lambda: True, "none": lambda: None, "list": lambda: [],
    "lists": lambda: [[[]]], "dict": lambda: {}, "keys": lambda: {1: 2, None: 3},
    "tuple": lambda: ((),), "tensor": lambda: torch.ones(2), "bytes": lambda: b"a",
    "complex": lambda: 1j, "set": lambda: {1}, "scalar": lambda: torch.tensor(1.0),
    "numpy": lambda: np.float64(1), "dtype": lambda: torch.float32,
    "escape": lambda: "\x1b[2J\n\0", "surrogate": lambda: "\ud800", "deep": deep,
}  # fmt: skip

FEW = ("text", "negative", "nan", "huge", "none", "list", "dict", "keys", "tensor", "surrogate")


def test_smoke_the_checkpoint_is_good(folder, capsys):
    path = folder / "c.pth"
    torch.save(good(), path)
    for entry in (resume, predict, score):
        assert entry(path) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "names"), [(predict, VALUES), (score, FEW)])
def test_exception_meta_of_other_types(folder, capsys, entry, names):
    """Each key of `meta`, and `meta` itself: right, or one line and exit code 2."""
    path, checkpoint = folder / "c.pth", good()
    keys = [*checkpoint["meta"], "band_rule", "binary", "threshold", "threshold_search"]
    refused = 0
    for name, make in ((name, VALUES[name]) for name in names):
        for key in (None, *keys):
            meta = make() if key is None else {**checkpoint["meta"], key: make()}
            torch.save({**checkpoint, "meta": meta}, path)
            try:
                code = entry(path)
            except BaseException as error:
                raise AssertionError((name, key)) from error
            message = capsys.readouterr().err.strip()
            assert code in (0, 2), (name, key, message)
            if code == 2:
                refused += 1
                errors = [line for line in message.splitlines() if "c.pth" in line]
                assert len(errors) == 1, (name, key, message)
    assert refused > 6 * len(names)


SCORED = ("state_dict", "config", "epoch", "monitor_best", "best_epoch")  # what evaluate.py reads


@pytest.mark.slow
@pytest.mark.parametrize("entry", [predict, score, resume], ids=lambda entry: entry.__name__)
def test_exception_content_of_other_types(folder, capsys, entry):
    """Every key of a checkpoint: the program goes on or says in a line what is wrong."""
    path, checkpoint = folder / "c.pth", good()  # of a run in which nothing is left to train
    for key in SCORED if entry is score else checkpoint:
        for name, make in ((name, VALUES[name]) for name in FEW):
            torch.save({**checkpoint, key: make()}, path)
            try:
                code = entry(path)
            except BaseException as error:
                raise AssertionError((key, name)) from error
            message = capsys.readouterr().err
            assert code in (0, 2), (key, name, message)
            assert "Traceback" not in message, (key, name)
            assert code == 0 or message.strip(), (key, name)


ESCAPES = "\x1b[2J\x1b]0;x\x07\u202e"


def test_feature_messages_move_no_cursor(folder, capsys):
    """Names from anywhere are shown without what a terminal would obey."""
    path = folder / "c.pth"
    torch.save({**good(), "config": tree(arch={"type": ESCAPES})}, path)
    config = folder / "c.json"
    args = {"data_dir": str(folder), "images": "list.txt", "masks": "list.txt", "classes": 2}
    loader = {"type": "Folder", "args": {**args, "batch_size": 1}}
    config.write_text(json.dumps(tree(train_loader=loader)))
    (folder / "list.txt").write_text(f"../{ESCAPES}.png\n")
    (folder / "pictures").mkdir()
    (folder / f"pictures/{ESCAPES}.png").write_bytes(b"no picture")
    calls = [
        lambda: train.main(["-c", str(config), "--device", "cpu"]),
        lambda: check.main(["-c", str(config), "--no-step", "--workers", "1"]),
        lambda: convert.main(["split", str(folder / "list.txt"), "--masks", "x", "-o", "lists"]),
        lambda: convert.main(["colours", "pictures", "--list"]),
        lambda: score(path),
        lambda: inference.main(["-m", str(path), "-i", "pictures", "-d", "cpu"]),
        lambda: inference.main(["-m", str(path), "-i", f"{ESCAPES}.png", "-d", "cpu"]),
    ]
    for call in calls:
        assert call() in (1, 2)
    torch.save(good(), path)
    assert inference.main(["-m", str(path), "-i", "pictures", "-d", "cpu", "-mo", "whole"]) == 1
    captured = capsys.readouterr()
    assert not set(ESCAPES) & set("\x1b\x07\u202e") & set(captured.err + captured.out)
    assert captured.err.count("error: ") >= 3
