"""One rule from the values of a mask to class labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from utils.files.data_file import DataError

_USUAL_VOID = 255
_INVALID = -32768  # no class and never an ignored value
_LOWEST, _HIGHEST = -32768, 65535  # values of a mask


class LabelMap:
    """Turn the ids or colours of a mask into 0..K-1 and the ignored value.

    Args:
        num_classes: K, without the ignored label.
        ignore_index: The label of ignored pixels.
        void: Ignored ids in the mask; None for 255 if that is not a class and, if ids are
            classes, `ignore_index`.
        ids: Id in the mask -> class or -1 for ignored; ids that it does not name are errors.
            Without it, ids are classes.
        colours: (r, g, b) in the mask -> class, or -1 for ignored.
        adjustable: Whether the config can set the map; otherwise messages do not advise it.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int,
        *,
        void: Sequence[int] | None = None,
        ids: Mapping[int, int] | None = None,
        colours: Mapping[tuple[int, int, int], int] | None = None,
        adjustable: bool = True,
    ) -> None:
        self.adjustable = adjustable
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._is_mapped = ids is not None
        small = num_classes <= 256 and 0 <= ignore_index <= 255
        self.dtype: type[np.uint8] | type[np.int16] = np.uint8 if small else np.int16
        if void is None:
            void = [_USUAL_VOID] if num_classes <= _USUAL_VOID else []  # else it is a class
            void += [] if self._is_mapped else [ignore_index]
        self._void = list(dict.fromkeys(void))
        void_table = dict.fromkeys(void, -1)
        if ids is None:
            table = {**{i: i for i in range(num_classes)}, **void_table}
        else:
            table = {**void_table, **ids}  # a map overrides the ignored ids
        self._table = np.full(_HIGHEST - _LOWEST + 1, _INVALID, np.int16)
        for value, label in table.items():
            self._table[value - _LOWEST] = ignore_index if label == -1 else label
        small_table = self._table[-_LOWEST : -_LOWEST + 256]
        # For 8-bit masks OpenCV's table look-up is ten times faster than NumPy's.
        self._small_invalid: Any = (small_table == _INVALID).astype(np.uint8)
        self._small_table: Any = np.where(small_table == _INVALID, 0, small_table).astype(
            self.dtype
        )
        self._colours = colours
        self._colour_table: np.ndarray | None = None

    def __call__(self, mask: np.ndarray, name: str) -> np.ndarray:
        """Return the labels of a mask: ids (H, W), or colours (H, W, 3) uint8.

        Returns:
            (H, W) uint8, or int16 if `ignore_index` or the classes do not fit into 8 bits.

        Raises:
            DataError: If the mask has a value or colour that is neither class nor ignored.
        """
        if mask.ndim == 3:
            return self._from_colours(mask, name)
        if mask.dtype == np.uint8:
            if cv2.countNonZero(cv2.LUT(mask, self._small_invalid)):
                self._refuse(mask[self._small_invalid[mask] != 0], name)
            return cv2.LUT(mask, self._small_table)
        self._refuse(mask[(mask < _LOWEST) | (mask > _HIGHEST)], name)
        labels = self._table[mask.astype(np.int32) - _LOWEST]
        self._refuse(mask[labels == _INVALID], name)
        return labels.astype(self.dtype)

    def knows(self, mask: np.ndarray) -> np.ndarray:
        """Return where a mask, ids (H, W) or colours (H, W, 3), is a class or ignored."""
        if mask.ndim == 3:
            if self._colours is None:
                return np.zeros(mask.shape[:2], bool)
            return self._colour_labels(mask, self._colours) != _INVALID
        inside = (mask >= _LOWEST) & (mask <= _HIGHEST)
        indices = np.where(inside, mask, 0).astype(np.int32) - _LOWEST
        return inside & (self._table[indices] != _INVALID)

    def _from_colours(self, mask: np.ndarray, name: str) -> np.ndarray:
        if self._colours is None:
            raise DataError(
                f"{name}: has colours where class ids were expected; "
                + self._advice('say which colour is which class with "palette" or "label_map"')
            )
        labels = self._colour_labels(mask, self._colours)
        bad = labels == _INVALID
        if bad.any():
            colour = tuple(int(v) for v in mask[bad][0])
            raise DataError(
                f"{name}: {int(bad.sum())} pixels have a colour that is not a class, for example "
                f"{colour}; " + self._advice('name it in "palette" or "label_map" (-1 ignores it)')
            )
        return labels.astype(self.dtype)

    def _colour_labels(
        self, mask: np.ndarray, colours: Mapping[tuple[int, int, int], int]
    ) -> np.ndarray:
        """Return labels (H, W) int16, `_INVALID` for other colours."""
        if self._colour_table is None:
            # 32 MB, made once: sorting or comparing colours takes several times as long an image.
            self._colour_table = np.full(1 << 24, _INVALID, np.int16)
            for (r, g, b), label in colours.items():
                value = self.ignore_index if label == -1 else label
                self._colour_table[r << 16 | g << 8 | b] = value
        wide = mask.astype(np.int32)
        return self._colour_table[wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]]

    def _refuse(self, values: np.ndarray, name: str) -> None:
        if values.size == 0:
            return
        seen = ", ".join(str(v) for v in np.unique(values)[:8])
        known = (
            "which the label map does not name"
            if self._is_mapped
            else f"which is neither a class (0..{self.num_classes - 1}) nor ignored "
            f"({', '.join(map(str, self._void)) or 'none is'})"
        )
        raise DataError(
            f"{name}: {values.size} pixels have label {seen}, {known}; "
            + self._advice('correct the mask, or map the value with "label_map" (-1 ignores it)')
        )

    def _advice(self, text: str) -> str:
        return text if self.adjustable else "correct the mask, or read such masks with Folder"
