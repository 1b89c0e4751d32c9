"""From a training whose masks stand beside the images to the masks of these images."""

import re
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from models.unet import UNet
from prediction.load_model import restore
from tests.training_runs import small_config, trained
from training.messages import next_commands
from utils.samples.pairing import Sample, masks_within


def picture(path, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (16, 16) if mode == "L" else (16, 16, 3)
    Image.fromarray(np.arange(np.prod(size)).reshape(size).astype(np.uint8) % 2).save(path)


def test_feature_a_training_on_a_pattern_and_its_next_command(tmp_path, capsys, monkeypatch):
    """The line that the training prints makes masks of the images alone."""
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        picture(tmp_path / f"photos/{i}.png")
        picture(tmp_path / f"photos/{i}_mask.png", "L")
    tree = small_config(tmp_path, epochs=1, save_period=1)
    args = {
        "images": "photos/*.png", "masks": "photos/*_mask.png", "classes": 2, "batch_size": 2,
        "num_workers": 0,
    }  # fmt: skip
    tree["train_loader"] = {"type": "Folder", "args": args}
    tree["val_loader"] = {"type": "Folder", "args": {**args, "val": True}}
    folder = trained(tmp_path, tree)
    meta = torch.load(folder / "best_model.pth", weights_only=True)["meta"]
    assert meta["mask_suffix"] == "_mask"
    assert restore(folder / "best_model.pth", "cpu")[1].mask_suffix == "_mask"
    line = re.search(r"python inference\.py (.*)", capsys.readouterr().out)[1]
    assert inference.main([*shlex.split(line), "--device", "cpu", "--mode", "whole"]) == 0
    made = sorted(p.name for p in (tmp_path / "outputs").glob("*.png"))
    assert made == [f"{i}.png" for i in range(4)]
    assert "left out 4 images" in capsys.readouterr().err


def test_feature_checkpoints_that_do_not_say_it(tmp_path):
    """Older ones have no such key; one without `meta` has it in its config, or not at all."""
    state = UNet(2, base_channels=2).state_dict()
    arch = {"type": "UNet", "args": {"base_channels": 2}}
    meta = {
        "classes": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]], "mean": [0.5] * 3,
        "std": [0.5] * 3, "channels": 3, "ignore_index": 255,
    }  # fmt: skip
    folder = {"images": "none", "masks": "none", "classes": ["a", "b"]}
    for rest, expected in (
        ({"meta": meta, "config": {"arch": arch}}, ""),
        ({"config": {"arch": arch, "train_loader": {"type": "Folder", "args": folder}}}, ""),
        (
            {"config": {"arch": arch, "train_loader": {
                "type": "Folder", "args": {**folder, "mask_suffix": "_gt"}}}},
            "_gt",
        ),
    ):  # fmt: skip
        torch.save({"state_dict": state, **rest}, tmp_path / "old.pth")
        assert restore(tmp_path / "old.pth", "cpu")[1].mask_suffix == expected


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("d/1.jpg", "d/1.png"), ("d/2.jpg", "d/2.png")], ["*.png"]),
        ([("d/1.jpg", "d/masks/1.png"), ("d/2.jpg", "d/masks/2.png")], ["masks"]),
        ([("d/1/image.png", "d/1/mask.png")], ["mask.png"]),
        ([("d/1.jpg", "e/1.png")], []),
        ([("d/1.png", "d/x/1.png"), ("d/x/2.png", "d/x/3.png")], []),
        ([("d/1.jpg", None)], []),
    ],
)
def test_feature_what_inference_is_told_to_leave_out(tmp_path, pairs, expected):
    samples = [
        Sample(str(i), str(tmp_path / image), mask and str(tmp_path / mask))
        for i, (image, mask) in enumerate(pairs)
    ]
    assert masks_within(samples, tmp_path / "d") == expected


def test_feature_the_next_command_names_what_to_leave_out(tmp_path):
    """Of masks that only their extension tells from images, which no checkpoint says."""
    picture(tmp_path / "d/1.jpg")
    sample = Sample("1", str(tmp_path / "d/1.jpg"), str(tmp_path / "d/1.png"))
    source = SimpleNamespace(samples=[sample], mask_prefix="", mask_suffix="")
    settings = SimpleNamespace(
        save_dir="saved", log_dir="saved", val=True, writes_tensorboard=False
    )
    for suffix, expected in (("", " --exclude '*.png'"), ("_gt", "")):
        source.mask_suffix = suffix
        config, loader = SimpleNamespace(trainer=settings), SimpleNamespace(source=source)
        commands = next_commands(config, tmp_path / "best_model.pth", loader)
        assert commands[-1].endswith(f"--images {tmp_path}/d{expected}")
