"""Class weights from pixel counts."""

import math
from collections.abc import Sequence


def class_weights(pixels: Sequence[int]) -> list[float]:
    """Return the weights of ENet: 1 / ln(1.02 + fraction of the class in the valid pixels).

    Between 1.4 and 50.5, also for a class that does not occur.

    Paper: ENet, https://arxiv.org/abs/1606.02147 (section 5.1).
    Differs from the paper: rounded to two decimals, so that a config can say the same.
    """
    total = max(sum(pixels), 1)
    return [round(1 / math.log(1.02 + count / total), 2) for count in pixels]
