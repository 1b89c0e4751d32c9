"""An epoch of the Trainer against a bare loop on the same batches.

The bare loop does what any training must: get a batch, normalize it, forward, cross-entropy,
backward, step. The Trainer also has a confusion matrix of the training, the running loss, the
schedule, the curves, the progress bar and the check for non-finite losses. Both read the same
loader; epochs alternate, so that a slow moment of the machine affects both.

    python -m benchmarks.trainer [--rounds 7] [--device cuda] [--model PSPNet]
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import models
from base.base_model import BaseModel
from base.batches import Batch
from builders.data import build_loader
from builders.optimization import build_losses, build_optimizer
from builders.sections import SECTIONS
from trainer import TRAINING_METRICS, VALIDATION_METRICS, Trainer
from utils.config.build import build
from utils.config.check import check_config
from utils.optim.schedule_driver import Schedule
from utils.runs.logger import RunFolder, RunLog

MODELS = {
    "UNet": {"type": "UNet", "args": {"base_channels": 16}},
    "PSPNet": {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": False}},
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", choices=MODELS, default="UNet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--images", type=int, default=160)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = measure(arguments, Path(folder))
    images = arguments.images
    print(
        f"{arguments.model}, {arguments.image_size} px, batch {arguments.batch_size}, "
        f"{arguments.device}, torch {torch.__version__}, median of {arguments.rounds}"
    )
    print(f"{'':12}{'images/s':>10}{'time':>8}")
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    for name, seconds, shown in (("bare loop", bare, 1.0), ("Trainer", ours, ratio)):
        print(f"{name:12}{images / statistics.median(seconds):10.1f}{shown:8.3f}")


def measure(arguments: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    """Return the seconds of each epoch, of the Trainer and of the bare loop."""
    device = torch.device(arguments.device)
    args = {
        "image_size": arguments.image_size,
        "num_images": arguments.images,
        "batch_size": arguments.batch_size,
        "shuffle": True,
        "num_workers": 0,
    }
    tree = {
        "name": "benchmark",
        "arch": MODELS[arguments.model],
        "train_loader": {"type": "Shapes", "args": args},
        "optimizer": {"type": "SGD", "args": {"lr": 0.01, "momentum": 0.9}},
        "lr_scheduler": {"type": "Poly"},
        "loss": "CrossEntropyLoss2d",
        "trainer": {"epochs": 1000, "val": False, "monitor": "off", "save_dir": str(folder),
                    "log_dir": str(folder / "runs")},
    }  # fmt: skip
    config = check_config(tree, SECTIONS, "benchmark", VALIDATION_METRICS, TRAINING_METRICS)
    loader = build_loader(config, "train_loader", training=True)
    # Drawn once: both would draw the same, which would only dilute the difference.
    pairs = [loader.source.load(i) for i in range(len(loader.source))]
    loader.source.load = pairs.__getitem__  # type: ignore
    torch.manual_seed(0)
    model = build(models, config.arch, BaseModel, "arch", num_classes=6)
    model.to(device).to(memory_format=torch.channels_last)
    run = RunFolder.create(config.trainer.save_dir, config.trainer.log_dir, config.name)
    ours, bare = [], []
    with RunLog(run, tensorboard=True) as log:
        optimizer = build_optimizer(config, model)
        trainer = Trainer(
            losses=build_losses(config),
            train_loader=loader,
            val_loader=None,
            device=device,
            model=model,
            optimizer=optimizer,
            lr_scheduler=Schedule(torch.optim.lr_scheduler.PolynomialLR(optimizer, 10**6)),
            config=config,
            meta={},
            folder=run,
            log=log,
        )
        for epoch in range(1, arguments.rounds + 2):
            trainer.batch = 0  # else the epoch counts as trained
            steps = trainer.step
            started = time.perf_counter()
            trainer.train_epoch(epoch)
            middle = time.perf_counter()
            bare_steps = bare_epoch(trainer, epoch)
            ended = time.perf_counter()
            steps = trainer.step - steps
            if not steps == bare_steps == len(loader):
                raise RuntimeError(
                    f"epoch {epoch}: the Trainer took {steps} steps, the bare loop {bare_steps}; "
                    f"to compare them, both must take {len(loader)}"
                )
            if epoch > 1:  # the first warms up
                ours.append(middle - started)
                bare.append(ended - middle)
    return ours, bare


def bare_epoch(trainer: Trainer, epoch: int) -> int:
    """Train as a script without a framework would; return the number of steps."""
    steps = 0
    model, optimizer, device = trainer.model, trainer.optimizer, trainer.device
    mean = torch.tensor(trainer.train_loader.source.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(trainer.train_loader.source.std, device=device).view(1, 3, 1, 1)
    model.train()
    for batch in trainer.train_loader.epoch(epoch):
        assert isinstance(batch, Batch)
        images = batch.images.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div(255)
        images = images.sub(mean).div(std)
        labels = batch.labels.to(device, non_blocking=True).long()
        optimizer.zero_grad()
        outputs = model(images)
        heads = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = F.cross_entropy(heads[0], labels, ignore_index=255)
        for auxiliary in heads[1:]:
            loss = loss + 0.4 * F.cross_entropy(auxiliary, labels, ignore_index=255)
        loss.backward()
        optimizer.step()
        steps += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return steps


if __name__ == "__main__":
    main()
