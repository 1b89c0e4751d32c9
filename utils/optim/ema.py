"""A moving average of a model's weights."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged_copy(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy that follows a model: average <- d * average + (1 - d) * weights.

    Call `update_parameters(model)` after each optimizer step. d is `decay`, but at most
    (1 + n) / (10 + n) at step n, so that a short training is not an average over its random start.
    Buffers (the statistics of BatchNorm) are the model's own.

    Source: of the moving average, https://arxiv.org/abs/1703.01780; of the beginning, TensorFlow's
    `ExponentialMovingAverage(num_updates=...)`.

    Args:
        model: What to follow.
        decay: d, as in 0.999: about the last 1 / (1 - d) steps count.
    """

    def average(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        steps = int(count)
        now = min(decay, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(now)(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=average)
