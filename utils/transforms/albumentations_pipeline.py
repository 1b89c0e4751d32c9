"""A pipeline of Albumentations, from plain data.

https://albumentations.ai/docs/2-core-concepts/serialization/ describes the data. The library is
optional and imported only where a config names a pipeline.
"""

import inspect
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from utils.config.errors import ConfigError, show, suggest
from utils.config.file import parse_config
from utils.files.data_file import DataError
from utils.transforms.albumentations_renames import GONE, describe_renamed, renamed
from utils.transforms.base import SampleOperation, TrainingSample

INSTALL = "pip install albumentations==2.0.8"

_PYTHON = "it contains Python code, which is never run from a config"
_TYPE = "the program does this itself, on the device; remove it"
_BOXES = "it crops by boxes, but a sample is one image and its mask"
_OTHERS = "it needs other images, but a sample is one image and its mask"
REFUSED = {
    "Lambda": _PYTHON,
    "ReplayCompose": "its record is not used; use Compose",
    "GridElasticDeform": "it fills the label with class 0; use ElasticTransform",
    "Morphological": "it moves outlines in the image but not in the label",
    **dict.fromkeys(
        ("AtLeastOneBBoxRandomCrop", "BBoxSafeRandomCrop", "RandomSizedBBoxSafeCrop"), _BOXES
    ),
    **dict.fromkeys(("FDA", "HistogramMatching", "PixelDistributionAdaptation"), _OTHERS),
    **dict.fromkeys(("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"), _TYPE),
}

# The keys that Compose.to_dict() writes.
_COMPOSE_KEYS = (
    "p", "transforms", "bbox_params", "keypoint_params", "additional_targets", "is_check_shapes",
)  # fmt: skip


