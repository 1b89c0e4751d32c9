import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prediction.predictor.mosaic import blend
from prediction.predictor.network import Predictor
from prediction.predictor.windows import ALIGNMENT, Axis, Grid, Window, WindowRule, same_size_runs
from utils.cli.choices import BLENDS
from utils.files.spill import Spill

rules = st.builds(
    WindowRule, size=st.integers(32, 200), overlap=st.floats(0, 0.9), blend=st.sampled_from(BLENDS)
)


@given(length=st.integers(1, 700), rule=rules)
@settings(deadline=None, max_examples=200)
def test_feature_weights_add_up_to_one(length, rule):
    axis = Axis(length, rule)
    total, seen = np.zeros(length), np.zeros(length, int)
    for index, (start, size) in enumerate(zip(axis.starts, axis.sizes, strict=True)):
        assert start % ALIGNMENT == 0 and size <= rule.size
        weights = axis.weights(index)
        weights = np.ones(size) if weights is None else weights
        assert weights.shape == (size,) and weights.min() >= 0
        total[start : start + size] += weights
        seen[start : start + size] += 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert seen.min() > 0
    # What is complete covers the side once.
    assert sum(axis.complete(index) for index in range(len(axis))) == length
    # The overlap is at least what was asked for, as far as the grid of 32 pixels allows.
    for index in range(len(axis) - 1):
        shared = axis.starts[index] + axis.sizes[index] - axis.starts[index + 1]
        step = max(ALIGNMENT, rule.size * (1 - rule.overlap))
        assert shared >= min(rule.size - step, rule.size - ALIGNMENT) - 1e-6


def test_feature_layout_by_hand():
    axis = Axis(2500, WindowRule(1024))
    assert (axis.starts, axis.sizes) == ((0, 768, 1504), (1024, 1024, 996))
    assert Axis(1024, WindowRule(1024)).starts == (0,)
    assert Axis(1025, WindowRule(1024)).starts == (0, 32)
    assert Axis(10**6, None).sizes == (10**6,)


def test_feature_without_blending_each_pixel_has_the_window_that_sees_most_around_it():
    axis = Axis(2500, WindowRule(1024, blend="none"))
    owners = np.zeros(2500, int)
    for index, start in enumerate(axis.starts):
        owners[start : start + axis.sizes[index]] += index * (axis.weights(index) == 1)
    # The overlaps are 768..1024 and 1504..1792.
    assert np.flatnonzero(np.diff(owners)).tolist() == [895, 1647]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 31}, "at least 32 pixels a side, got 31"),
        ({"size": 64, "overlap": 1.0}, "is in 0..0.9, got 1.0"),
        ({"size": 64, "overlap": -0.1}, "is in 0..0.9"),
        ({"size": 64, "blend": "cosine"}, "no blend 'cosine'; choose from gaussian"),
    ],
)
def test_exception_rule(settings, message):
    with pytest.raises(ValueError, match=message):
        WindowRule(**settings)


def test_feature_runs_have_one_size():
    windows = Grid(100, 2500, WindowRule(1024)).band(0)
    sizes = [[w.width for w in run] for run in same_size_runs(windows, 2)]
    assert sizes == [[1024, 1024], [996]]


def naive_blend(grid, scores, height, width):
    """Sums over the whole image in double, divided by nothing: the weights add up to 1."""
    total = np.zeros((scores[0].shape[0], height, width))
    numbers = [(r, c) for r in range(len(grid.rows)) for c in range(len(grid.columns))]
    for (row, column), window, one in zip(numbers, grid.windows(), scores, strict=True):
        down, across = grid.rows.weights(row), grid.columns.weights(column)
        down = np.ones(window.height) if down is None else down
        across = np.ones(window.width) if across is None else across
        at = np.s_[:, window.top :, window.left :]
        total[at][:, : window.height, : window.width] += one * down[:, None] * across
    return total


@given(height=st.integers(1, 260), width=st.integers(1, 260), rule=rules)
@settings(deadline=None, max_examples=60)
def test_feature_blocks_equal_a_naive_mean_wherever_they_are_held(height, width, rule):
    generator = np.random.default_rng(height * 1000 + width)
    grid = Grid(height, width, rule)
    windows = list(grid.windows())
    scores = [generator.normal(size=(3, w.height, w.width)).astype(np.float32) for w in windows]
    results = []
    for limit in (0, 20_000, np.inf):
        made, seen = np.full((3, height, width), np.nan, np.float32), np.zeros((height, width), int)
        predicted = ((w, torch.from_numpy(s.copy())) for w, s in zip(windows, scores, strict=True))
        with Spill(limit) as spill:
            for top, left, block in blend(grid, predicted, spill):
                h, w = block.shape[1:]
                made[:, top : top + h, left : left + w] = block
                seen[top : top + h, left : left + w] += 1
        assert (seen == 1).all()
        results.append(made)
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[2])
    np.testing.assert_allclose(results[0], naive_blend(grid, scores, height, width), atol=1e-5)


