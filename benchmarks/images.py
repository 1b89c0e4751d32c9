"""Images with the spectrum of photographs, for benchmarks without a dataset."""

import cv2
import numpy as np


def natural_image(
    rng: np.random.Generator, height: int, width: int, *, grey: float, colour: float
) -> np.ndarray:
    """Return noise (height, width, 3) float32 around 110, with a std of each octave's two parts."""
    image = np.full((height, width, 3), 110, np.float32)
    # Natural images have about the same contrast in every octave.
    for cells in (2, 4, 8, 16, 32, 64, 128, 256):
        size = (cells * height // width + 1, cells)
        octave = rng.normal(0, grey, (*size, 1)) + rng.normal(0, colour, (*size, 3))
        image += cv2.resize(
            octave.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    return image
