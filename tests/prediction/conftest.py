"""A model and an empty folder for images."""

import pytest
import torch

import models

CLASSES = ["sky", "road", "tree"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best_model.pth"
    torch.manual_seed(0)
    model = models.UNet(len(CLASSES), base_channels=2)
    model.final_conv.weight.data.normal_()  # as it starts, the model says one class everywhere
    meta = {"classes": CLASSES, "palette": [[10, 20, 30], [40, 50, 60], [70, 80, 90]],
            "mean": [0.5] * 3, "std": [0.25] * 3, "channels": 3, "ignore_index": 255}  # fmt: skip
    config = {"arch": {"type": "UNet", "args": {"base_channels": 2}}}
    torch.save({"state_dict": model.state_dict(), "config": config, "meta": meta}, path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for images, inside an empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "images"
    path.mkdir()
    return path
