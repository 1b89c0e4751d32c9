"""From a config to masks, as a person would go."""

import re

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import inference
import train
from dataloaders.shapes import Shapes
from tests.conftest import ROOT
from tests.training_runs import small_config, trained
from utils.checkpoint.save_load import load_checkpoint
from utils.config.file import parse_config


def best_model(text: str) -> str:
    return re.search(r"^Best model: (\S+best_model\.pth)", text, re.M)[1]


def test_feature_from_the_default_config_to_masks(tmp_path, capsys, monkeypatch):
    """The default config, cut short, and the command that it prints at its end."""
    overrides = {
        "trainer.epochs": 1, "trainer.save_dir": tmp_path / "saved",
        "trainer.log_dir": tmp_path / "saved" / "runs", "train_loader.args.num_images": 24,
        "val_loader.args.num_images": 4, "train_loader.args.num_workers": 0,
        "val_loader.args.num_workers": 0,
    }  # fmt: skip
    flags = [flag for key, value in overrides.items() for flag in ("-o", f"{key}={value}")]
    monkeypatch.chdir(ROOT)
    assert train.main(["--device", "cpu", *flags]) == 0
    out = capsys.readouterr().out
    command = re.search(r"python inference.py (--model \S+ --images \S+)", out)[1]
    output = tmp_path / "masks"
    assert inference.main([*command.split(), "-o", str(output), "--mode", "whole"]) == 0
    samples = sorted((ROOT / "docs/samples").glob("*.png"))
    assert len(samples) >= 4
    for sample in samples:
        mask = Image.open(output / sample.name)
        assert mask.mode == "P"
        assert mask.size == Image.open(sample).size
        assert np.asarray(mask).max() < len(Shapes.classes)


def test_feature_a_model_moves_without_its_folder(tmp_path, capsys):
    """Images on disk through Folder; then the checkpoint alone in another place."""
    shapes = Shapes("val", num_images=6, image_size=48)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for index, sample in enumerate(shapes.samples):
        image, mask, _ = shapes.load(index)
        Image.fromarray(image).save(tmp_path / "data/images" / f"{sample.name}.v1.JPG", "JPEG")
        Image.fromarray(mask).save(tmp_path / "data/masks" / f"{sample.name}.v1.png")
    args = {
        "data_dir": str(tmp_path / "data"), "classes": list(shapes.classes), "batch_size": 2,
        "augment": True, "crop_size": 32, "val_split": 0.3, "num_workers": 0,
    }  # fmt: skip
    tree = small_config(tmp_path, epochs=1, log_dir=str(tmp_path / "runs"), tensorboard=True)
    tree |= {"train_loader": {"type": "Folder", "args": args}, "val_loader": None}
    tree["ignore_index"] = -1
    folder = trained(tmp_path, tree)
    out = capsys.readouterr().out
    assert f"--images {tmp_path}/data/images" in out
    assert f"tensorboard --logdir {tmp_path}/runs" in out
    model = tmp_path / "elsewhere.pth"
    model.write_bytes((folder / "best_model.pth").read_bytes())
    (tmp_path / "data" / "masks").rename(tmp_path / "gone")
    masks = tmp_path / "out"
    words = ["-i", str(tmp_path / "data/images"), "-o", str(masks), "--overlay"]
    assert inference.main(["-m", str(model), *words]) == 0
    names = sorted(p.name for p in masks.glob("*.png"))
    assert names[:2] == ["val_000000.v1.png", "val_000000.v1_overlay.png"]
    assert len(names) == 12


def test_feature_print_config_needs_no_data(folder, capsys):
    for name in ("unet_camvid.json", "pspnet_voc.json", "segformer_camvid.json"):
        assert train.main(["-c", str(ROOT / "configs" / name), "--print-config"]) == 0
        (folder / "again.json").write_text(capsys.readouterr().out)
        shown = parse_config(folder / "again.json")
        assert shown["trainer"]["tensorboard"] is True
    assert [p.name for p in folder.iterdir()] == ["again.json"]


@pytest.mark.slow
def test_feature_the_ancestors_block_trains_on_real_voc(tmp_path, real_data, capsys):
    """Its documented config: another data_dir, smaller batch and backbone, nothing to download."""
    voc = real_data / "voc2012_layout"
    overrides = {
        "train_loader.args.data_dir": voc, "val_loader.args.data_dir": voc,
        "train_loader.args.batch_size": 2, "val_loader.args.batch_size": 2,
        "arch.args.pretrained": "false", "arch.args.backbone": "resnet18", "trainer.epochs": 1,
        "trainer.save_dir": tmp_path / "saved", "trainer.log_dir": tmp_path / "saved" / "runs",
    }  # fmt: skip
    flags = [flag for key, value in overrides.items() for flag in ("-o", f"{key}={value}")]
    block = real_data.parent / "compat" / "config_block.jsonc"
    if not block.exists():
        block = ROOT / "tests" / "ancestor_config.jsonc"
    assert train.main(["-c", str(block), "-d", "cpu", *flags]) == 0
    out = capsys.readouterr().out
    assert "4 training images, 2 steps an epoch, 3 validation images" in out
    # The trained model segments the images that it was trained on.
    images = next((real_data / "voc2012_layout").rglob("JPEGImages")) / "2011_000003.jpg"
    output = str(tmp_path / "o")
    words = ["-m", best_model(out), "-i", str(images), "-o", output, "--mode", "whole"]
    assert inference.main(words) == 0
    assert Image.open(tmp_path / "o/2011_000003.png").size == Image.open(images).size


