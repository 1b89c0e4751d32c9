"""The grid of images, labels and predictions that TensorBoard shows."""

import numpy as np
import pytest

from utils.drawing.palette import IGNORED_COLOUR, voc_palette
from utils.drawing.visualize import GAP, MARGIN, MAX_CLASSES_LISTED, Comparison, comparison_grid

PALETTE = [(9, 9, 9), (250, 10, 10), (20, 20, 240)]
CLASSES = ["ground", "road", "tree"]


def sample(height, width, name="a.png", label=1, prediction=2):
    image = np.random.default_rng(0).integers(1, 255, (height, width, 3), dtype=np.uint8)
    shape = (height, width)
    return Comparison(name, image, np.full(shape, label), np.full(shape, prediction, np.uint8))


def find(grid, cell):
    """The (row, column) of every place where a cell lies in the grid."""
    height, width = cell.shape[:2]
    starts = np.argwhere((grid == cell[0, 0]).all(-1)).tolist()
    return [
        (row, column)
        for row, column in starts
        if np.array_equal(grid[row : row + height, column : column + width], cell)
    ]


def test_feature_image_label_and_prediction_lie_in_columns():
    shown = [sample(200, 180), sample(300, 100)]
    grid = comparison_grid(shown, CLASSES, PALETTE, 255)
    tops = []
    for comparison in shown:
        ((top, left),) = find(grid, comparison.image)
        height, width = comparison.label.shape
        assert left == MARGIN
        for place, colour in ((1, PALETTE[1]), (2, PALETTE[2])):
            x = MARGIN + place * (180 + GAP)  # of the widest
            assert (grid[top : top + height, x : x + width] == colour).all()
        tops.append(top)
    assert tops[1] > tops[0] + 200 + GAP  # a name is between them
    # The titles: dark letters above each column.
    strip = grid[tops[0] - 20 : tops[0]].min(-1) < 100
    for place in range(3):
        x = MARGIN + place * (180 + GAP)
        assert strip[:, x : x + 100].any()


def test_feature_a_row_has_its_name():
    one, other = (comparison_grid([sample(200, 180, n)], CLASSES, PALETTE, 255) for n in "ab")
    ((top, _),) = find(one, sample(200, 180).image)
    changed = np.flatnonzero((one != other).any((1, 2)))
    assert len(changed) and changed.min() >= top + 200  # below its image, and nowhere else


def test_feature_a_legend_names_every_class():
    grid = comparison_grid([sample(200, 180, label=1, prediction=1)], CLASSES, PALETTE, 255)
    ((top, _),) = find(grid, sample(200, 180).image)
    legend = grid[:top]
    assert all((legend == colour).all(-1).sum() > 50 for colour in PALETTE)
    assert not (legend == IGNORED_COLOUR).all(-1).any()
    grid = comparison_grid([sample(200, 180, label=255)], CLASSES, PALETTE, 255)
    assert (grid[:top] == IGNORED_COLOUR).all(-1).sum() > 50


def test_feature_of_many_classes_those_that_occur_are_named():
    count = MAX_CLASSES_LISTED + 1
    palette = voc_palette(count)
    grid = comparison_grid([sample(200, 180, label=7)], [f"c{i}" for i in range(count)], palette, 0)
    ((top, _),) = find(grid, sample(200, 180).image)
    there = [(grid[:top] == colour).all(-1).sum() > 50 for colour in palette]
    assert [number for number, is_there in enumerate(there) if is_there] == [2, 7]


@pytest.mark.parametrize(
    ("size", "shown"), [((8, 8), (160, 160)), ((1, 1), (160, 160)), ((900, 450), (400, 200)),
                        ((3, 3000), (1, 400)), ((100, 64), (100, 64))],
)  # fmt: skip
def test_cardinality_tiny_images_are_enlarged_and_large_ones_shrunk(size, shown):
    names = ["x" * 900, "\u65e5\u672c\n\udcff.png"]
    grid = comparison_grid([sample(*size, name) for name in names], CLASSES, PALETTE, 255)
    labels = (grid == PALETTE[1]).all(-1)
    assert labels.sum() == 2 * shown[0] * shown[1] + 11 * 11  # and a swatch, without its border
    assert grid.shape[1] < 1300
