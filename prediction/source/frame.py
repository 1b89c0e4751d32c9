"""One frame of a video or camera."""

from typing import NamedTuple

import numpy as np


class Frame(NamedTuple):
    """One frame of a video or camera."""

    number: int  # from 0, counting the frames that are not predicted too
    seconds: float  # since the first one; of a video, as its frame rate says
    pixels: np.ndarray  # (H, W, 3) uint8 RGB
