import numpy as np
import pytest
import torch

from utils.samples.normalize import normalize

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def test_feature_equals_the_formula():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    truth = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    for convert in (list, torch.tensor):
        ours = normalize(torch.from_numpy(pixels), convert(MEAN), convert(STD)).numpy()
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32, torch.float64])
def test_feature_other_types_are_in_raw_units(dtype):
    images = torch.tensor([[[[100.0, 2000.0]]]]).to(dtype)
    before = images.clone()
    ours = normalize(images, [50.0, 1000.0], [25.0, 500.0])
    assert ours.dtype == torch.float32
    assert ours.flatten().tolist() == [2.0, 2.0]
    assert torch.equal(images, before)


def test_cardinality_channels_last_without_a_copy():
    images = torch.zeros(2, 6, 7, 3, dtype=torch.uint8)
    ours = normalize(images, MEAN, STD)
    assert ours.shape == (2, 3, 6, 7)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_exception():
    with pytest.raises(ValueError, match=r"\(B, H, W, C\), got shape \(4, 5, 3\)"):
        normalize(torch.zeros(4, 5, 3), MEAN, STD)
    with pytest.raises(ValueError, match=r"4 channels, but the mean has 3 values and the .* 3"):
        normalize(torch.zeros(1, 4, 5, 4), MEAN, STD)
