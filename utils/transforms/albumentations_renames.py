"""Arguments and transforms that have other names in Albumentations 1 than in version 2.

https://github.com/albumentations-team/albumentations/releases/tag/2.0.0
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

# Old -> new, where the transform takes the new one.
_SAME_VALUE = {
    **dict.fromkeys(("value", "fill_value", "image_fill_value"), "fill"),
    **dict.fromkeys(("cval", "pad_cval", "pad_val"), "fill"),
    **dict.fromkeys(
        ("mask_value", "mask_fill_value", "cval_mask", "pad_cval_mask", "mask_pad_val"), "fill_mask"
    ),
    **dict.fromkeys(("mode", "pad_mode"), "border_mode"),
}  # fmt: skip

# New -> the two old ones that are its two numbers.
_PAIRS = {
    "size": ("height", "width"),
    "quality_range": ("quality_lower", "quality_upper"),
    "scale_range": ("scale_min", "scale_max"),
    "num_holes_range": ("min_holes", "max_holes"),
    "hole_height_range": ("min_height", "max_height"),
    "hole_width_range": ("min_width", "max_width"),
    "unit_size_range": ("unit_size_min", "unit_size_max"),
    "holes_number_xy": ("holes_number_x", "holes_number_y"),
    "shift_xy": ("shift_x", "shift_y"),
    "fog_coef_range": ("fog_coef_lower", "fog_coef_upper"),
    "slant_range": ("slant_lower", "slant_upper"),
    "num_shadows_limit": ("num_shadows_lower", "num_shadows_upper"),
    "snow_point_range": ("snow_point_lower", "snow_point_upper"),
    "angle_range": ("angle_lower", "angle_upper"),
    "num_flare_circles_range": ("num_flare_circles_lower", "num_flare_circles_upper"),
}


def _scaled(change: Callable[[float], float]) -> Callable[[Any], list[float]]:
    """Return a function that maps a number, or a pair, of 0..255 to a pair of 0..1."""

    def convert(value: Any) -> list[float]:
        pair = value if isinstance(value, (list, tuple)) else [value, value]
        return [round(change(number), 4) for number in pair]

    return convert


# (transform, old) -> new, and its value.
_OTHER_VALUE: dict[tuple[str, str], tuple[str, Callable[[Any], Any]]] = {
    ("GaussNoise", "var_limit"): ("std_range", _scaled(lambda v: math.sqrt(v) / 255)),
    ("GaussNoise", "mean"): ("mean_range", _scaled(lambda v: v / 255)),
    ("Solarize", "threshold"): ("threshold_range", _scaled(lambda v: v / 255)),
    ("Downscale", "interpolation"): (
        "interpolation_pair",
        lambda v: v if isinstance(v, dict) else {"downscale": v, "upscale": v},
    ),
}

_REMOVED = {
    "always_apply": "remove it",
    "alpha_affine": "remove it; an Affine beside it does the same",
    "shift_limit": "remove it; an Affine beside it does the same",
}

GONE = {
    "Cutout": 'CoarseDropout with "num_holes_range", "hole_height_range" and "hole_width_range"',
    "Flip": "SquareSymmetry, or OneOf with HorizontalFlip and VerticalFlip",
    "JpegCompression": 'ImageCompression with "quality_range"',
    "RandomBrightness": 'RandomBrightnessContrast with "contrast_limit": [0, 0]',
    "RandomContrast": 'RandomBrightnessContrast with "brightness_limit": [0, 0]',
    "IAAAdditiveGaussianNoise": "GaussNoise",
    "IAAFliplr": "HorizontalFlip",
    "IAAFlipud": "VerticalFlip",
    **{
        f"IAA{name}": name
        for name in ("Affine", "CropAndPad", "Emboss", "Perspective", "PiecewiseAffine", "Sharpen",
                     "Superpixels")
    },
}  # fmt: skip
"""Transforms that version 2 no longer has, and their replacements."""


def renamed(
    name: str, args: Mapping[str, Any], keys: Collection[str]
) -> dict[tuple[str, ...], tuple[str, Any]]:
    """Find the arguments that a transform no longer takes under their old names.

    Returns:
        Old names -> the new one and its value; `("", advice)` where there is none.
    """
    old = {key: value for key, value in args.items() if key not in keys}
    found: dict[tuple[str, ...], tuple[str, Any]] = {}
    for new, pair in _PAIRS.items():
        there = tuple(key for key in pair if key in old)
        if new in keys and there:
            values = [old[key] for key in there if old[key] is not None]
            found[there] = new, [values[0], values[-1]] if values else None
    for key, value in old.items():
        if (name, key) in _OTHER_VALUE:
            new, convert = _OTHER_VALUE[name, key]
            try:
                found[(key,)] = new, convert(value)
            except (TypeError, ValueError):
                found[(key,)] = new, None
        elif _SAME_VALUE.get(key) in keys:
            found[(key,)] = _SAME_VALUE[key], value
        elif key in _REMOVED:
            advice = 'write "p": 1 instead' if key == "always_apply" and value else _REMOVED[key]
            found[(key,)] = "", advice
    return found


def describe_renamed(old: tuple[str, ...], new: str, value: Any) -> str:
    """Return what to write instead of arguments that have other names now."""
    names = " and ".join(map(repr, old))
    verb = "are" if len(old) > 1 else "is"
    if not new:
        return f"takes no {names} since Albumentations 2; {value}"
    if value is None:  # 1.x wrote it where there was nothing
        return f"{names} {verb} called {new!r} since Albumentations 2; leave out what is null"
    return f"{names} {verb} called {new!r} since Albumentations 2; write {json.dumps(new)}: " + (
        json.dumps(value, default=str)
    )
