"""A made-up evaluation, for the tests of the report; no model is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from dataloaders.shapes import Shapes
from evaluation.result import Evaluation, ImageScore, LabelIssue, PredictedImage, Skipped
from utils.drawing.palette import voc_palette
from utils.metrics.calibration import CalibrationBin

IGNORE = 255
HOSTILE = (
    "<script>window.hacked = 1</script>", "\"><img src=x onerror='window.hacked = 2'>",
    "</script><script>window.hacked = 3</script>", "{{ 7 * 7 }} & <!-- '",
    "\U0001f697 \u0633\u064a\u0627\u0631\u0629 \u202eabc", "long " + "x" * 195,
    "line\nbreak\ttab \x00\x1b \udcff",
)  # fmt: skip


class Case:
    """Scenes of `Shapes` with predictions that are wrong here and there.

    Args:
        num_classes: K.
        num_images: Images.
        size: Side of the scenes, in pixels; every other image is two scenes wide.
        names: Of classes and images, from the first on; the others get plain ones.
        unused: So many of the classes occur nowhere.
    """

    def __init__(
        self,
        num_classes: int = 6,
        num_images: int = 12,
        size: int = 96,
        *,
        names: Sequence[str] = (),
        unused: int = 0,
    ) -> None:
        self.dataset = Shapes("val", image_size=size)
        self.used = num_classes - unused
        plain = [f"class {number}" for number in range(num_classes)]
        if num_classes == len(Shapes.classes):
            plain = list(Shapes.classes)
        self.classes = (*names, *plain[len(names) :])[:num_classes]
        palette = Shapes.palette if num_classes == 6 else voc_palette(num_classes)
        self.palette = tuple(map(tuple, palette))
        files = [f"val_{index:03d}.png" for index in range(num_images)]
        self.files = [*names, *files[len(names) :]][:num_images]
        self.predicted = [self.make(index) for index in range(num_images)]

    def make(self, index: int) -> PredictedImage:
        """A scene with labels spread over all classes, and a prediction of it."""
        rng = np.random.default_rng(index)
        wide = [self.dataset.load(2 * index + half) for half in range(1 + index % 2)]
        image = np.hstack([pair.image for pair in wide])
        mask = np.hstack([pair.mask for pair in wide]).astype(np.int64)
        shift = 5 * index if self.used > 6 else 0
        label = np.where(mask == IGNORE, IGNORE_FAR, (mask + shift) % self.used)
        prediction = np.roll(label, index % 4, 1)
        prediction[prediction == IGNORE_FAR] = shift % self.used
        for _ in range(index % 5):
            x, y = rng.integers(0, image.shape[1]), rng.integers(0, image.shape[0])
            blob = cv2.circle(np.zeros(label.shape, np.uint8), (int(x), int(y)), 12, 1, -1) > 0
            prediction[blob] = rng.integers(0, self.used)
        return PredictedImage(image, label, prediction, *image.shape[:2])

    def predict(self, index: int) -> PredictedImage:
        """What the report shows."""
        return self.predicted[index]

    def evaluation(self) -> Evaluation:
        """Return the metrics, by plain counting."""
        confusions = [self.count(seen) for seen in self.predicted]
        confusion = np.sum(confusions, 0)
        metrics = metrics_by_counting(confusion)
        images = []
        for index, (counts, seen) in enumerate(zip(confusions, self.predicted, strict=True)):
            scores = metrics_by_counting(counts)
            images.append(
                ImageScore(self.files[index], f"images/{self.files[index]}",
                           f"masks/{self.files[index]}", index, seen.height, seen.width,
                           scores["Mean_IoU"], scores["Pixel_Accuracy"], int(counts.sum()))
            )  # fmt: skip
        metrics |= {
            "Mean_Image_IoU": float(np.mean([image.mean_iou for image in images])),
            "Boundary_IoU": 0.5123, "Boundary_F": 0.6234, "ECE": 0.0412, "MCE": 0.1534,
        }  # fmt: skip
        return Evaluation(
            checkpoint="saved/Shapes/best_model.pth", arch="UNet", dataset="Shapes", split="val",
            mode="whole", threshold=0.5 if len(self.classes) == 2 else None,
            classes=self.classes, palette=self.palette, ignore_index=IGNORE_FAR, metrics=metrics,
            intervals=intervals_of(metrics), confusion=confusion, calibration=CALIBRATION,
            images=images, issues=self.issues(), skipped=[Skipped("broken.png", "truncated")],
            seconds=12.3, date="2026-11-21T21:00:00",
            versions={"python": "3.13.0", "torch": "2.14.1"},
            command="python evaluate.py --model best_model.pth --report report",
        )  # fmt: skip

    def count(self, seen: PredictedImage) -> np.ndarray:
        """Counts (K, K), pixel by pixel."""
        counts = np.zeros((len(self.classes),) * 2, np.int64)
        valid = seen.label != IGNORE_FAR
        np.add.at(counts, (seen.label[valid], seen.prediction[valid]), 1)
        return counts

    def issues(self) -> list[LabelIssue]:
        """The largest wrong region of every third image."""
        found = []
        for index, seen in list(enumerate(self.predicted))[2::3]:
            wrong = (seen.label != seen.prediction) & (seen.label != IGNORE_FAR)
            if not wrong.any():
                continue
            pairs, counts = np.unique(
                seen.label[wrong] * 1000 + seen.prediction[wrong], return_counts=True
            )
            given, suggested = divmod(int(pairs[counts.argmax()]), 1000)
            region = (seen.label == given) & (seen.prediction == suggested)
            _, _, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
            left, top, width, height, pixels = facts[1:][facts[1:, 4].argmax()].tolist()
            box = (left, top, left + width, top + height)
            score = 0.9 - index / 100
            found.append(LabelIssue(index, self.files[index], given, suggested, score, pixels, box))
        return found


IGNORE_FAR = 1000  # beyond every class, also of datasets with more than 255

CALIBRATION = [
    CalibrationBin(n / 15, (n + 1) / 15, count, (n + 0.5) / 15 if count else None,
                   max(0.0, (n + 0.5) / 15 - 0.09) if count else None)
    for n, count in enumerate([0, 0, 3, 10, 40, 80, 150, 400, 700, 900, 1200, 1500, 2500, 6000,
                               60000])
]  # fmt: skip


def metrics_by_counting(confusion: np.ndarray) -> dict:
    """Return the metrics of counts, each by its definition."""
    hits, labels, predictions = confusion.diagonal(), confusion.sum(1), confusion.sum(0)

    def ratio(above, below):
        return [a / b if b else None for a, b in zip(above.tolist(), below.tolist(), strict=True)]

    def mean(values):
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    lists = {
        "Class_IoU": ratio(hits, labels + predictions - hits),
        "Class_Dice": ratio(2 * hits, labels + predictions),
        "Class_Precision": ratio(hits, predictions),
        "Class_Recall": ratio(hits, labels),
    }
    total = int(confusion.sum())
    chance = float((labels / max(total, 1)) @ (predictions / max(total, 1)))
    accuracy = hits.sum() / total if total else None
    weighted = sum(
        (iou or 0.0) * count for iou, count in zip(lists["Class_IoU"], labels, strict=True)
    )
    return lists | {
        "Mean_IoU": mean(lists["Class_IoU"]), "Mean_Dice": mean(lists["Class_Dice"]),
        "Precision": mean(lists["Class_Precision"]), "Recall": mean(lists["Class_Recall"]),
        "Mean_Accuracy": mean(lists["Class_Recall"]), "Pixel_Accuracy": accuracy,
        "FWIoU": weighted / max(total, 1),
        "Kappa": (accuracy - chance) / (1 - chance) if total and chance < 1 else None,
    }  # fmt: skip


def intervals_of(metrics: dict) -> dict:
    """Intervals of two to six per cent on each side."""
    ious = metrics["Class_IoU"]
    width = [0.02 + 0.01 * (n % 5) for n in range(len(ious))]
    return {
        "Mean_IoU": (metrics["Mean_IoU"] - 0.021, metrics["Mean_IoU"] + 0.019),
        "Pixel_Accuracy": (metrics["Pixel_Accuracy"] - 0.01, metrics["Pixel_Accuracy"] + 0.01),
        "Class_IoU": [None if iou is None else (max(0.0, iou - w), min(1.0, iou + w))
                      for iou, w in zip(ious, width, strict=True)],
    }  # fmt: skip


def make(**options: object) -> tuple[Evaluation, Callable[[int], PredictedImage]]:
    """The evaluation of a `Case` and its `predict`."""
    case = Case(**options)  # type: ignore[arg-type]
    return case.evaluation(), case.predict
