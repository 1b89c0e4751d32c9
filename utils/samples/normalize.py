"""Images as they are stored become the input of a model."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalize(
    images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor
) -> Tensor:
    """Subtract the mean and divide by the standard deviation, channel by channel.

    The images are transferred as uint8 and normalised on the model's device, which takes a quarter
    of the bytes. The result keeps the memory order (H, W, C) of the images, so it is
    `channels_last` without a copy.

    Args:
        images: (B, H, W, C). uint8 values are divided by 255; any other type is in the raw units
            of the sensor, and so are `mean` and `std`.
        mean: One value a channel. Inside a training loop pass a tensor that is already on the
            device: a list costs a copy and a synchronisation each time.
        std: One value a channel, as `mean`.

    Returns:
        (B, C, H, W) float32 on the device of `images`.

    Raises:
        ValueError: If `images` is not (B, H, W, C), or C is not the length of `mean` and `std`.
    """
    if images.dim() != 4:
        raise ValueError(f"expected images (B, H, W, C), got shape {tuple(images.shape)}")
    unit = 255 if images.dtype == torch.uint8 else 1
    means, stds = (
        torch.as_tensor(values, dtype=torch.float32, device=images.device) for values in (mean, std)
    )
    channels = images.shape[3]
    if means.numel() != channels or stds.numel() != channels:
        raise ValueError(
            f"the images have {channels} channels, but the mean has {means.numel()} values and "
            f"the standard deviation {stds.numel()}"
        )
    if images.dtype not in (torch.uint8, torch.float32):
        images = images.to(torch.float32)
    # uint8 minus float32 converts on the way, which saves the pass over memory of .float().
    centred = images.permute(0, 3, 1, 2) - means.view(-1, 1, 1) * unit
    return centred.div_(stds.view(-1, 1, 1) * unit)
