"""A trained model from Python: `Segmenter("best_model.pth")(image)`."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from prediction.fields import copies_of
from prediction.jobs.image_file import is_address
from prediction.open_model import WITH_LOGITS, Passes, open_model
from prediction.outputs import Outputs
from prediction.pipeline import Pipeline, Task
from prediction.predict_images import label_rule, names_of, pixel_rule
from prediction.predictor.memory import MemoryBudget
from prediction.predictor.merge import Flip, Merge
from prediction.predictor.network import WINDOW_SIZES
from prediction.predictor.views import SCALES
from prediction.predictor.windows import Blend, WindowRule
from prediction.products.kinds import Settings, class_number
from prediction.products.map_facts import area_unit, pixel_area
from prediction.products.rows import FIELDS, ImageFacts, Product, Rows
from prediction.products.sheets import names_and_colours
from prediction.source.image_source import ImageSource, LoadedImage
from prediction.source.open_image import Limits, open_image, open_map
from utils.checkpoint.model_file import find_model
from utils.cli.choices import DEFAULT_MODE
from utils.drawing.overlay import draw_overlay
from utils.drawing.palette import colorize
from utils.files.geo_file import GeoReference, is_georeferenced, read_georeference
from utils.files.image_head import ExifRule
from utils.memory import parse_bytes

# Modes of PIL that `convert("RGB")` keeps the values of.
_8_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")

ImageLike = str | Path | np.ndarray | torch.Tensor | Image.Image


class Segmenter:
    """A trained model, ready to predict images of any size.

    What the options mean is explained by `python inference.py --help`, whose predictions these are.

    Args:
        model: A checkpoint or the folder of a run; a list of several is an ensemble.
        device: `"cpu"`, `"cuda"`, a GPU's number, or `"auto"` for a GPU if there is one.
        mode: `"multiscale"`, `"sliding"` or `"whole"`; see `Predictor`.
        scales: The sizes of mode multiscale.
        flip: Which mirror images are predicted too.
        merge: How sizes, mirror images and models become one.
        amp: The precision of the network: `"off"`, `"auto"`, `"bf16"` or `"fp16"`.
        compile_model: Whether the network goes through `torch.compile()`.
        window: Cut images larger than this many pixels a side into windows; None: only those that
            do not fit into memory.
        overlap: The part of a window that the next one sees too.
        blend: How overlapping windows are weighed.
        memory: The most memory of this process, such as `"2GB"`; None for what is free.
        unsure: Below this confidence, pixels get the ignored id.
        weights: How much each model of an ensemble counts.
        config: For a file of bare weights: the training's config.
        exif: `"apply"` or `"ignore"` the EXIF orientation of files; None: as in training.

    Attributes:
        classes: The names of the K classes.
        palette: A colour (red, green, blue) for each class.

    Raises:
        ValueError: If the model cannot be used, or an argument is out of range.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path],
        *,
        device: str = "auto",
        mode: str = DEFAULT_MODE,
        scales: Sequence[float] = SCALES,
        flip: Flip | None = None,
        merge: Merge = "mean-logits",
        amp: str = "off",
        compile_model: bool = False,
        window: int | None = None,
        overlap: float = 0.25,
        blend: Blend = "gaussian",
        memory: str | int | None = None,
        unsure: float | None = None,
        weights: Sequence[float] = (),
        config: str | None = None,
        exif: ExifRule | None = None,
    ) -> None:
        paths = [model] if isinstance(model, (str, Path)) else list(model)
        if not paths:
            raise ValueError("model: expected a checkpoint, or a list of at least one")
        if exif not in (None, "apply", "ignore"):
            raise ValueError(f'exif: expected "apply", "ignore" or None, got {exif!r}')
        if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
            raise ValueError(f"window: expected a whole number of pixels, got {window!r}")
        size = WINDOW_SIZES[0] if window is None else window
        opened = open_model(
            [find_model(str(path))[0] for path in paths],
            Passes(mode, scales, flip, merge, amp, compile_model),
            weights=weights,
            device=None if device == "auto" else device,
            config=config,
            exif=exif,
        )
        if not opened.has_scores:
            raise ValueError(f"{paths[0]} gives class ids without confidence; {WITH_LOGITS}")
        self._predictor, self._meta = opened.predictor, opened.meta
        self._labels = label_rule(opened.meta, unsure)
        self._budget = MemoryBudget(
            opened.predictor,
            opened.meta.channels,
            total=parse_bytes(memory) if isinstance(memory, str) else memory,
            rule=WindowRule(size, overlap, blend),
            fixed=window is not None,
            classes=len(opened.meta.classes),
            copies=copies_of(FIELDS),
        )
        self.classes = opened.meta.classes
        self.palette = opened.meta.palette[: len(self.classes)]

    @property
    def model(self) -> nn.Module:
        """The network itself, from normalised images (B, C, H, W) to logits (B, K, H, W)."""
        return self._predictor.model

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Any:
        """Segment an image, or each of a list.

        Args:
            images: A path; an image of PIL; an array (H, W, C) or, for one channel, (H, W); or a
                tensor (C, H, W). 8-bit values, or the raw values of the sensor that the model is
                for. A list, or a tensor (B, C, H, W), gives a list.

        Returns:
            A `Segmentation`, or a list of them.

        Raises:
            ValueError: If an image cannot be read, or has other channels than the model's.
            RuntimeError: If not even a small window fits into memory.
        """
        if isinstance(images, torch.Tensor) and images.dim() == 4:
            return [self._segment(image) for image in images]
        if isinstance(images, (str, Path, np.ndarray, torch.Tensor, Image.Image)):
            return self._segment(images)
        if not isinstance(images, Iterable):
            raise ValueError(
                "expected a path, an image of PIL, an array, a tensor, or a list of these, got "
                f"{type(images).__name__}"
            )
        return [self._segment(image) for image in images]

    def save(
        self,
        image: ImageLike,
        folder: str | Path,
        products: Sequence[str] = ("ids",),
        *,
        name: str | None = None,
        **settings: Any,
    ) -> list[Path]:
        """Segment an image straight to files, as little of it in memory as for `inference.py`.

        Args:
            image: As for a call.
            folder: Where the files go; it is made.
            products: What to write, in the words of `--save`: `["ids", "polygons.coco"]`.
            name: What the files are called, without an extension; None for the image's own name.
            settings: Fields of `Settings`, such as `overwrite=True`.

        Returns:
            The files.

        Raises:
            ValueError: If an image or product cannot be made.
            FileExistsError: If a file exists.
        """
        outputs = self._outputs(folder, products, settings)
        path, relative, geo = self._place(image, name)
        files = [kind.path(outputs.folder, relative, geo is not None) for kind in outputs.kinds]

        def open_products(facts: ImageFacts) -> list[Product]:
            return [
                kind.open(file, facts, outputs.settings)
                for kind, file in zip(outputs.kinds, files, strict=True)
                if file is not None
            ]

        task = Task(None, path, relative, self._opener(image), open_products, geo)
        self._run(task, outputs.needs)
        return [file for file in files if file is not None]

    def _segment(self, image: ImageLike) -> Segmentation:
        collected = _Collector()
        path, relative, geo = self._place(image, None)
        task = Task(None, path, relative, self._opener(image), lambda _: [collected], geo)
        self._run(task, collected.needs)
        ids, confidence = collected.result()
        return Segmentation(self, image, ids, confidence, geo)

    def _run(self, task: Task[None], needs: Any) -> None:
        pipeline = Pipeline(
            self._predictor, self._labels, names_of(self._meta), self._budget, needs=needs
        )
        for done in pipeline.run([task]):
            if done.error is not None:
                raise done.error

    def _opener(self, image: ImageLike) -> Any:
        def open_source(limits: Limits) -> ImageSource:
            if isinstance(image, (str, Path)):
                opener = open_map if is_georeferenced(image) else open_image
                return opener(Path(image), pixel_rule(self._meta), limits)
            return LoadedImage(self.pixels(image))

        return open_source

    def pixels(self, image: ImageLike) -> np.ndarray:
        """Return the pixels (H, W, C) of an image as the model takes them, before normalisation.

        Raises:
            ValueError: If it has another shape or type.
        """
        if isinstance(image, (str, Path)):
            source = open_image(Path(image), pixel_rule(self._meta), Limits(float("inf")))
            with contextlib.closing(source):
                return source.read(0, 0, source.height, source.width)
        if isinstance(image, Image.Image):
            image = self._pixels_of_pil(image)
        if isinstance(image, torch.Tensor):
            if image.dim() != 3:
                raise ValueError(f"expected a tensor (C, H, W), got shape {tuple(image.shape)}")
            image = image.float() if image.dtype == torch.bfloat16 else image
            image = image.detach().cpu().permute(1, 2, 0).numpy()
        if not isinstance(image, np.ndarray):
            raise ValueError(f"an image cannot be a {type(image).__name__}")
        if image.ndim == 2:
            image = image[..., None]
        return self._checked(image)

    def _pixels_of_pil(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of an image of PIL, read as its file would be."""
        if self._meta.exif == "apply":
            image = ImageOps.exif_transpose(image)
        if self._meta.band_rule is not None:
            return np.asarray(image)
        if image.mode not in _8_BITS:
            raise ValueError(
                f"the image of PIL has mode {image.mode}, which is not 8 bits a channel; scale its "
                "values to 0..255 and convert it to RGB"
            )
        return np.asarray(image.convert("RGB"))

    def _checked(self, image: np.ndarray) -> np.ndarray:
        channels, rule = self._meta.channels, self._meta.band_rule
        if image.ndim != 3 or not image.size or image.shape[2] != channels:
            raise ValueError(
                f"expected an image (H, W, {channels}), or a tensor ({channels}, H, W), got shape "
                f"{image.shape}"
            )
        wanted = np.dtype("uint8" if rule is None else rule.dtype)
        if image.dtype == wanted:
            return np.ascontiguousarray(image)
        if wanted == np.uint8 and image.dtype.kind == "f" and 0 <= image.min() <= image.max() <= 1:
            return np.rint(image * 255).astype(np.uint8)  # as `to_tensor()` of torchvision gives it
        if wanted == np.float32 and image.dtype.kind in "uif":
            return np.ascontiguousarray(image, np.float32)
        raise ValueError(
            f"the model takes {wanted} values{' (or floats in 0..1)' * (wanted == np.uint8)}, got "
            f"{image.dtype} from {image.min()} to {image.max()}"
        )

    def _outputs(
        self, folder: str | Path, products: Sequence[str], settings: dict[str, Any]
    ) -> Outputs:
        words = products if isinstance(products, str) else ",".join(products)
        outputs = Outputs.of(words, self.classes, Path(folder), Settings(**settings))
        for kind in outputs.kinds:
            if kind.is_per_run:
                raise ValueError(f"products: {kind.name} is of a whole run; use inference.py")
        outputs.folder.mkdir(parents=True, exist_ok=True)
        return outputs

    def _place(self, image: ImageLike, name: str | None) -> tuple[Path, Path, GeoReference | None]:
        """Return the file of an image, what its products are called like, and where it lies."""
        if isinstance(image, str) and is_address(image):
            raise ValueError(f"{image}: addresses are for inference.py --allow-download")
        if name is not None and (name.strip() in ("", "..") or Path(name).name != name):
            raise ValueError(f"name: expected that of a file, without folders, got {name!r}")
        path = Path(image) if isinstance(image, (str, Path)) else Path("image.png")
        geo = read_georeference(path) if isinstance(image, (str, Path)) else None
        return path, Path(path.name if name is None else f"{name}{path.suffix}"), geo


class Segmentation:
    """What a model predicts for one image.

    Attributes:
        ids: (H, W) class ids, uint8 or uint16.
        confidence: (H, W) float32: the probability of the predicted class.
        classes: The names of the K classes.
        palette: A colour for each class.
        geo: Where the image lies; None if its file does not say so.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        image: ImageLike,
        ids: np.ndarray,
        confidence: np.ndarray,
        geo: GeoReference | None,
    ) -> None:
        self._segmenter, self._image, self._sum = segmenter, image, _checksum(image)
        self.ids, self.confidence, self.geo = ids, confidence, geo
        self.classes, self.palette = segmenter.classes, segmenter.palette

    def area(self, name: str | int) -> float:
        """Return the area of a class, by its name or id: in `unit`, of pixels or of the map.

        Raises:
            ValueError: If there is no such class, or several of this name.
        """
        pixels = int(np.count_nonzero(self.mask(name)))
        return pixels * (pixel_area(self.geo) if self.geo is not None else 1)

    @property
    def unit(self) -> str:
        """The unit of `area()`: that of the map, squared, or `"pixels"`."""
        return area_unit(self.geo) or "pixels"

    def mask(self, name: str | int) -> np.ndarray:
        """Return where a class is, by its name or id, (H, W) bool.

        Raises:
            ValueError: If there is no such class, or several of this name.
        """
        number = class_number(str(name), self.classes)
        if number is None:
            raise ValueError(f"no class {name!r}; the classes are {', '.join(self.classes)}")
        made: np.ndarray = self.ids == number
        return made

    def colour(self) -> Image.Image:
        """Return the mask in the classes' colours."""
        return Image.fromarray(colorize(self.ids, self.palette, self._ignored()))

    def overlay(self) -> Image.Image:
        """Return the image with the classes tinted and outlined, and a legend below.

        Raises:
            ValueError: If an array or tensor has changed since it was predicted.
        """
        self._check_image()
        pixels = self._segmenter._meta.preview(self._segmenter.pixels(self._image))
        height, width = self.ids.shape
        facts = ImageFacts(
            Path(), Path(), height, width, self.classes, self.palette, self._ignored()
        )
        return Image.fromarray(draw_overlay(pixels, self.ids, *names_and_colours(facts)))

    def save(
        self, folder: str | Path, products: Sequence[str] = ("ids",), **settings: Any
    ) -> list[Path]:
        """Write products of the image; see `Segmenter.save()`, which predicts it once more.

        Raises:
            ValueError: As there; or if an array or tensor has changed since it was predicted.
        """
        self._check_image()
        return self._segmenter.save(self._image, folder, products, **settings)

    def _check_image(self) -> None:
        if _checksum(self._image) != self._sum:
            raise ValueError("the image has changed since it was predicted: pass a copy of it")

    def _ignored(self) -> int | None:
        largest = int(self.ids.max())
        return largest if largest >= len(self.classes) else None

    def __repr__(self) -> str:
        height, width = self.ids.shape
        counts = np.bincount(self.ids.ravel(), minlength=len(self.classes))[: len(self.classes)]
        most = [self.classes[number] for number in np.argsort(-counts)[:3] if counts[number]]
        return f"Segmentation({height}x{width}, mostly {', '.join(most) or 'nothing'})"


def _checksum(image: ImageLike) -> int | None:
    """Return a checksum of the values of an array or tensor; None for other images."""
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().contiguous().view(torch.uint8).numpy()
    return zlib.crc32(np.ascontiguousarray(image).data) if isinstance(image, np.ndarray) else None


class _Collector:
    """A product that is kept in memory."""

    needs: Iterable[str] = ("confidence",)

    def __init__(self) -> None:
        self._rows: list[Rows] = []

    def write(self, rows: Rows) -> None:
        """Keep rows."""
        self._rows.append(rows)

    def finish(self) -> None:
        """Do nothing: `result()` joins the rows."""

    def discard(self) -> None:
        """Forget what was kept: the image begins anew."""
        self._rows.clear()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and confidence (H, W)."""
        confidences = [rows.confidence for rows in self._rows if rows.confidence is not None]
        return np.concatenate([rows.ids for rows in self._rows]), np.concatenate(confidences)