@pytest.mark.slow
def test_feature_camvid_through_folder(tmp_path, real_data, capsys):
    overrides = {
        "train_loader.args.data_dir": real_data / "camvid",
        "val_loader.args.data_dir": real_data / "camvid",
        # The 101 validation images with a split of their own: 6 train, 2 validate.
        "train_loader.args.images": "val", "train_loader.args.masks": "valannot",
        "train_loader.args.val_split": 0.94, "val_loader": "null",
        "train_loader.args.crop_size": 64, "train_loader.args.base_size": 120,
        "train_loader.args.num_workers": 1, "arch.args.base_channels": 2,
        "trainer.epochs": 1, "trainer.save_dir": tmp_path, "trainer.log_dir": tmp_path / "runs",
    }  # fmt: skip
    flags = [flag for key, value in overrides.items() for flag in ("-o", f"{key}={value}")]
    words = ["-c", str(ROOT / "configs/unet_camvid.json"), "-d", "cpu"]
    assert train.main([*words, *flags]) == 0
    assert "95 validation images" in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["one file", "one file a band"])
def test_feature_pictures_of_four_bands_from_files_to_masks(tmp_path, capsys, layout):
    """16-bit TIFF in, masks and overlays out; nothing takes three channels for granted."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    suffixes = ["_B1", "_B2", "_B3", "_B4"]
    for number in range(6):
        mask = np.zeros((40, 48), np.uint8)
        mask[10:30, rng.integers(20) :][:, :20] = 1
        bands = rng.integers(100, 300, (40, 48, 4)).astype(np.uint16)
        bands += np.uint16(2000) * mask[..., None]
        if layout == "one file":
            tifffile.imwrite(tmp_path / f"images/{number}.tif", bands, planarconfig="contig")
        else:
            for band, suffix in enumerate(suffixes):
                tifffile.imwrite(tmp_path / f"images/{number}{suffix}.tif", bands[..., band])
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    args = {
        "data_dir": str(tmp_path), "classes": ["ground", "thing"], "rgb": [4, 2, 1],
        "mean": [500.0] * 4, "std": [700.0] * 4, "clip": [0, 3000], "batch_size": 2,
        "num_workers": 0, "augment": True, "base_size": 48, "crop_size": 32, "rotate": True,
        "blur": True, "rotate90": True, "mosaic": 0.5, "val_split": 0.3,
    }  # fmt: skip
    if layout != "one file":
        args["band_suffixes"] = suffixes
    tree = small_config(tmp_path, epochs=4, log_dir=str(tmp_path / "runs"), tensorboard=True)
    tree |= {"train_loader": {"type": "Folder", "args": args}, "val_loader": None}
    model = str(trained(tmp_path, tree) / "best_model.pth")
    capsys.readouterr()
    events = EventAccumulator(str(next((tmp_path / "runs").rglob("events*"))))
    events.Reload()
    assert "val/inputs_targets_predictions" in events.Tags()["images"]
    out = tmp_path / "out"
    command = ["-m", model, "-i", str(tmp_path / "images"), "-o", str(out), "--overlay"]
    assert inference.main([*command, "--mode", "whole"]) == 0
    assert len(list(out.glob("*.png"))) == 12
    overlay = Image.open(out / "0_overlay.png")  # with a legend below
    assert Image.open(out / "0.png").size == (48, 40) and overlay.height > 40
    # Bare weights and the config say the same, where the images are.
    bare = tmp_path / "bare.pth"
    torch.save(load_checkpoint(model)["state_dict"], bare)
    again = tmp_path / "again"
    command = ["-m", str(bare), "-c", str(tmp_path / "config.json"), "-i", str(tmp_path / "images")]
    assert inference.main([*command, "-o", str(again), "--mode", "whole"]) == 0
    assert (again / "0.png").read_bytes() == (out / "0.png").read_bytes()
    # The model says how many bands its images have.
    with_three = ["-c", str(tmp_path / "config.json"), "-o", "arch.args.in_channels=3"]
    assert train.main([*with_three, "--device", "cpu"]) == 2
    assert "arch.args.in_channels: 3, but" in capsys.readouterr().err
