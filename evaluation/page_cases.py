"""Which pictures the page shows, and with what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from evaluation.page_figures import colours, percent
from evaluation.page_pictures import MAX_SIDE, Thumbnail, View, encode, fitting, outline, shrink
from evaluation.result import Evaluation, ImageScore, LabelIssue, PredictedImage
from utils.progress import track

NUM_IMAGES = 8  # worst, and as many best
NUM_ISSUES = 24
PER_PAIR = 3  # issues of one pair of classes, before others come
NUM_CHIPS = 8
CROP_SIDE = 520  # pixels of an embedded part of a picture
CONTEXT = 0.6  # of a region's sides, shown around it
MIN_CONTEXT = 40  # pixels
BUDGET = 13_000_000  # bytes of all pictures together, as text

Box = tuple[int, int, int, int]


class Chip(NamedTuple):
    """A class in a picture: its name, its colour, its share of the shown pixels."""

    name: str
    colour: str
    share: float


class Case(NamedTuple):
    """A picture on the page, with everything that belongs to it.

    Attributes:
        key: Its place on the page.
        place: That of the picture in the dataset.
        name: Of the sample.
        facts: Figures in words.
        size: (width, height) of the embedded pictures.
        full: (width, height) of what they show, in the stored picture's pixels.
        views: The pictures.
        chips: The classes in it, the largest first.
        more: Classes beyond those.
        outline: SVG path in the pixels of `full`.
        issue: What is wrong with the label there, for a label error.
    """

    key: str
    place: int
    name: str
    facts: str
    size: tuple[int, int]
    full: tuple[int, int]
    views: Sequence[View]
    chips: Sequence[Chip]
    more: int
    outline: str = ""
    issue: LabelIssue | None = None


class Cases(NamedTuple):
    """All pictures of the page.

    Attributes:
        worst: The worst first.
        best: The best first.
        issues: Likely label errors.
        more_issues: Class of the label and suggested class of those that are not shown, with their
            number, the most frequent first.
    """

    worst: Sequence[Case]
    best: Sequence[Case]
    issues: Sequence[Case]
    more_issues: Sequence[tuple[tuple[int, int], int]]

    def places(self) -> dict[int, str]:
        """Place in the dataset -> place on the page."""
        return {case.place: case.key for case in (*self.worst, *self.best)}


class _Plan(NamedTuple):
    key: str
    place: int
    name: str
    facts: str
    issue: LabelIssue | None = None


def choose(images: Sequence[ImageScore]) -> tuple[list[ImageScore], list[ImageScore]]:
    """The worst and the best pictures; no picture is both."""
    known = [image for image in images if image.mean_iou is not None]
    ranked = sorted(known, key=lambda image: (image.mean_iou, image.index))
    num_worst, num_best = min(NUM_IMAGES, -(-len(ranked) // 2)), min(NUM_IMAGES, len(ranked) // 2)
    return ranked[:num_worst], ranked[len(ranked) - num_best :][::-1]


def choose_issues(issues: Sequence[LabelIssue]) -> tuple[list[LabelIssue], list[LabelIssue]]:
    """The label errors to show, and the others.

    A mistake that a model makes everywhere would fill the page: of a pair of classes the first few
    come, then those of others, and what is left only then; each part in the order of `issues`.
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


def make_cases(evaluation: Evaluation, look: Callable[[int], PredictedImage]) -> Cases:
    """Look at every picture that the page shows, once."""
    worst, best = choose(evaluation.images)
    shown, hidden = choose_issues(evaluation.issues)
    plans = [
        *_image_plans("worst", worst),
        *_image_plans("best", best),
        *_issue_plans(shown, evaluation.classes),
    ]
    cases = _encode_all(plans, _make_thumbnails(plans, look), evaluation)
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


class _Taken(NamedTuple):
    shot: Thumbnail
    full: tuple[int, int]


def _make_thumbnails(
    plans: Sequence[_Plan], look: Callable[[int], PredictedImage]
) -> dict[str, _Taken]:
    by_index = defaultdict(list)
    for plan in plans:
        by_index[plan.place].append(plan)
    taken = {}
    # Each picture is predicted anew.
    for index in track(sorted(by_index), total=len(by_index), unit="image", label="report"):
        seen = look(index)
        for plan in by_index[index]:
            taken[plan.key] = _shoot(seen, plan.issue)
    return taken


def _shoot(seen: PredictedImage, issue: LabelIssue | None) -> _Taken:
    if issue is None:
        shot = Thumbnail(seen.picture, seen.label, seen.prediction)
        height, width = seen.label.shape
        return _Taken(shrink(shot, MAX_SIDE), (width, height))
    region = region_of(seen, issue)
    left, top, right, bottom = around(issue.box, seen.label.shape)
    part = np.s_[top:bottom, left:right]
    # Copies, so that the whole picture need not be kept for them.
    shot = Thumbnail(
        seen.picture[part].copy(), seen.label[part].copy(), seen.prediction[part].copy(),
        outline(region[part]),
    )  # fmt: skip
    return _Taken(shrink(shot, CROP_SIDE), (right - left, bottom - top))


def around(box: Box, shape: tuple[int, ...]) -> Box:
    """A box with its surroundings, inside the picture."""
    left, top, right, bottom = box
    x = max(MIN_CONTEXT, round(CONTEXT * (right - left)))
    y = max(MIN_CONTEXT, round(CONTEXT * (bottom - top)))
    return max(0, left - x), max(0, top - y), min(shape[1], right + x), min(shape[0], bottom + y)


def region_of(seen: PredictedImage, issue: LabelIssue) -> np.ndarray:
    """The region (H, W) bool that an issue speaks of.

    In its box that is the connected part of its pair of classes whose size comes nearest.
    """
    left, top, right, bottom = issue.box
    box = np.s_[top:bottom, left:right]
    pair = (seen.label[box] == issue.given) & (seen.prediction[box] == issue.suggested)
    _, parts, facts, _ = cv2.connectedComponentsWithStats(pair.astype(np.uint8))
    region = np.zeros(seen.label.shape, bool)
    if len(facts) < 2:  # the prediction is another one by now: the box itself
        region[box] = True
        return region
    nearest = int(np.abs(facts[1:, cv2.CC_STAT_AREA] - issue.pixels).argmin()) + 1
    region[box] = parts == nearest
    return region


def _encode_all(
    plans: Sequence[_Plan], taken: dict[str, _Taken], evaluation: Evaluation
) -> list[Case]:
    """The cases, at the largest size at which all of them stay within the budget."""
    for side in (MAX_SIDE, 640, 450, 320, 200):
        cases = [_case(plan, taken[plan.key], evaluation, side) for plan in plans]
        if sum(len(view.address) for case in cases for view in case.views) <= BUDGET:
            break
    return cases


def _case(plan: _Plan, taken: _Taken, evaluation: Evaluation, side: int) -> Case:
    shot, full = taken
    views = encode(shot, evaluation.palette, evaluation.ignore_index, side)
    if plan.issue:
        views = [view for view in views if view.kind != "error"]  # outlined in the others
    size = fitting(shot.label.shape[0], shot.label.shape[1], side)
    chips = _chips(shot, evaluation)
    return Case(plan.key, plan.place, plan.name, plan.facts, size, full, views, chips[:NUM_CHIPS],
                max(0, len(chips) - NUM_CHIPS), shot.outline, plan.issue)  # fmt: skip


def _chips(shot: Thumbnail, evaluation: Evaluation) -> list[Chip]:
    counts = np.bincount(
        np.concatenate([
            shot.label[shot.label != evaluation.ignore_index], shot.prediction.ravel()
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
