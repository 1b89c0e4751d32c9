"""What a client may ask for."""

import argparse
import dataclasses

from utils.memory import parse_bytes

_UPLOADS_HELD = 8  # largest uploads that are in memory together


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    Raises:
        ValueError: If a limit is out of its range.
    """

    max_bytes: int  # of one upload
    max_pixels: float  # of one image
    queue: int  # images in work or waiting
    seconds: float  # from the upload to the answer
    upload_seconds: float  # for the upload

    def __post_init__(self) -> None:
        for name in ("max_pixels", "seconds", "upload_seconds"):
            if not getattr(self, name) > 0:
                option = {"seconds": "timeout"}.get(name, name.replace("_seconds", "-timeout"))
                option = option.replace("_", "-")
                raise ValueError(f"--{option}: is more than 0, not {getattr(self, name):g}")

    @property
    def held_bytes(self) -> int:
        """The most bytes of all uploads together."""
        return _UPLOADS_HELD * self.max_bytes

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Limits":
        """Return the limits that the command line gives.

        Raises:
            ValueError: If one is out of its range.
        """
        try:
            max_bytes = parse_bytes(arguments.max_bytes)
        except ValueError as error:
            raise ValueError(f"--max-bytes: {error}") from None
        return cls(
            max_bytes,
            arguments.max_pixels,
            arguments.queue,
            arguments.timeout,
            arguments.upload_timeout,
        )
