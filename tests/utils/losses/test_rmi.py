"""Region mutual information: values against the authors' code and a naive reference."""

import math

import numpy as np
import pytest
import torch

from tests.loss_cases import case
from utils.losses.rmi import RIDGE, RMILoss


def cells_of(plane, counts, size):
    """Means over cells of (H, W), NaN where nothing counts."""
    rows, columns = (math.ceil(side / size) for side in plane.shape)
    cells = np.full((rows, columns), np.nan)
    for i in range(rows):
        for j in range(columns):
            part = slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size)
            if counts[part].any():
                cells[i, j] = plane[part][counts[part]].mean()
    return cells


def windows_of(cells, radius):
    """Vectors (N, d) of all windows in which every cell counts."""
    rows, columns = (side - radius + 1 for side in cells.shape)
    windows = [cells[i : i + radius, j : j + radius].ravel() for i in range(rows)
               for j in range(columns)]  # fmt: skip
    return np.array([w for w in windows if not np.isnan(w).any()]).reshape(-1, radius**2)


def naive_region(probability, truth, counts, radius, size):
    """By the paper's formulas, with an inverse and a determinant; None without a window."""
    predicted = windows_of(cells_of(probability, counts, size), radius)
    labelled = windows_of(cells_of(truth, counts, size), radius)
    if not len(predicted):
        return None
    d = radius**2
    predicted, labelled = (x - x.mean(0) for x in (predicted, labelled))
    inverse = np.linalg.inv(predicted.T @ predicted + RIDGE * np.eye(d))
    left = labelled.T @ labelled - labelled.T @ predicted @ inverse @ predicted.T @ labelled
    sign, log_determinant = np.linalg.slogdet(left + RIDGE * np.eye(d))
    assert sign == 1
    return 0.5 * (log_determinant - d * math.log(RIDGE)) / d


def naive(logits, labels, radius, size, bce_weight, weights=None):
    probabilities = 1 / (1 + np.exp(-logits))
    classes = logits.shape[1]
    weights = np.ones(classes) if weights is None else np.array(weights)
    total = divisor = 0.0
    for b, y, x in np.argwhere(labels != 255):
        p, truth = probabilities[b, :, y, x], np.arange(classes) == labels[b, y, x]
        w = weights[labels[b, y, x]]
        total += w * -np.log(np.where(truth, p, 1 - p)).sum()
        divisor += w
    region = 0.0
    for k in range(classes):
        values = [naive_region(p[k], (y == k) * 1.0, y != 255, radius, size)
                  for p, y in zip(probabilities, labels, strict=True)]  # fmt: skip
        values = [value for value in values if value is not None]
        region += weights[k] / weights.mean() * np.mean(values) if values else 0.0
    return bce_weight * total / divisor + (1 - bce_weight) * region


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.25, 1.0]])
@pytest.mark.parametrize("bce_weight", [0.0, 0.3])
@pytest.mark.parametrize(("radius", "size"), [(1, 1), (2, 1), (2, 2), (2, 3), (3, 2)])
def test_feature_equals_a_naive_reference(radius, size, bce_weight, weights):
    logits, labels = case()
    loss = RMILoss(weights, radius=radius, downsampling=size, bce_weight=bce_weight)
    expected = naive(logits.numpy(), labels.numpy(), radius, size, bce_weight, weights)
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("radius", "size", "expected"),
    [(3, 1, 10.619619651967696), (2, 1, 10.70979100654487), (3, 4, 3.1079257842684247),
     (3, 2, 8.206235272969536)],
)  # fmt: skip
def test_feature_equals_the_authors_code(radius, size, expected):
    """Source: rmi.py of https://github.com/ZJULearning/RMI, run once on these numbers.

    With average pooling without its padding, the BCE divided by the number of pixels (there one
    more), and 1/2 log(5e-4) taken off for each class.
    """
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 24, 20, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 3, (2, 24, 20), generator=generator)
    loss = RMILoss(radius=radius, downsampling=size)
    assert loss(logits, labels).item() == pytest.approx(expected, rel=2e-7)
    assert loss(logits.float(), labels).item() == pytest.approx(expected, rel=1e-6)


def test_feature_a_picture_without_a_window_takes_no_part():
    logits, labels = case()
    labels[1, :, ::2] = 255  # with cells of one pixel no window of 2x2 is left
    loss = RMILoss(radius=2, downsampling=1, bce_weight=0)
    alone = loss(logits[:1], labels[:1]).item()
    assert loss(logits, labels).item() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(
    ("args", "advice"),
    [({}, "7x6 .* 3x3 .* 4x4 .* use downsampling 2, or images of 9 pixels"),
     ({"radius": 9, "downsampling": 1}, "use downsampling 1 and radius 6")],
)  # fmt: skip
def test_exception_small_pictures(args, advice):
    with pytest.raises(ValueError, match=advice):
        RMILoss(**args)(*case())
    assert RMILoss(downsampling=2)(*case()) > 0
    assert RMILoss(downsampling=1, radius=6)(*case()) > 0


def test_feature_logits_that_are_no_numbers_give_no_number():
    logits, labels = case()
    logits[0, 0, labels[0] != 255] = math.nan
    assert RMILoss(downsampling=2)(logits, labels).isnan()