class Albumentations(SampleOperation):
    """Let a pipeline of Albumentations stand for the whole augmentation.

    Args:
        albumentations: What `albumentations.to_dict()` gives, or the path of a file that
            `albumentations.save()` wrote; see `AlbumentationsPipeline`.
    """

    stream = None
    follows_label = True
    exclusive = True

    def __init__(self, *, albumentations: dict[str, Any] | str | None = None) -> None:
        self.pipeline = None if albumentations is None else AlbumentationsPipeline(albumentations)

    @property
    def active(self) -> bool:
        """Return whether there is a pipeline."""
        return self.pipeline is not None

    def apply(self, sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
        """Let the pipeline make the sample, without a warp."""
        assert self.pipeline is not None
        image, label = self.pipeline(
            sample.image, sample.label, rng, ignore_index=sample.ignore_index
        )
        return sample._replace(image=image, label=label, warped=True)


class AlbumentationsPipeline:
    """A pipeline of Albumentations for an image and its label.

    Labels are only copied (nearest interpolation), and the pipeline fills them with the ignored
    value. A label that comes out with a value that it did not have is an error. So are mistakes
    for which the library itself would warn and use something else.

    Args:
        source: What `albumentations.to_dict()` gives, or the path of a JSON or YAML file that
            `albumentations.save()` wrote.

    Raises:
        ValueError: If the library is missing, or the pipeline uses what cannot be used; all such
            problems are named.
    """

    def __init__(self, source: dict[str, Any] | str) -> None:
        library = _library()
        tree = parse_config(source) if isinstance(source, str) else source
        where = source if isinstance(source, str) else "albumentations"
        if not isinstance(tree.get("transform"), dict):
            raise ConfigError(
                where, [f'expected {{"transform": ...}}, as to_dict() gives it, not {show(tree)}']
            )
        builder = _Builder(library)
        pipeline = builder.build(tree["transform"], "transform")
        if builder.problems:
            version = str(tree.get("__version__"))
            if version[:2] in ("0.", "1."):
                text = f"the file is of version {show(version)}, from which {INSTALL[12:]} differs"
                builder.problems.insert(0, f"__version__: {text}")
            raise ConfigError(where, builder.problems)
        self._compose = library.Compose([pipeline])
        leaves = list(_leaves(pipeline))
        movers = [t for t in leaves if not isinstance(t, library.ImageOnlyTransform)]
        self._movers = ", ".join(dict.fromkeys(type(t).__name__ for t in movers))
        self._changes_values = any(isinstance(t, library.ImageOnlyTransform) for t in leaves)
        # None leaves the label as it is.
        self._fills = [t for t in leaves if getattr(t, "fill_mask", None) is not None]

    def __call__(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator, *, ignore_index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Transform one pair; the arguments stay as they were.

        Args:
            image: (H, W, C), uint8, or float32.
            label: (H, W), uint8 or int16.
            rng: The only source of chance; equal generators give equal samples.
            ignore_index: Label of the pixels outside the source image.

        Returns:
            Image (h, w, C) and label (h, w), of the types they came in.

        Raises:
            DataError: If the library refuses the image, changes its type or channels, or invents a
                label.
        """
        self._check_input(image)
        for transform in self._fills:
            transform.fill_mask = ignore_index
        # Not set_random_seed: it would give every transform the same draws.
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        try:
            # Copies, as some transforms write into what they get.
            result = self._compose(image=image.copy(), mask=label.copy())
        except Exception as error:  # of any kind, for an image that does not fit
            raise DataError(f"albumentations: {_one_line(error)}") from error
        new_image, new_label = result["image"], result["mask"]
        for kind, old, new in (("image", image, new_image), ("label", label, new_label)):
            if (new.dtype, new.shape[2:]) != (old.dtype, old.shape[2:]):
                raise DataError(
                    f"albumentations: the {kind} was {old.shape}, {old.dtype}, and is {new.shape}, "
                    f"{new.dtype} now; remove what changes its type or channels"
                )
        self._check_label(label, new_label, ignore_index)
        return new_image, new_label

    def _check_label(self, old: np.ndarray, new: np.ndarray, ignore_index: int) -> None:
        """Raise `DataError` for new label values that the constructor's checks missed."""
        invented = np.setdiff1d(_values(new), [*_values(old), ignore_index])[:5].tolist()
        if invented:
            raise DataError(
                f"albumentations ({self._movers}): the label has the new values {invented}; "
                "remove the transform that changes labels"
            )

    def _check_input(self, image: np.ndarray) -> None:
        """Raise `DataError` for an image that the library would clip or scale silently."""
        if image.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"albumentations: images have to be of type uint8 or float32, not {image.dtype}; "
                "use the augmentation of this program"
            )
        if image.dtype == np.float32 and self._changes_values:
            low, high = float(image.min()), float(image.max())
            if low < 0 or high > 1:
                raise DataError(
                    "albumentations: transforms that change values cut float images to 0..1, but "
                    f"this one has {low:g} to {high:g}; use transforms of geometry only"
                )


class _Builder:
    """Builds transforms from plain data and collects its problems.

    Args:
        library: The module `albumentations`.
    """

    def __init__(self, library: Any) -> None:
        self.library = library
        self.problems: list[str] = []

    def build(self, node: Any, path: str, *, image_only: bool = False) -> Any:
        """Return a transform, or None with a problem."""
        cls = self._named(node, path)
        if cls is None:
            return None
        path = f"{path} ({cls.__name__})"
        args = {key: value for key, value in node.items() if key != "__class_fullname__"}
        if issubclass(cls, self.library.BaseCompose):
            return self._compose(cls, args, path, image_only)
        if "p" not in args:
            self.problems.append(f'{path}: "p" is missing, the probability of applying it')
            return None
        transform = self._leaf(cls, args, path)
        if transform is not None:
            self._check(transform, path, image_only)
        return transform

    def _named(self, node: Any, path: str) -> Any:
        """Return the class of a node: one of the library, as nothing else can be named."""
        name = node.get("__class_fullname__") if isinstance(node, dict) else None
        if not isinstance(name, str):
            expected = '{"__class_fullname__": ..., "p": ...}'
            self.problems.append(f"{path}: expected {expected}, not {show(node)}")
            return None
        if name.startswith("albumentations."):
            name = name.rpartition(".")[2]
        if name in REFUSED:
            self.problems.append(f"{path}: {name} cannot be used: {REFUSED[name]}")
            return None
        library = self.library
        roots = (library.BasicTransform, library.BaseCompose)
        bases = (*roots, library.DualTransform, library.ImageOnlyTransform, library.Transform3D)
        known = {
            key: value
            for key, value in vars(library).items()
            if isinstance(value, type) and issubclass(value, roots) and value not in bases
        }
        if name not in known and name in GONE:
            self.problems.append(f"{path}: Albumentations 2 has no {name}; use {GONE[name]}")
        elif name not in known:
            self.problems.append(
                f"{path}: Albumentations has no transform {name!r}{suggest(name, known)}"
            )
        return known.get(name)

    def _compose(self, cls: Any, args: dict[str, Any], path: str, image_only: bool) -> Any:
        """Build a composition and its transforms."""
        keys = (
            _COMPOSE_KEYS if cls is self.library.Compose else (*inspect.signature(cls).parameters,)
        )
        nodes = args.get("transforms")
        unknown = [key for key in args if key not in keys]
        for key in unknown:
            self.problems.append(f"{path}: takes no {key!r}{suggest(key, keys)}")
        for key in ("bbox_params", "keypoint_params", "additional_targets"):
            if args.pop(key, None):
                self.problems.append(
                    f"{path}: {key} cannot be used; a sample is one image and its mask"
                )
        args.pop("is_check_shapes", None)
        if not isinstance(nodes, list) or not nodes:
            self.problems.append(f'{path}: "transforms" has to be a list that is not empty')
            return None
        selective = cls is self.library.SelectiveChannelTransform
        children = [
            self.build(child, f"{path}.transforms.{i}", image_only=image_only or selective)
            for i, child in enumerate(nodes)
        ]
        if unknown or any(child is None for child in children):
            return None
        return self._construct(cls, {**args, "transforms": children}, path)

    def _leaf(self, cls: Any, args: dict[str, Any], path: str) -> Any:
        """Build a transform that is no composition."""
        keys = inspect.signature(cls).parameters
        # Without it the library replaces some values by defaults, with a warning.
        owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
        strict = {"strict": True} if "InitSchema" in vars(owner) else {}
        own = {key: value for key, value in args.items() if key in keys}
        old = renamed(cls.__name__, args, keys)
        for names, (new, value) in old.items():
            self.problems.append(f"{path}: {describe_renamed(names, new, value)}")
        if old:  # the missing arguments are reported already
            new_args = {new: value for new, value in old.values() if new and value is not None}
            own = {**new_args, **own}
            args = {key: value for key, value in args.items() if not any(key in o for o in old)}
        transform = self._construct(cls, {**own, **strict}, path)
        # to_dict() also writes values that some constructors compute and do not take.
        written = {} if transform is None else transform.to_dict_private()
        for key in [key for key in args if key not in own]:
            if key not in written or json.dumps(written[key]) != json.dumps(args[key]):
                self.problems.append(f"{path}: takes no {key!r}{suggest(key, keys)}")
        return transform

    def _construct(self, cls: Any, args: dict[str, Any], path: str) -> Any:
        try:
            return cls(**args)
        except Exception as error:  # of any kind: values of any kind come in
            self.problems.append(f"{path}: {_one_line(error)}")
            return None

    def _check(self, transform: Any, path: str, image_only: bool) -> None:
        """Report what needs more than a pair, or would separate image and label."""
        missing = set(transform.targets_as_params) - {"mask"}
        if missing or isinstance(transform, self.library.Transform3D):
            needs = ", ".join(sorted(missing)) or "volumes"
            self.problems.append(f"{path}: needs {needs}; a sample is one image and its mask")
        interpolation = getattr(transform, "mask_interpolation", None)
        if interpolation not in (None, cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT):
            self.problems.append(
                f"{path}: mask_interpolation {interpolation} would invent labels; use 0 (nearest)"
            )
        if getattr(transform, "area_for_downscale", None) == "image_mask":
            self.problems.append(
                f'{path}: area_for_downscale "image_mask" would average labels; use "image"'
            )
        if getattr(transform, "mask_drop_value", None) is not None:
            self.problems.append(
                f"{path}: mask_drop_value drops other pixels of the label than of the image; "
                "remove it"
            )
        if image_only and not isinstance(transform, self.library.ImageOnlyTransform):
            self.problems.append(
                f"{path}: would move some channels but not the label; inside "
                "SelectiveChannelTransform use transforms of colour only"
            )


def _library() -> Any:
    """Import and return the module `albumentations`."""
    # It would ask the package registry for its newest version on import.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError:
        raise ValueError(f"albumentations: is not installed; {INSTALL}") from None
    if not hasattr(albumentations.Compose, "set_random_state"):
        raise ValueError(
            f"albumentations: the installed version {albumentations.__version__} cannot be seeded "
            f"for each sample; {INSTALL}"
        )
    return albumentations


def _values(label: np.ndarray) -> np.ndarray:
    """Return the values of a label; faster than `np.unique`."""
    plain = label.view(f"u{label.itemsize}").ravel()  # a negative one counts from above
    return np.flatnonzero(np.bincount(plain)).astype(label.dtype)


def _leaves(transform: Any) -> Iterator[Any]:
    """Yield all transforms of a composition that are no compositions."""
    if not hasattr(transform, "transforms"):
        yield transform
        return
    for child in transform.transforms:
        yield from _leaves(child)


def _one_line(error: Exception) -> str:
    """Return an exception's message in one line; pydantic's as "argument: message"."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return " ".join(str(error).split()) or type(error).__name__
    return "; ".join(
        ": ".join([*(str(key) for key in detail["loc"][:1]), detail["msg"]]) for detail in details()
    )
