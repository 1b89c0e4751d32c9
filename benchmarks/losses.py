"""Compare losses: one small network, one budget, real images, confidence intervals.

Each loss trains the same network from the same initialization on the same batches; the last weights
are scored, not the best ones, so that nothing is selected on the validation images. Finished runs
are not repeated and interrupted ones are resumed: the command can be stopped and run again.

    python -m benchmarks.losses --data $SEGMENTATION_DATA --set camvid [--only DiceLoss ...]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import tabulate

ROOT = Path(__file__).resolve().parent.parent
SETS = ("camvid", "carparts", "carparts_noisy")


def term(name: str, weight: float = 1.0, **args: Any) -> dict[str, Any]:
    """Return one loss of a sum."""
    return {"type": name, "weight": weight, "args": args}


# Small with a large receptive field: about a million parameters, randomly initialized.
NETWORK = {
    "type": "SMP",
    "args": {
        "architecture": "FPN",
        "encoder_name": "tu-mobilenetv3_small_100",
        "encoder_weights": None,
        "options": {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32},
    },
}

# Name in the table -> `loss` of the config; other arguments have their defaults.
LOSSES: dict[str, list[dict[str, Any]]] = {
    "CrossEntropyLoss2d": [term("CrossEntropyLoss2d")],
    "... class_weights auto": [term("CrossEntropyLoss2d", class_weights="auto")],
    "... label_smoothing 0.1": [term("CrossEntropyLoss2d", label_smoothing=0.1)],
    "OhemCrossEntropyLoss2d": [term("OhemCrossEntropyLoss2d")],
    "FocalLoss": [term("FocalLoss")],
    "BCEWithLogitsLoss2d": [term("BCEWithLogitsLoss2d")],
    "DiceLoss": [term("DiceLoss")],
    "CE_DiceLoss": [term("CE_DiceLoss")],
    "BCE_DiceLoss": [term("BCE_DiceLoss")],
    "JaccardLoss": [term("JaccardLoss")],
    "TverskyLoss": [term("TverskyLoss")],
    "LovaszSoftmax": [term("LovaszSoftmax")],
    "cross-entropy + LovaszSoftmax": [term("CrossEntropyLoss2d"), term("LovaszSoftmax")],
    "RMILoss": [term("RMILoss")],
    "cross-entropy + BoundaryLoss": [term("CrossEntropyLoss2d"), term("BoundaryLoss")],
    "RegionAwareLoss": [term("RegionAwareLoss")],
    "SymmetricCrossEntropyLoss": [term("SymmetricCrossEntropyLoss")],
    "GeneralizedCrossEntropyLoss": [term("GeneralizedCrossEntropyLoss")],
    "NCE_RCE": [term("NCE_RCE")],
    "AUELoss": [term("AUELoss")],
    # Their papers' arguments for many classes: closer to cross-entropy, so they learn faster.
    "SymmetricCrossEntropyLoss 6, 0.1": [term("SymmetricCrossEntropyLoss", alpha=6.0, beta=0.1)],
    "GeneralizedCrossEntropyLoss 0.3": [term("GeneralizedCrossEntropyLoss", q=0.3)],
    "NCE_RCE 10, 0.1": [term("NCE_RCE", alpha=10.0, beta=0.1)],
}


def main() -> None:
    """Train what is missing, score it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the folder with camvid and carparts in it")
    parser.add_argument("--set", required=True, choices=SETS)
    parser.add_argument("--only", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-dir", default="saved/losses")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only:
        reports = [result(arguments, name, seed) for seed in arguments.seeds]
        rows.append(row(name, reports))
        print(tabulate.tabulate(rows[-1:], tablefmt="plain", floatfmt=".3f"), flush=True)
    rows.sort(key=lambda cells: cells[1], reverse=True)
    headers = ["loss", "Mean_IoU", "95 %", "by seed", "Mean_Dice", "Pixel_Accuracy", "ECE"]
    print(tabulate.tabulate(rows, headers=headers, tablefmt="github", floatfmt=".3f"))


def result(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Return the JSON of `evaluate.py` for one run."""
    label = "".join(c if c.isalnum() else "_" for c in name).strip("_")
    folder = Path(arguments.save_dir, arguments.set, f"{label}_{arguments.epochs}_{seed}")
    report = folder / "evaluation.json"
    if not report.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.json"
        config.write_text(json.dumps(tree(arguments, name, seed, folder), indent=4))
        run("train.py", "--config", config, "--resume", "auto", "--device", arguments.device)
        (checkpoint,) = folder.glob("run/*/last.pth")
        run("evaluate.py", "--model", checkpoint, "--json", report, "--device", arguments.device)
    return json.loads(report.read_text())


def run(program: str, *words: object) -> None:
    """Run a program; show its output only if it fails."""
    command = [sys.executable, str(ROOT / program), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def tree(arguments: argparse.Namespace, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the config of one run."""
    data_dir = str(Path(arguments.data, arguments.set.partition("_")[0]).resolve())
    held_out, dataset = ("val", "CamVid") if arguments.set == "camvid" else ("valid", "CarParts")
    more: dict[str, Any] = {}
    if arguments.set == "carparts_noisy":
        more["labels"] = "annotation_noisy"
    if dataset == "CarParts" and name == "RegionAwareLoss":
        more["foreground"] = "weight"
    augmentation = {"augment": True, "base_size": 400, "crop_size": 256, "flip": True}
    common = {"data_dir": data_dir, "num_workers": 1}
    return {
        "name": "run",
        "seed": seed,
        "arch": NETWORK,
        "train_loader": {
            "type": dataset,
            "args": {
                "split": "train", "batch_size": 8, "shuffle": True, "drop_last": True, **common,
                **augmentation, **more,
            },
        },
        "val_loader": {
            "type": dataset,
            "args": {"split": held_out, "batch_size": 1, "val": True, **common},
        },
        "optimizer": {"type": "AdamW", "args": {"lr": 0.003, "weight_decay": 0.01}},
        "lr_scheduler": {"type": "OneCycle"},
        "loss": LOSSES[name],
        "trainer": {
            "epochs": arguments.epochs, "val": False, "monitor": "off",
            "save_dir": str(folder), "log_dir": str(folder / "tensorboard"), "tensorboard": False,
        },
    }  # fmt: skip


def row(name: str, reports: list[dict[str, Any]]) -> list[Any]:
    """Return the loss, means over the seeds, the interval of the first one, and single scores."""

    def mean(metric: str) -> float:
        return statistics.mean(report["figures"][metric] for report in reports)

    low, high = reports[0]["intervals"]["Mean_IoU"]
    single = ", ".join(f"{report['figures']['Mean_IoU']:.3f}" for report in reports)
    others = [mean(metric) for metric in ("Mean_Dice", "Pixel_Accuracy", "ECE")]
    return [name, mean("Mean_IoU"), f"{low:.3f} to {high:.3f}", single, *others]


if __name__ == "__main__":
    main()