class Local(nn.Module):
    """Sees 15 pixels around each, through strides of 4, and pads with zeros as networks do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 12, 7, stride=4, padding=3)
        self.mid = nn.Conv2d(12, 12, 3, padding=1)
        self.last = nn.Conv2d(12, 5, 1)

    def forward(self, images):
        features = self.mid(self.down(images).relu()).relu()
        logits = self.last(features)
        return nn.functional.interpolate(logits, images.shape[2:], mode="bilinear")


def smooth_image(height, width):
    """Blobs of several sizes, as photographs have, and some noise."""
    generator = np.random.default_rng(3)
    total = np.zeros((height, width, 3))
    for size in (4, 16, 64):
        coarse = generator.normal(size=(3, height // size + 2, width // size + 2))
        grown = nn.functional.interpolate(
            torch.from_numpy(coarse)[None], (height, width), mode="bicubic"
        )
        total += grown[0].numpy().transpose(1, 2, 0)
    return np.clip(total * 30 + 128, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def made():
    image = smooth_image(700, 900)
    predictor = Predictor(Local(), (0.5,) * 3, (0.25,) * 3, "cpu", mode="whole")
    return predictor, image, predictor.predict_logits(image)


class TestAgainstOnePass:
    @pytest.mark.parametrize("kind", BLENDS)
    def test_feature_few_pixels_differ(self, made, kind):
        predictor, image, whole = made
        logits = predictor.predict_logits(image, WindowRule(256, 0.25, kind))
        different = (logits.argmax(0) != whole.argmax(0)).float().mean()
        assert different < 0.005
        if kind == "none":  # an overlap of 64 pixels: half of it covers what the network sees
            assert torch.allclose(logits, whole, atol=1e-4)

    @pytest.mark.parametrize("kind", BLENDS)
    def test_feature_no_seams(self, made, kind):
        """The step from pixel to pixel is no larger at edges of windows than elsewhere."""
        predictor, image, whole = made
        rule = WindowRule(256, 0.25, kind)
        logits = predictor.predict_logits(image, rule)
        axis = Axis(900, rule)
        ends = {start + size for start, size in zip(axis.starts, axis.sizes, strict=True)}
        edges = sorted({*axis.starts[1:], *ends} - {900})
        steps = (logits.diff(dim=2) - whole.diff(dim=2)).abs().mean((0, 1))
        usual = whole.diff(dim=2).abs().mean()
        at_edges = torch.stack([steps[edge - 2 : edge + 1].max() for edge in edges])
        assert at_edges.max() < 0.1 * usual

    def test_feature_seams_would_be_seen(self, made):
        """Without overlap the same measure shows them: the test above can fail."""
        predictor, image, whole = made
        logits = predictor.predict_logits(image, WindowRule(256, 0.0, "none"))
        steps = (logits.diff(dim=2) - whole.diff(dim=2)).abs().mean((0, 1))
        assert steps[255] > 0.3 * whole.diff(dim=2).abs().mean()


@pytest.mark.parametrize("limit", [0, 100_000])
def test_feature_streamed_equals_in_memory_to_the_bit(limit):
    image = smooth_image(333, 471)
    predictor = Predictor(Local(), (0.5,) * 3, (0.25,) * 3, "cpu", mode="sliding")
    rule = WindowRule(128)
    expected = predictor.predict_logits(image, rule)
    made, order = torch.full_like(expected, torch.nan), []

    def read(window):
        order.append(window)
        top, left, height, width = window
        return image[top : top + height, left : left + width]

    with Spill(limit) as spill:
        for top, left, block in predictor.blocks(read, 333, 471, rule, spill):
            height, width = block.shape[1:]
            made[:, top : top + height, left : left + width] = block
    assert torch.equal(made, expected)
    assert order == [Window(*w) for w in Grid(333, 471, rule).windows()]


def test_feature_windows_in_batches():
    image = smooth_image(300, 500)
    model = Local().eval()
    predictor = Predictor(model, (0.5,) * 3, (0.25,) * 3, "cpu", mode="whole")
    expected = predictor.predict_logits(image, WindowRule(128))
    batches = []
    model.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    made = torch.zeros_like(expected)

    def read(window):
        return image[window.top :, window.left :][: window.height, : window.width]

    with Spill(np.inf) as spill:
        for top, left, block in predictor.blocks(read, 300, 500, WindowRule(128), spill, 3):
            made[:, top:, left:][:, : block.shape[1], : block.shape[2]] = block
    assert max(batches) == 3
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
