"""Who makes which file: no two images the same, and none a file that is an image."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from prediction.jobs.image_file import ImageFile, is_address
from utils.files.data_file import StrPath

# Returns the files to make of an image, all below the output folder. It is called often, so it
# looks at no file.
Outputs = Callable[[ImageFile], Sequence[StrPath]]


class Claims:
    """The files to make of all images so far.

    Of most paths only the hash is kept, so that a million images take about 200 MB.

    Args:
        outputs: Returns the files to make of an image.
        real: Returns a path without links.
    """

    def __init__(self, outputs: Outputs, real: Callable[[str], str] = os.path.realpath) -> None:
        self._outputs = outputs
        self._real = real
        self._owners: dict[int | str, ImageFile] = {}

    def claim(self, image: ImageFile) -> None:
        """Note the files of one more image; the same image may come again.

        Raises:
            ValueError: If one of them is another image's, or an image itself.
        """
        own = self._own(image)
        other = self._owner(own, image)
        if other.file != image.file and own != self._own(other):
            raise _is_image(image.file)
        for path in self._outputs(image):
            real = self._real(os.fspath(path))
            other = self._owner(real, image)
            if real == (own if other.file == image.file else self._own(other)):
                raise _is_image(path)
            if other.file != image.file:
                raise ValueError(
                    f"{other.file} and {image.file} would both become {path}: rename one, choose "
                    "with --extension, or run them with two --output folders"
                )

    def _owner(self, path: str, image: ImageFile) -> ImageFile:
        """Return the first image that is a file or makes it: this one, unless there was another."""
        other = self._owners.setdefault(hash(path), image)
        if other.file == image.file or path in (self._own(other), *self._files_of(other)):
            return other
        return self._owners.setdefault(path, image)  # another path has the same hash

    def _own(self, image: ImageFile) -> str:
        return image.file if is_address(image.file) else self._real(image.file)

    def _files_of(self, image: ImageFile) -> Iterator[str]:
        return (self._real(os.fspath(path)) for path in self._outputs(image))


def _is_image(path: object) -> ValueError:
    return ValueError(
        f"--output: {path} is one of the images and would be replaced; choose another folder"
    )


def check_one_by_one(
    images: Iterable[ImageFile], outputs: Outputs
) -> Iterator[tuple[ImageFile, str | None]]:
    """Yield images as they arrive, each with the reason why it cannot be predicted, or None.

    Of images that come while others are predicted, one that collides with an earlier one fails
    alone.
    """
    claims = Claims(outputs)
    for image in images:
        try:
            claims.claim(image)
        except ValueError as error:
            yield image, str(error)
        else:
            yield image, None
