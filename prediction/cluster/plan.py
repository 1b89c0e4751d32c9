"""Which images are to be done, found out once before actors share them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from prediction.cluster import stores
from prediction.cluster.calls import Result, Todo
from prediction.cluster.targets import Target
from prediction.jobs.claims import Claims
from prediction.jobs.image_file import ImageFile
from prediction.jobs.manifest import Manifest
from prediction.outputs import Outputs

_MAY_BE_GEO = (".tif", ".tiff")


class Plan(NamedTuple):
    """The images of a run."""

    todos: Sequence[Todo]
    kept: int  # images that have all products
    refused: Sequence[Result]  # images that cannot be begun


def make_plan(
    images: Sequence[ImageFile],
    outputs: Outputs,
    target: Target,
    *,
    manifest: Manifest | None,
    overwrite: bool,
) -> Plan:
    """Choose the images to do; with a manifest, all of which the actors do not find a result.

    Args:
        images: All images.
        outputs: What is written of each.
        target: Where it goes.
        manifest: What has become of images in earlier runs; it gets a row of each that is begun.
        overwrite: Whether products that exist are made anew.

    Raises:
        ValueError: If two images would make the same product, or one is a product itself.
        OSError: If a row cannot be written.
    """
    claims = Claims(lambda image: _addresses(image, outputs, target), target.real)
    for image in images:
        claims.claim(image)
    exists = target.lookup()
    if manifest is not None:
        return _plan_with_manifest(images, outputs, target, manifest, overwrite=overwrite)
    todos = []
    for image in images:
        there = [] if overwrite else [n for n in _names(image, outputs) if exists(n)]
        if not any(set(names) <= set(there) for names in possible_names(image, outputs)):
            todos.append(Todo(*image, there if target.is_remote else ()))
    return Plan(todos, len(images) - len(todos), ())


def _plan_with_manifest(
    images: Sequence[ImageFile],
    outputs: Outputs,
    target: Target,
    manifest: Manifest,
    *,
    overwrite: bool,
) -> Plan:
    """Hand out all images with what is known of them; begin those that have no result."""
    todos, refused = [], []
    exists = target.lookup()
    for image in images:
        row = manifest.row(image.name)
        if row is None or row.error:
            try:
                manifest.begin(
                    image,
                    _names(image, outputs),
                    overwrite=overwrite,
                    exists=lambda path: exists(path.as_posix()),
                )
            except ValueError as error:
                refused.append(Result(image.name, str(error)))
                continue
            row = None
        todos.append(Todo(*image, (), row))
    return Plan(todos, 0, refused)


def possible_names(image: ImageFile, outputs: Outputs) -> list[list[str]]:
    """Return the names of an image's products; twice, where they depend on what is in an object.

    A TIFF that is geo-referenced has products that are, too. To look into each object of a store
    would take a request for each.
    """
    if not stores.is_store(image.file):
        return [_named(image, outputs, outputs.is_geo(image))]
    plain = _named(image, outputs, False)
    if not image.file.lower().endswith(_MAY_BE_GEO):
        return [plain]
    geo = _named(image, outputs, True)
    return [plain] if geo == plain else [plain, geo]


def _named(image: ImageFile, outputs: Outputs, geo: bool) -> list[str]:
    paths = (kind.path(Path(), image.relative, geo) for kind in outputs.per_image)
    return [path.as_posix() for path in paths if path is not None]


def _names(image: ImageFile, outputs: Outputs) -> list[str]:
    return [*dict.fromkeys(name for names in possible_names(image, outputs) for name in names)]


def _addresses(image: ImageFile, outputs: Outputs, target: Target) -> list[str]:
    return [target.address(name) for name in _names(image, outputs)]
