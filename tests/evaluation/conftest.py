"""Images on disk and models that were trained on them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import models
from tests.evaluation.evaluate_case import loader, make_tree, trained_model, write_set, write_start
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images on disk and a model that was trained on them for a moment."""
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
    """A copy of the images that a test may damage, as overrides of the config."""
    for name in ("images", "masks"):
        shutil.copytree(made[0] / name, tmp_path / "data" / name)
    return tmp_path / "data"


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
def saved(binary, tmp_path):
    """A copy of this model, saved where a test may change it."""
    return shutil.copy(binary[1], tmp_path / "model.pth")


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
