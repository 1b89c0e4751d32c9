"""Images, a model trained on them, and evaluate.py run on both."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import evaluate
import models
import train
from dataloaders.shapes import Shapes
from prediction.load_model import restore
from prediction.predictor.network import Predictor
from utils.cli.choices import SPLITS
from utils.logits.to_labels import predict_labels

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
    """Labels and predictions (H, W) of every image, read and predicted one by one."""
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
