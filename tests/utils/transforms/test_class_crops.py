import numpy as np
import pytest

from tests.utils.transforms.cases import draw_geometry, make_image, make_label
from utils.transforms.class_crops import ClassCrop, greatest_ratio, pixels_of
from utils.transforms.geometry import Geometry
from utils.transforms.warp import warp


def crop_of(label, geometry, ignore_index=255):
    image = make_image(*label.shape)
    return warp(image, label, geometry, ignore_index=ignore_index, fill=0)[1]


def show(*classes, rare_share=1.0, **settings):
    return ClassCrop(rare_classes=[*classes], rare_share=rare_share, **settings)


def half_and_half():
    """Two classes left and right, with a rare third one of four pixels."""
    label = np.zeros((100, 200), np.uint8)
    label[:, 100:] = 1
    label[80:82, 150:152] = 7
    return label


class TestRareClasses:
    @pytest.mark.parametrize("angle", [0, -10, 10])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16])
    def test_feature_the_crop_shows_the_class(self, angle, dtype):
        label = half_and_half().astype(dtype)
        tops = set()
        for seed in range(60):
            # Twice the size, as nearest sampling of a smaller image can lose four pixels.
            geometry = Geometry(200, 400, 60, 80, top=3, left=5, angle=angle)
            chosen = show(7).choose(geometry, np.random.default_rng(seed), label, 255)
            assert 7 in crop_of(label, chosen)
            assert 0 <= chosen.top <= 140 and 0 <= chosen.left <= 320
            tops.add(chosen.top)
        assert len(tops) > 5  # not always in the middle

    def test_feature_a_rotated_corner(self):
        """Pixels that the rotation moves out of the canvas are not aimed at."""
        label = np.zeros((100, 200), np.uint8)
        label[0, :3] = label[99, 100:] = 7
        for seed in range(30):
            geometry = Geometry(200, 400, 50, 50, angle=10)
            chosen = show(7).choose(geometry, np.random.default_rng(seed), label, 255)
            assert 7 in crop_of(label, chosen)

    def test_feature_share(self):
        label, geometry = half_and_half(), Geometry(100, 200, 20, 20)
        rng = np.random.default_rng(0)
        moved = [
            show(7, rare_share=0.3).choose(geometry, rng, label, 255) is not geometry
            for _ in range(1000)
        ]
        assert 0.25 < np.mean(moved) < 0.35

    @pytest.mark.parametrize(
        ("rare", "geometry"),
        [(5, Geometry(100, 200, 20, 20, 1, 2)), (7, Geometry(100, 200, 100, 240))],
    )
    def test_feature_an_image_without_the_class_or_that_fits_whole(self, rare, geometry):
        rng = np.random.default_rng(0)
        assert show(rare).choose(geometry, rng, half_and_half(), 255) is geometry

    def test_feature_classes_are_as_likely(self):
        """Whatever their area: class 1 has half of the image, class 7 four pixels."""
        label, rng = half_and_half(), np.random.default_rng(0)
        sizes = [len(pixels_of(label, [1, 7, 9], rng)) for _ in range(600)]
        assert set(sizes) == {4, 100 * 100 - 4}
        assert 0.4 < np.mean(np.array(sizes) == 4) < 0.6
        points = pixels_of(label, [7], rng)
        assert sorted(map(tuple, points.tolist())) == [(150, 80), (150, 81), (151, 80), (151, 81)]
        assert pixels_of(label, [9], rng) is None


class TestMaxRatio:
    @pytest.mark.parametrize("ignore_index", [255, -1])
    def test_feature_ratio_is_that_of_the_crop(self, ignore_index):
        """Truth: a count over every pixel of the warped label; a grid of 64 is near."""
        label = make_label(300, 400, block=31).astype(np.int16)
        label[:40] = ignore_index
        for seed in range(25):
            settings = {"base_size": 300, "crop_size": 150, "flip": True, "rotate": True}
            geometry = draw_geometry(np.random.default_rng(seed), 300, 400, **settings)
            crop = crop_of(label, geometry, ignore_index)
            counts = np.bincount(crop[crop != ignore_index])
            expected = counts.max() / counts.sum()
            assert abs(greatest_ratio(label, geometry, ignore_index) - expected) < 0.01

    def test_feature_nothing_labelled(self):
        label = np.full((50, 50), 255, np.uint8)
        assert greatest_ratio(label, Geometry(50, 50, 20, 20), 255) == 1

    def test_feature_crops_become_mixed(self):
        """Few of the crops across the border of two halves are drawn at once."""
        label = np.zeros((100, 400), np.uint8)
        label[:, 200:] = 1
        kept, before = [], []
        for seed in range(100):
            rng = np.random.default_rng(seed)
            geometry = Geometry(100, 400, 90, 90, top=2, left=int(rng.integers(311)))
            chosen = ClassCrop(max_class_ratio=0.75).choose(geometry, rng, label, 255)
            before.append(greatest_ratio(label, geometry, 255))
            kept.append(greatest_ratio(label, chosen, 255))
            if before[-1] <= 0.75:
                assert chosen is geometry
        # A crop passes with probability 45 / 311; ten draws fail with 0.21.
        assert np.mean(np.array(before) <= 0.75) < 0.3
        assert 0.65 < np.mean(np.array(kept) <= 0.75) < 0.95

    def test_feature_the_best_of_ten(self):
        """Where no crop can pass, the most balanced one drawn is taken, and no more are drawn."""
        label = half_and_half()
        for seed in range(10):
            geometry = Geometry(100, 200, 40, 40)
            rng = np.random.default_rng(seed)
            chosen = ClassCrop(max_class_ratio=0.01).choose(geometry, rng, label, 255)
            rng = np.random.default_rng(seed)
            rng.random()
            drawn = [np.floor(rng.random(2) * (61, 161)).astype(int) for _ in range(9)]
            corners = [(0, 0), *map(tuple, drawn)]
            ratios = [greatest_ratio(label, Geometry(100, 200, 40, 40, *c), 255) for c in corners]
            assert (chosen.top, chosen.left) == corners[int(np.argmin(ratios))]

    def test_feature_both_rules(self):
        """Crops are redrawn around the rare class, not anywhere."""
        label = half_and_half()
        for seed in range(30):
            both = show(7, max_class_ratio=0.6)
            geometry = Geometry(200, 400, 60, 80)
            rng = np.random.default_rng(seed)
            assert 7 in crop_of(label, both.choose(geometry, rng, label, 255))
