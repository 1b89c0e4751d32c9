"""What is UNet's own."""

import pytest
import torch

import models


@pytest.mark.parametrize("channels", [0, 7])
def test_exception_unet_base_channels(channels):
    message = f"base_channels must be even and at least 2, got {channels}"
    with pytest.raises(ValueError, match=message):
        models.UNet(3, base_channels=channels)


def test_exception_single_value():
    torch.manual_seed(0)
    model = models.UNet(3, base_channels=4).train()
    with pytest.raises(ValueError, match="one value per channel"):
        model(torch.randn(1, 3, 16, 16))
    model(torch.randn(1, 3, 16, 17))  # two values are enough
