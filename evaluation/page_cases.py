"""The images that the page shows, and what it says of each."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from evaluation.page_images import MAX_SIDE, Thumbnail, View, encode, outline, shrink
from evaluation.page_metrics import colours
from evaluation.result import Evaluation, ImageScore, LabelIssue, PredictedImage
from utils.pages.images import fitting
from utils.pages.text import percent
from utils.progress import track

NUM_IMAGES = 8  # worst, and as many best
NUM_ISSUES = 24
PER_PAIR = 3  # issues of one pair of classes, before others come
NUM_CHIPS = 8
CROP_SIDE = 520  # pixels of an embedded crop
CONTEXT = 0.6  # fraction of a region's sides that is shown around it
MIN_CONTEXT = 40  # pixels
BUDGET = 13_000_000  # bytes of all images together, as text

Box = tuple[int, int, int, int]


class Chip(NamedTuple):
    """A class in an image: its name, its colour, its fraction of the shown pixels."""

    name: str
    colour: str
    fraction: float


class Case(NamedTuple):
    """An image on the page, with everything that belongs to it."""

    key: str  # the id of its element
    image_index: int  # the index of the image in the dataset
    name: str  # the name of the sample
    facts: str  # its metrics as text
    size: tuple[int, int]  # (width, height) of the embedded images
    full: tuple[int, int]  # (width, height) of what they show, in the stored image's pixels
    views: Sequence[View]  # the images
    chips: Sequence[Chip]  # the classes in it, the largest first
    more: int  # how many further classes are in it
    outline: str = ""  # an SVG path in the pixels of `full`
    issue: LabelIssue | None = None  # the likely label error, if it shows one


class Cases(NamedTuple):
    """All images of the page."""

    worst: Sequence[Case]  # the worst first
    best: Sequence[Case]  # the best first
    issues: Sequence[Case]  # likely label errors
    # Class of the label and suggested class of the errors that are not shown, with their number,
    # the most frequent first.
    more_issues: Sequence[tuple[tuple[int, int], int]]

    def keys_by_index(self) -> dict[int, str]:
        """Map the index of each worst and best image to the id of its element."""
        return {case.image_index: case.key for case in (*self.worst, *self.best)}


class _Plan(NamedTuple):
    key: str
    image_index: int
    name: str
    facts: str
    issue: LabelIssue | None = None


def choose(images: Sequence[ImageScore]) -> tuple[list[ImageScore], list[ImageScore]]:
    """Return the worst and the best images; no image is both."""
    known = [image for image in images if image.mean_iou is not None]
    ranked = sorted(known, key=lambda image: (image.mean_iou, image.index))
    num_worst, num_best = min(NUM_IMAGES, -(-len(ranked) // 2)), min(NUM_IMAGES, len(ranked) // 2)
    return ranked[:num_worst], ranked[len(ranked) - num_best :][::-1]


def choose_issues(issues: Sequence[LabelIssue]) -> tuple[list[LabelIssue], list[LabelIssue]]:
    """Return the label errors to show, and the others.

    A mistake that a model makes everywhere would fill the page: so the first few of each pair of
    classes come first, and the rest after them, both in the order of `issues`.
    """
    seen: Counter[tuple[int, int]] = Counter()
    first: list[LabelIssue] = []
    later: list[LabelIssue] = []
    for issue in issues:
        pair = issue.given, issue.suggested
        seen[pair] += 1
        (first if seen[pair] <= PER_PAIR else later).append(issue)
    ordered = first + later
    return ordered[:NUM_ISSUES], ordered[NUM_ISSUES:]


def make_cases(evaluation: Evaluation, predict: Callable[[int], PredictedImage]) -> Cases:
    """Predict every image that the page shows, once, and encode it."""
    worst, best = choose(evaluation.images)
    shown, hidden = choose_issues(evaluation.issues)
    plans = [
        *_image_plans("worst", worst),
        *_image_plans("best", best),
        *_issue_plans(shown, evaluation.classes),
    ]
    cases = _encode_all(plans, _make_thumbnails(plans, predict), evaluation)
    first, last = len(worst), len(worst) + len(best)
    more = Counter((issue.given, issue.suggested) for issue in hidden).most_common()
    return Cases(cases[:first], cases[first:last], cases[last:], more)


def _image_plans(kind: str, images: Sequence[ImageScore]) -> Iterator[_Plan]:
    for n, image in enumerate(images, 1):
        facts = f"mIoU {percent(image.mean_iou)}, accuracy {percent(image.pixel_accuracy)}"
        yield _Plan(f"{kind}-{n}", image.index, image.name, facts)


def _issue_plans(issues: Sequence[LabelIssue], classes: Sequence[str]) -> Iterator[_Plan]:
    for n, issue in enumerate(issues, 1):
        facts = f"label {classes[issue.given]}, suggested {classes[issue.suggested]}"
        yield _Plan(f"issue-{n}", issue.index, issue.name, facts, issue)


class _Prepared(NamedTuple):
    thumbnail: Thumbnail
    full: tuple[int, int]


def _make_thumbnails(
    plans: Sequence[_Plan], predict: Callable[[int], PredictedImage]
) -> dict[str, _Prepared]:
    by_index = defaultdict(list)
    for plan in plans:
        by_index[plan.image_index].append(plan)
    prepared = {}
    for index in track(sorted(by_index), total=len(by_index), unit="image", label="report"):
        seen = predict(index)
        for plan in by_index[index]:
            prepared[plan.key] = _make_thumbnail(seen, plan.issue)
    return prepared


def _make_thumbnail(seen: PredictedImage, issue: LabelIssue | None) -> _Prepared:
    if issue is None:
        thumbnail = Thumbnail(seen.image, seen.label, seen.prediction)
        height, width = seen.label.shape
        return _Prepared(shrink(thumbnail, MAX_SIDE), (width, height))
    region = region_of(seen, issue)
    left, top, right, bottom = around(issue.box, seen.label.shape)
    crop = np.s_[top:bottom, left:right]
    # Copies, so that the whole image need not be kept for them.
    thumbnail = Thumbnail(
        seen.image[crop].copy(), seen.label[crop].copy(), seen.prediction[crop].copy(),
        outline(region[crop]),
    )  # fmt: skip
    return _Prepared(shrink(thumbnail, CROP_SIDE), (right - left, bottom - top))


def around(box: Box, shape: tuple[int, ...]) -> Box:
    """Return a box with its surroundings, inside the image."""
    left, top, right, bottom = box
    x = max(MIN_CONTEXT, round(CONTEXT * (right - left)))
    y = max(MIN_CONTEXT, round(CONTEXT * (bottom - top)))
    return max(0, left - x), max(0, top - y), min(shape[1], right + x), min(shape[0], bottom + y)


def region_of(seen: PredictedImage, issue: LabelIssue) -> np.ndarray:
    """Return the region (H, W) bool of an issue.

    It is the connected region of its pair of classes, inside its box, whose size comes nearest.
    """
    left, top, right, bottom = issue.box
    box = np.s_[top:bottom, left:right]
    pair = (seen.label[box] == issue.given) & (seen.prediction[box] == issue.suggested)
    _, regions, facts, _ = cv2.connectedComponentsWithStats(pair.astype(np.uint8))
    region = np.zeros(seen.label.shape, bool)
    if len(facts) < 2:  # the prediction has changed: the box itself
        region[box] = True
        return region
    nearest = int(np.abs(facts[1:, cv2.CC_STAT_AREA] - issue.pixels).argmin()) + 1
    region[box] = regions == nearest
    return region


def _encode_all(
    plans: Sequence[_Plan], prepared: dict[str, _Prepared], evaluation: Evaluation
) -> list[Case]:
    """Return the cases, at the largest size at which all of them stay within the budget."""
    for side in (MAX_SIDE, 640, 450, 320, 200):
        cases = [_case(plan, prepared[plan.key], evaluation, side) for plan in plans]
        if sum(len(view.url) for case in cases for view in case.views) <= BUDGET:
            break
    return cases


def _case(plan: _Plan, prepared: _Prepared, evaluation: Evaluation, side: int) -> Case:
    thumbnail, full = prepared
    views = encode(thumbnail, evaluation.palette, evaluation.ignore_index, side)
    if plan.issue:
        views = [view for view in views if view.kind != "error"]  # outlined in the others
    size = fitting(thumbnail.label.shape[0], thumbnail.label.shape[1], side)
    chips = _chips(thumbnail, evaluation)
    more = max(0, len(chips) - NUM_CHIPS)
    return Case(
        *plan[:-1], size, full, views, chips[:NUM_CHIPS], more, thumbnail.outline, plan.issue
    )


def _chips(thumbnail: Thumbnail, evaluation: Evaluation) -> list[Chip]:
    counts = np.bincount(
        np.concatenate([
            thumbnail.label[thumbnail.label != evaluation.ignore_index],
            thumbnail.prediction.ravel(),
        ]),
        minlength=len(evaluation.classes),
    )  # fmt: skip
    total = max(int(counts.sum()), 1)
    painted = colours(evaluation)
    order = np.argsort(-counts, kind="stable")
    return [
        Chip(evaluation.classes[c], painted[c], int(counts[c]) / total)
        for c in order.tolist()
        if counts[c]
    ]
