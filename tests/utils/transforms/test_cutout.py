import numpy as np
import pytest

from utils.transforms.cutout import Cutout, cut_out


class TestSample:
    def test_cardinality_numbers_and_sides(self):
        rng = np.random.default_rng(0)
        drawn = [Cutout(cutout=3, cutout_size=0.25).sample(rng, 40, 60) for _ in range(1000)]
        assert {len(rectangles) for rectangles in drawn} == {0, 1, 2, 3}
        heights, widths = set(), set()
        for top, bottom, left, right in (r for rectangles in drawn for r in rectangles):
            assert 0 <= top < bottom <= 40 and 0 <= left < right <= 60
            heights.add(bottom - top)
            widths.add(right - left)
        # Whole ones have a quarter of the sides; the middle may lie on the image's edge.
        assert (max(heights), min(heights)) == (10, 5)
        assert (max(widths), min(widths)) == (15, 8)

    def test_feature_every_pixel_is_hit_about_as_often(self):
        rng = np.random.default_rng(0)
        hits = np.zeros((20, 20))
        for _ in range(4000):
            for top, bottom, left, right in Cutout(cutout=2, cutout_size=0.2).sample(rng, 20, 20):
                hits[top:bottom, left:right] += 1
        # 4000 samples of one rectangle each that covers 4 % of the pixels.
        assert np.abs(hits[4:16, 4:16] / 4000 - 0.04).max() < 0.02

    @pytest.mark.parametrize("side", [1, 2, 3])
    def test_feature_tiny_images(self, side):
        for seed in range(50):
            rng = np.random.default_rng(seed)
            drawn = Cutout(cutout=2, cutout_size=0.1).sample(rng, side, side)
            for top, bottom, left, right in drawn:
                assert 0 <= top < bottom <= side and 0 <= left < right <= side


class TestCutOut:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
    @pytest.mark.parametrize("channels", [1, 3, 13])
    def test_feature_equals_a_loop(self, dtype, channels):
        """Truth: a loop over pixels."""
        rng = np.random.default_rng(0)
        image = (rng.random((12, 15, channels)) * 200).astype(dtype)
        image.flags.writeable = False
        rectangles, fill = [(0, 4, 3, 9), (2, 7, 8, 15)], [float(c) for c in range(channels)]
        assert cut_out(image, [], fill) is image
        result = cut_out(image, rectangles, fill)
        assert result.dtype == dtype
        for y in range(12):
            for x in range(15):
                inside = any(t <= y < b and a <= x < z for t, b, a, z in rectangles)
                assert np.array_equal(result[y, x], fill if inside else image[y, x])
