"""A model that several GPUs or processes train together."""

import torch
from torch import nn

from utils.distributed.collectives import world_size


def data_parallel(
    model: nn.Module, device: torch.device, n_gpu: int, *, find_unused_parameters: bool
) -> nn.Module:
    """Return the model in DDP if several ranks train, in DataParallel if one has more GPUs."""
    if world_size() > 1:
        return nn.parallel.DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            find_unused_parameters=find_unused_parameters,
        )
    return nn.DataParallel(model, list(range(n_gpu))) if n_gpu > 1 else model
