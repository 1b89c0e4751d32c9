import cv2
import numpy as np
import pytest

from tests.utils.transforms.cases import (
    apply,
    difference,
    draw_geometry,
    identity,
    make_image,
    make_label,
)
from utils.transforms.augmentation import Augmentation
from utils.transforms.scale_and_crop import centre_geometry


class TestDraws:
    def test_cardinality_ranges(self):
        """Long side 0.5 to 2 times base_size, -10 to 10 degrees, as in pytorch-segmentation."""
        rng = np.random.default_rng(0)
        drawn = [
            draw_geometry(rng, 30, 60, base_size=20, crop_size=15, flip=True, rotate=True)
            for _ in range(3000)
        ]
        assert {g.scaled_width for g in drawn} == set(range(10, 41))
        assert {g.angle for g in drawn} == set(range(-10, 11))
        assert all(abs(g.scaled_height - g.scaled_width / 2) <= 0.5 for g in drawn)
        assert all((g.height, g.width) == (15, 15) for g in drawn)
        assert all(0 <= g.left <= max(g.scaled_width - 15, 0) for g in drawn)
        assert all(0 <= g.top <= max(g.scaled_height - 15, 0) for g in drawn)
        assert {g.left for g in drawn if g.scaled_width == 17} == {0, 1, 2}
        assert 0.45 < np.mean([g.flip for g in drawn]) < 0.55

    def test_feature_one_switch_leaves_the_other_draws(self):
        for seed in range(20):
            args = {"base_size": 60, "crop_size": 32, "flip": True}
            full, less = (
                draw_geometry(np.random.default_rng(seed), 50, 70, rotate=rotate, **args)
                for rotate in (True, False)
            )
            assert full._replace(angle=0) == less

    def test_feature_without_base_size_or_crop(self):
        """There is no scaling, or the output has the scaled size."""
        assert draw_geometry(np.random.default_rng(0), 50, 70) == identity(50, 70)
        geometry = draw_geometry(np.random.default_rng(0), 50, 70, base_size=140, scale=False)
        assert (geometry.height, geometry.width) == (100, 140)


class TestCentreGeometry:
    @pytest.mark.parametrize("size", [(50, 77), (77, 50), (40, 40), (300, 451), (20, 33)])
    def test_feature_equals_the_recipe_of_pytorch_segmentation(self, size):
        """Truth: short side to crop_size, then a square in the middle, step by step."""
        height, width = size
        crop_size = 40
        image, label = make_image(height, width), make_label(height, width)
        if height < width:
            scaled = (crop_size, int(crop_size * width / height))
        else:
            scaled = (int(crop_size * height / width), crop_size)
        shrink = scaled[0] / height < 0.5
        kind = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        expected = cv2.resize(image, scaled[::-1], interpolation=kind)
        nearest = cv2.resize(label, scaled[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        top, left = (scaled[0] - crop_size) // 2, (scaled[1] - crop_size) // 2
        rows, columns = slice(top, top + crop_size), slice(left, left + crop_size)

        augmentation = Augmentation(val=True, crop_size=crop_size)
        rng = np.random.default_rng(0)
        new_image, new_label = augmentation(image, label, rng, ignore_index=255, fill=0)
        assert new_image.shape == (crop_size, crop_size, 3)
        # Two ways of averaging a strongly shrunken image are near, not equal.
        assert difference(new_image, expected[rows, columns]).mean() < (3 if shrink else 1)
        assert np.mean(new_label != nearest[rows, columns]) < 0.02

    def test_feature_whole_square_is_covered(self):
        for height, width in [(1, 9), (9, 1), (13, 14), (500, 375), (3, 1000)]:
            geometry = centre_geometry(height, width, 7)
            label = np.zeros((height, width), np.uint8)
            _, new_label = apply(make_image(height, width), label, geometry)
            assert (new_label == 0).all()
