"""What a manifest is told of each image, and what it says is done already."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from prediction.jobs.image_file import ImageFile, is_address
from prediction.jobs.manifest import NO_DIGESTS, Digests, Manifest
from prediction.outputs import Outputs, RunProducts
from prediction.pipeline import Done
from prediction.provenance import OPTIONS
from utils.cli.sanitize import first_line
from utils.files.digest import digest_file, digest_files, digest_settings

# The options that change what is written of an image.
RESULT_OPTIONS = (
    *OPTIONS, "save", "strength", "outlines", "no_legend", "min_area", "simplify"
)  # fmt: skip


def digest_of_run(models: Sequence[str], arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the digests of the models and of the options that every result depends on.

    Raises:
        DataError: If a file cannot be read.
    """
    options = {name: getattr(arguments, name) for name in RESULT_OPTIONS}
    config = arguments.config and digest_file(arguments.config)
    return digest_files(models), digest_settings({**options, "config": config})


class Recorder:
    """Skips the images of which a manifest knows that they are done, and records the others.

    Args:
        manifest: The manifest.
        outputs: What is written of each image.
        of_run: The products of the whole run, which the manifest knows nothing of.
        models: The checkpoints.
        arguments: The command line.
        bands: Returns all files of an image.
    """

    def __init__(
        self,
        manifest: Manifest,
        outputs: Outputs,
        of_run: RunProducts,
        models: Sequence[str],
        arguments: argparse.Namespace,
        bands: Callable[[Path], Sequence[Path]],
    ) -> None:
        self._manifest, self._outputs, self._bands = manifest, outputs, bands
        self._of_run = of_run
        self._overwrite: bool = arguments.overwrite
        self._model, self._settings = digest_of_run(models, arguments)
        self._digests: dict[str, Digests] = {}
        self.kept = 0  # images that were done already

    def to_do(
        self, images: Iterable[ImageFile], refused: Callable[[Done[ImageFile]], None]
    ) -> Iterator[ImageFile]:
        """Yield the images that are not done; `refused` is told of those that cannot be begun."""
        for image in images:
            try:
                digests = Digests(self._digest(image), self._model, self._settings)
                paths = self._outputs.paths(image)
                if not self._overwrite and self._is_done(image, digests, paths):
                    self.kept += 1
                    continue
                self._manifest.begin(image, paths, overwrite=self._overwrite)
            except (ValueError, OSError) as error:
                refused(Done(image, error, 0.0))
                continue
            self._digests[image.name] = digests
            yield image

    def _is_done(self, image: ImageFile, digests: Digests, paths: Sequence[str]) -> bool:
        return self._of_run.have(image) and self._manifest.is_done(image, digests, paths)

    def _digest(self, image: ImageFile) -> str:
        if is_address(image.file):  # whose bytes are not here yet
            return digest_settings({"address": image.file})
        return digest_files(self._bands(image.path))

    def finished(self, done: Done[ImageFile]) -> None:
        """Record what has become of an image."""
        image = done.job
        digests = self._digests.pop(image.name, NO_DIGESTS)
        if done.error is None:
            kinds = [kind.title for kind in self._outputs.per_image]
            products = dict(zip(kinds, self._outputs.paths(image), strict=True))
            self._manifest.finish(image, digests, products, done.seconds)
        else:
            reason = first_line(done.error).removeprefix(f"{image.file}: ")
            self._manifest.fail(image, digests, reason, done.seconds)
