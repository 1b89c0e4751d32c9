import numpy as np
import pytest
import torch
from torch import nn

from prediction.predictor.merge import Scores, views_of
from prediction.predictor.network import Predictor
from prediction.predictor.views import Member
from tests.prediction.predictor.test_network import MEAN, STD, Net, normalized, random_image
from utils.cli.choices import FLIPS, MERGES


def naive(models, image, turns, merge, weights=None):
    """Probabilities (K, H, W) of NumPy's turned images, merged in a loop."""
    weights = weights or [1] * len(models)
    every = []
    for model, weight in zip(models, weights, strict=True):
        for turn, back in turns:
            turned = np.ascontiguousarray(turn(normalized(image)[0]), np.float32)
            with torch.no_grad():
                logits = model(torch.from_numpy(turned)[None])[0].numpy().astype(np.float64)
            every.append((weight, back(logits)))

    def softmax(one):
        return torch.from_numpy(np.ascontiguousarray(one)).softmax(0).numpy()

    if merge == "mean-logits":
        mean = sum(w * one for w, one in every) / sum(w for w, _ in every)
        return softmax(mean)
    each = [(w, softmax(one)) for w, one in every]
    if merge == "max":
        largest = np.max([one for _, one in each], 0)
        return largest / largest.sum(0)
    return sum(w * one for w, one in each) / sum(w for w, _ in each)


def turns_of(flip):
    """Each way to turn (C, H, W), and the way back."""
    rotations = {
        "none": [(0, False)], "horizontal": [(0, False), (0, True)],
        "both": [(k, m) for k in (0, 2) for m in (False, True)],
        "all8": [(k, m) for k in range(4) for m in (False, True)],
    }[flip]  # fmt: skip

    def pair(k, mirror):
        def turn(a):
            return np.rot90(a[..., ::-1] if mirror else a, k, (-2, -1))

        def back(a):
            a = np.rot90(a, -k, (-2, -1))
            return a[..., ::-1] if mirror else a

        return turn, back

    return [pair(*one) for one in rotations]


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("flip", FLIPS)
def test_feature_equals_naive(flip, merge):
    image, model = random_image(17, 24), Net().eval()
    made = Predictor(model, MEAN, STD, "cpu", mode="whole", flip=flip, merge=merge)
    logits = made.predict_logits(image)
    expected = naive([model], image, turns_of(flip), merge)
    np.testing.assert_allclose(logits.softmax(0), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("merge", MERGES)
def test_feature_an_ensemble_equals_naive(merge):
    image, models = random_image(12, 19), [Net().eval(), Net().eval()]
    for parameter in models[1].parameters():
        parameter.data.mul_(-1.5)
    weights = [1.0, 1.0] if merge == "max" else [2.0, 1.0]
    other = Member(models[1], MEAN, STD, weights[1])
    made = Predictor(
        models[0], MEAN, STD, "cpu", mode="whole", merge=merge, others=[other], weight=weights[0]
    )
    expected = naive(models, image, turns_of("none"), merge, weights)
    np.testing.assert_allclose(made.predict_logits(image).softmax(0), expected, atol=1e-4)


def test_feature_each_model_has_its_own_statistics():
    image, model = random_image(9, 9), Net().eval()
    other = Member(model, [v * 0.5 for v in MEAN], [v * 2 for v in STD])
    both = Predictor(model, MEAN, STD, "cpu", mode="whole", others=[other])
    one = Predictor(model, MEAN, STD, "cpu", mode="whole").predict_logits(image)
    two = Predictor(model, other.mean, other.std, "cpu", mode="whole").predict_logits(image)
    torch.testing.assert_close(both.predict_logits(image), (one + two) / 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("merge", MERGES)
def test_feature_binary_output(merge):
    """One channel z means the logits (0, z), whatever is merged."""

    class Binary(Net):
        def forward(self, images):
            return super().forward(images)[:, :1]

    class Pair(Binary):
        def forward(self, images):
            z = super().forward(images)
            return torch.cat([torch.zeros_like(z), z], 1)

    image = random_image(11, 13)
    for mode in ("whole", "multiscale", "sliding"):
        one, two = (
            Predictor(model().eval(), MEAN, STD, "cpu", mode=mode, merge=merge, flip="both")
            for model in (Binary, Pair)
        )
        torch.testing.assert_close(one.predict_logits(image), two.predict_logits(image))


@pytest.mark.parametrize("flip", FLIPS)
def test_feature_views_are_undone(flip):
    images = torch.arange(24.0).view(1, 1, 4, 6)
    views = views_of(flip)
    assert len(views) == {"none": 1, "horizontal": 2, "both": 4, "all8": 8}[flip]
    turned = [view.apply(images) for view in views]
    assert len({(tuple(t.shape), tuple(t.flatten().tolist())) for t in turned}) == len(views)
    for view, each in zip(views, turned, strict=True):
        assert torch.equal(view.undo(each), images)


def test_exception_names():
    with pytest.raises(ValueError, match="no merge 'mean'; choose from mean-logits"):
        Scores("mean")
    with pytest.raises(ValueError, match="no flip 'up'; choose from none"):
        views_of("up")
    with pytest.raises(ValueError, match="weight of a model must be positive, got 0"):
        Predictor(Net(), MEAN, STD, "cpu", weight=0)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("one_first", [True, False])
def test_feature_an_ensemble_of_one_and_of_two_channels(merge, one_first):
    """Source: a model of one channel z is one of the two channels 0 and z."""

    def net(channels):
        torch.manual_seed(channels)
        return nn.Conv2d(3, channels, 3, padding=1).eval()

    class Both(nn.Module):
        def __init__(self, one):
            super().__init__()
            self.one = one

        def forward(self, images):
            logits = self.one(images)
            return torch.cat([torch.zeros_like(logits), logits], 1)

    def predicted(first, other):
        one = Predictor(
            first, MEAN, STD, "cpu", mode="whole", merge=merge, weight=2.0,
            others=[Member(other, MEAN, STD, 1.0)],
        )  # fmt: skip
        image = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
        return one.predict_logits(image).softmax(0)

    order = (lambda a, b: (a, b)) if one_first else (lambda a, b: (b, a))
    torch.testing.assert_close(
        predicted(*order(net(1), net(2))), predicted(*order(Both(net(1)), net(2)))
    )
