"""Objects of another training image, pasted over this one.

Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
Segmentation", https://arxiv.org/abs/2012.07177. Differs from the paper: without instances, an
object is a connected region of the label. Edges are left hard, as the paper found blending to make
no difference.
"""

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np

from utils.transforms.base import Probability, SampleOperation, TrainingSample
from utils.transforms.class_crops import ClassCrop, class_numbers
from utils.transforms.partners import Pair, draw_partner_with, mask_of


class CopyPaste(SampleOperation):
    """Paste objects of another training image, placed by an augmentation of its own.

    Args:
        copy_paste: Probability of doing so.
        paste_classes: Names or numbers of the classes to paste; `rare_classes` by default.
        rare_classes: See `ClassCrop`.
        class_names: Names of the classes.

    Raises:
        ValueError: If there are no classes to paste, or one is not among the classes.
    """

    stream = 3
    requires: ClassVar[dict[str, str]] = {"paste_classes": "copy_paste"}
    follows_label = True

    def __init__(
        self,
        *,
        copy_paste: Probability = 0.0,
        paste_classes: list[str | int] | None = None,
        rare_classes: list[str | int] | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        self.copy_paste = copy_paste
        pasted = class_numbers(paste_classes, class_names, "paste_classes")
        self.classes = pasted or class_numbers(rare_classes, class_names, "rare_classes")
        if copy_paste and not self.classes:
            raise ValueError("copy_paste: name the classes to paste with paste_classes")
        # The crop of the other image shows one of the classes wherever that can be.
        self.crop = ClassCrop(rare_classes=[*self.classes], rare_share=1.0)

    @property
    def active(self) -> bool:
        """Return whether anything is ever pasted."""
        return self.copy_paste > 0

    def apply(self, sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
        """Warp the sample, and paste objects of a partner that has some."""
        sample = sample.warp()
        if rng.random() >= self.copy_paste:
            return sample
        pair = draw_partner_with(sample.partners, sample.image, self.classes, rng)
        if pair is None:
            return sample
        height, width = sample.label.shape
        partner = sample.partner(pair, rng, (height, width))
        others = (o for o in partner.operations if not isinstance(o, ClassCrop))
        partner = partner._replace(operations=(*others, self.crop)).warp()
        mask = sample_objects(partner.label, self.classes, rng)
        image, label = paste(sample.image, sample.label, (partner.image, partner.label), mask)
        return sample._replace(image=image, label=label)


def sample_objects(
    label: np.ndarray, classes: Sequence[int], rng: np.random.Generator
) -> np.ndarray:
    """Choose about half of the objects of some classes, at least one, as a mask (H, W) uint8.

    An object is a connected region, corners included, of any of the classes: a rider stays on the
    bicycle.
    """
    count, objects = cv2.connectedComponents(mask_of(label, classes))
    chosen = (rng.random(count) < 0.5).astype(np.uint8)
    if count > 1 and not chosen[1:].any():
        chosen[rng.integers(1, count)] = 1
    chosen[0] = 0  # the background
    return chosen[objects]


def paste(image: np.ndarray, label: np.ndarray, other: Pair, mask: np.ndarray) -> Pair:
    """Copy the masked pixels, (H, W) uint8, of another sample of the same size over this one."""
    # NumPy copies by a mask ten times slower than OpenCV.
    image = cv2.copyTo(other[0], mask, image.copy()).reshape(image.shape)
    return image, cv2.copyTo(other[1], mask, label.copy())
