import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import ColorJitter
from torchvision.transforms.v2 import functional as tv

from utils.files.data_file import DataError
from utils.transforms import colour
from utils.transforms.colour import ColourJitter


def images():
    """Noise, greys, saturated colours and a smooth ramp: (H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    yield rng.integers(0, 256, (130, 77, 3), dtype=np.uint8)
    yield np.repeat(rng.integers(0, 256, (9, 11, 1), dtype=np.uint8), 3, axis=2)
    yield rng.integers(0, 2, (20, 30, 3), dtype=np.uint8) * 255
    yield np.dstack(np.meshgrid(np.arange(256), np.arange(70))[:1] * 3).astype(np.uint8)


def to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


class TestAdjust:
    @pytest.mark.parametrize(
        ("name", "values", "levels"),
        [
            # torchvision cuts where we round: one level. It cuts its grey too: another.
            ("brightness", [0.0, 0.3, 0.9, 1.0, 1.7, 3.0], 1),
            ("contrast", [0.0, 0.3, 0.9, 1.0, 1.7, 3.0], 2),
            ("saturation", [0.0, 0.3, 0.9, 1.0, 1.7, 3.0], 2),
            ("hue", [-0.5, -0.31, -0.01, 0.0, 0.2, 0.5], 1),
        ],
    )
    def test_feature_equals_torchvision(self, name, values, levels):
        """Truth: torchvision.transforms.v2.functional.adjust_*."""
        for image in images():
            for value in values:
                ours = getattr(colour, f"adjust_{name}")(image, value)
                theirs = getattr(tv, f"adjust_{name}")(to_tensor(image), value)
                assert ours.dtype == np.uint8 and ours.shape == image.shape
                difference = ours.astype(int) - theirs.permute(1, 2, 0).numpy()
                assert np.abs(difference).max() <= levels, (name, value)


def jitter(image, changes):
    """Apply changes, (name, value) each, instead of random ones."""
    operation = ColourJitter(brightness=1, contrast=1, saturation=1, hue=0.5)
    operation.sample = lambda rng: changes
    return operation.pixels(image, None, 0)


CHANGES = [("brightness", 1.4), ("contrast", 0.6), ("saturation", 1.5), ("hue", 0.2)]


class TestJitter:
    def test_feature_what_is_off_is_left_out(self):
        """Truth: OpenCV's function for the one that is on."""
        image, rng = next(images()), np.random.default_rng(0)
        operation = ColourJitter(brightness=0.4)
        drawn = operation.sample(np.random.default_rng(0))
        ((_, factor),) = (change for change in drawn if change[1] not in (0, 1))
        expected = cv2.convertScaleAbs(image, alpha=factor)
        assert np.array_equal(operation.pixels(image, rng, 0), expected)
        assert not ColourJitter().active and operation.active

    def test_feature_order(self):
        """Truth: torchvision's functions one after the other."""
        image = next(images())
        results = []
        for changes in (CHANGES, CHANGES[::-1]):
            expected = to_tensor(image)
            for name, value in changes:
                expected = getattr(tv, f"adjust_{name}")(expected, value)
            results.append(jitter(image, changes))
            difference = results[-1].astype(int) - expected.permute(1, 2, 0).numpy()
            # Four times the level or two of one operation, scaled by those that follow.
            assert np.abs(difference).max() <= 8
        assert np.abs(results[0].astype(int) - results[1]).max() > 20

    @pytest.mark.parametrize(
        ("shape", "dtype"), [((4, 4, 3), np.uint16), ((4, 4, 13), np.uint8), ((4, 4, 1), np.uint8)]
    )
    def test_exception_other_images(self, shape, dtype):
        with pytest.raises(DataError, match=f"8-bit RGB .*{np.dtype(dtype)}"):
            jitter(np.zeros(shape, dtype), [])


class TestSample:
    def test_feature_ranges_are_torchvisions(self):
        """Truth: the bounds that torchvision's ColorJitter works out of the same four numbers."""
        widths = {"brightness": 0.4, "contrast": 1.7, "saturation": 0.1, "hue": 0.2}
        bounds = ColorJitter(**widths)
        rng = np.random.default_rng(0)
        drawn = [ColourJitter(**widths).sample(rng) for _ in range(3000)]
        for name in widths:
            low, high = getattr(bounds, name)
            values = np.array([dict(changes)[name] for changes in drawn])
            assert low <= values.min() and values.max() <= high
            edge = 0.01 * (high - low)
            assert values.min() < low + edge and values.max() > high - edge
            assert abs(values.mean() - (low + high) / 2) < 3 * edge
        assert len({tuple(dict(changes)) for changes in drawn}) == 24

    def test_feature_one_switch_leaves_the_other_draws(self):
        for seed in range(10):
            one, two = (
                ColourJitter(brightness=0.3, hue=0.2, contrast=width).sample(
                    np.random.default_rng(seed)
                )
                for width in (0.0, 0.5)
            )
            assert [c for c in one if c[0] != "contrast"] == [c for c in two if c[0] != "contrast"]
            assert [name for name, _ in one] == [name for name, _ in two]
            assert dict(one)["contrast"] == 1
