"""How well likely label errors are found, where the true labels are known.

- carparts: the training images with the labels of `annotation_noisy`, in which whole parts have the
  name of another part. The true labels are in `annotation`.
- camvid: the validation images, in each of which one object got another class, one the class
  around it (removed) and one was duplicated elsewhere (added).

For each ranking, the table shows the mean fraction of wrongly labelled pixels in the regions that
are ranked first. All rankings are of the regions that `LabelErrors` reports, except the last one,
which includes those below the threshold of their class.

    python -m benchmarks.label_errors --model last.pth --data $SEGMENTATION_DATA --set carparts
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from dataloaders.camvid import CamVid
from dataloaders.carparts import CarParts
from evaluation.label_errors import LabelErrors, Regions, find_regions
from prediction.load_model import restore
from prediction.predictor.network import Predictor

FIRST = (20, 50, 100, 200)
SUBSETS = {"even": (0, 2), "odd": (1, 2), "all": (0, 1)}  # first image, step
IGNORED = {"carparts": 255, "camvid": 11}
DRAWN = 3  # errors in an image of CamVid
PIXELS = (150, 8000)  # size of the objects that become errors


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True, help="checkpoint of a model of these classes")
    parser.add_argument("--data", required=True, help="the folder with camvid and carparts in it")
    parser.add_argument("--set", required=True, choices=IGNORED)
    parser.add_argument("--part", choices=SUBSETS, default="all", help="images to rank")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    model, meta = restore(arguments.model, "cpu")
    predictor = Predictor(model, meta.mean, meta.std, "cpu")
    folder = Path(arguments.data, arguments.set)
    images = car_parts(folder) if arguments.set == "carparts" else cam_vid(folder)
    errors = LabelErrors(len(meta.classes), IGNORED[arguments.set])
    first, step = SUBSETS[arguments.part]
    found: list[tuple[Regions, np.ndarray]] = []
    for index, (image, labels, truth) in enumerate(tqdm(images, disable=None, leave=False)):
        probabilities = predictor.predict_logits(image).softmax(0)
        errors.update(index, "", probabilities, torch.from_numpy(labels))
        if index % step == first:
            regions = find_regions(errors.planes(probabilities, torch.from_numpy(labels)))
            found.append((regions, wrong_fraction(regions, labels != truth)))
    print_table(errors, found)


def car_parts(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield images, noisy labels and true labels."""
    noisy = CarParts(str(folder), "train", labels="annotation_noisy")
    clean = CarParts(str(folder), "train")
    for index in range(len(noisy)):
        yield noisy.load_image(index).pixels, noisy.load_mask(index), clean.load_mask(index)


def cam_vid(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield images, labels with added errors, and true labels."""
    dataset = CamVid(str(folder), "val")
    rng = np.random.default_rng(0)
    for index in range(len(dataset)):
        truth = dataset.load_mask(index)
        labels = draw_errors(truth, rng, len(dataset.classes))
        yield dataset.load_image(index).pixels, labels, truth


def draw_errors(truth: np.ndarray, rng: np.random.Generator, classes: int) -> np.ndarray:
    """Return a copy of the labels with up to three errors, each made of one object."""
    labels, ignored = truth.copy(), IGNORED["camvid"]
    objects = []
    for class_id in np.setdiff1d(np.unique(truth), ignored):
        _, segments, stats, _ = cv2.connectedComponentsWithStats((truth == class_id).view(np.uint8))
        sizes = stats[:, cv2.CC_STAT_AREA]
        objects += [
            (class_id, segments == number)
            for number in range(1, len(sizes))
            if PIXELS[0] < sizes[number] < PIXELS[1]
        ]
    rng.shuffle(objects)
    for kind, (class_id, area) in enumerate(objects[:DRAWN]):
        if kind == 0:
            labels[area] = rng.choice(np.setdiff1d(np.arange(classes), class_id))
        elif kind == 1:
            rim = cv2.dilate(area.view(np.uint8), np.ones((5, 5), np.uint8)) > area
            around = np.bincount(truth[rim], minlength=ignored + 1)[:ignored]
            labels[area] = around.argmax() if around.any() else class_id
        else:
            area = np.roll(area, rng.integers(-120, 120, 2), (0, 1))
            labels[area & (truth != ignored) & (labels == truth)] = class_id
    return labels


def wrong_fraction(regions: Regions, differs: np.ndarray) -> np.ndarray:
    """Return the fraction of wrongly labelled pixels of each region, (N,)."""
    wrong = np.bincount(regions.numbers.ravel(), differs.ravel(), len(regions.pixels) + 1)[1:]
    return wrong / regions.pixels


def print_table(errors: LabelErrors, found: list[tuple[Regions, np.ndarray]]) -> None:
    """Print a row for no ranking and for each ranking."""

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(regions, name) for regions, _ in found])

    wrong = np.concatenate([fractions for _, fractions in found])
    score = all_of("scores") * errors.knowledge[all_of("given")]
    sure = all_of("p_suggested") >= errors.thresholds[all_of("suggested")]
    rules = {
        "score": score,
        "doubt": 1 - all_of("p_given"),
        "depth": all_of("depth"),
        "fit": all_of("fit"),
        "pixels": all_of("pixels"),
    }
    rows: list[list[object]] = [["no ranking", *[wrong[sure].mean()] * len(FIRST)]]
    rows += [[name, *first_wrong(scores[sure], wrong[sure])] for name, scores in rules.items()]
    rows.append(["score, without a threshold", *first_wrong(score, wrong)])
    print(f"{len(wrong)} regions, of which {int(sure.sum())} reach the threshold of their class")
    head = ["ranked by", *(f"wrong in first {count}" for count in FIRST)]
    print(tabulate(rows, head, floatfmt=".2f", tablefmt="github"))


def first_wrong(scores: np.ndarray, wrong: np.ndarray) -> list[float]:
    """Return the mean fraction of wrong pixels in the first regions."""
    best = wrong[np.argsort(-scores, kind="stable")]
    return [best[:count].mean() for count in FIRST]


if __name__ == "__main__":
    main()
