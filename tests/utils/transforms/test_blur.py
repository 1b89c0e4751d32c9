import numpy as np
import pytest

from tests.utils.transforms.cases import difference, make_image
from utils.transforms import blur as module
from utils.transforms.blur import Blur, blur


class TestBlur:
    @pytest.mark.parametrize("sigma", [0.0, 0.3, 0.6])
    def test_feature_small_sigma_does_nothing(self, sigma):
        image = make_image(9, 9)
        assert blur(image, sigma) is image

    @pytest.mark.parametrize("sigma", [0.61, 0.8, 0.99])
    def test_feature_equals_the_kernel(self, sigma):
        """Truth: exp(-d^2 / 2 sigma^2) at d = -1, 0, 1, normalised, along rows and columns."""
        image = make_image(20, 20, dtype=np.float32)
        kernel = np.exp(-(np.array([-1.0, 0.0, 1.0]) ** 2) / (2 * sigma**2))
        kernel /= kernel.sum()
        expected = sum(
            kernel[i] * kernel[j] * image[i : i + 18, j : j + 18]
            for i in range(3)
            for j in range(3)
        )
        assert difference(blur(image, sigma)[1:-1, 1:-1], expected).max() < 1e-3

    def test_feature_sigma_is_uniform_below_one(self, monkeypatch):
        drawn = []
        monkeypatch.setattr(module, "blur", lambda image, sigma: drawn.append(sigma))
        rng = np.random.default_rng(0)
        for _ in range(2000):
            Blur(blur=True).pixels(make_image(2, 2), rng, 0)
        assert 0 <= min(drawn) < 0.01 and 0.99 < max(drawn) < 1
        assert abs(np.mean(drawn) - 0.5) < 0.02
