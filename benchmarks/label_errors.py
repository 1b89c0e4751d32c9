"""How well likely label errors are found, where the truth is known: CarParts' noisy labels.

The model looks at the training pictures with the labels of `annotation_noisy`. A region is right if
most of its pixels have another label in `annotation`. For each rule of ranking: the area under the
ROC curve over all regions, and the share of wrong pixels in the regions that it puts first. Regions
that are no issues for `LabelErrors` stand at its end.

    python -m benchmarks.label_errors --model best_model.pth --data carparts [--scale S] [--part P]
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from dataloaders import CarParts
from evaluation.label_errors import LabelErrors, Regions, find_regions
from restore import restore
from utils.predictor import Predictor

IGNORED = 255
FIRST = (20, 50, 100)
PARTS = {"even": (0, 2), "odd": (1, 2), "all": (0, 1)}  # first picture, step


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True, help="checkpoint of a model of car parts")
    parser.add_argument("--data", required=True, help="folder with train/annotation_noisy")
    parser.add_argument("--scale", type=float, default=1.0, help="of the pictures that it sees")
    parser.add_argument("--part", choices=PARTS, default="all", help="of the pictures to rank")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    model, meta = restore(arguments.model, "cpu")
    predictor = Predictor(
        model, meta.mean, meta.std, "cpu", mode="multiscale", scales=[arguments.scale]
    )
    noisy = CarParts(arguments.data, "train", labels="annotation_noisy")
    clean = CarParts(arguments.data, "train")
    print_table(*measure(predictor, noisy, clean, PARTS[arguments.part]))


def measure(
    predictor: Predictor, noisy: CarParts, clean: CarParts, part: tuple[int, int]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Rank every region of the part by each rule.

    Returns:
        Each rule's scores (N,), the share of wrong pixels of each region (N,), and its pixels (N,).
    """
    errors = LabelErrors(len(noisy.classes), IGNORED)
    tables = []
    first, step = part
    for index in tqdm(range(len(noisy)), disable=None, leave=False):
        probabilities = predictor.predict_logits(noisy.load_image(index).pixels).softmax(0)
        labels = noisy.load_mask(index)
        errors.update(index, "", probabilities, torch.from_numpy(labels))
        if index % step == first:
            regions = find_regions(errors.planes(probabilities, torch.from_numpy(labels)))
            tables.append(describe(regions, labels != clean.load_mask(index)))
    scores, suggested, p_given, p_suggested, pixels, wrong = np.concatenate(tables, axis=1)
    sure = p_suggested >= errors.thresholds[suggested.astype(int)]
    rules = {
        "score": np.where(sure, scores, -1),
        "score, also below the threshold": scores,
        "1 - mean p of the label": 1 - p_given,
        "mean p of the suggestion": p_suggested,
        "pixels": pixels,
    }
    return rules, wrong / pixels, pixels


def describe(regions: Regions, differs: np.ndarray) -> np.ndarray:
    """What is compared of N regions, (6, N): the last row counts the pixels with wrong labels."""
    wrong = np.bincount(regions.numbers.ravel(), differs.ravel(), len(regions.pixels) + 1)[1:]
    return np.stack(
        [
            regions.scores,
            regions.suggested,
            regions.p_given,
            regions.p_suggested,
            regions.pixels,
            wrong,
        ]
    )


def print_table(rules: dict[str, np.ndarray], wrong: np.ndarray, pixels: np.ndarray) -> None:
    """A row for each rule, below what no ranking at all would give."""
    chance = wrong.mean()
    rows: list[list[object]] = [["no ranking", 0.5, *[chance] * len(FIRST)]]
    for name, scores in rules.items():
        best = np.argsort(-scores, kind="stable")
        shares = [wrong[best[:count]].mean() for count in FIRST]
        rows.append([name, roc_auc(scores, wrong > 0.5), *shares])
    print(f"{len(wrong)} regions; {(wrong > 0.5).mean():.3f} of them have wrong labels, and")
    print(f"{np.average(wrong, weights=pixels):.3f} of their pixels")
    head = ["ranked by", "ROC AUC", *(f"wrong in first {count}" for count in FIRST)]
    print(tabulate(rows, head, floatfmt=".3f"))


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """How often a true one scores above another; half of the ties."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positive, negative = truth.sum(), (~truth).sum()
    return (ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative)


if __name__ == "__main__":
    main()
