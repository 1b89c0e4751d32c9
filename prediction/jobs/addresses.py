"""The http(s) addresses of images, and the names of their files."""

import hashlib
import os
import re
from urllib.parse import SplitResult, unquote, urlsplit

MAX_NAME = 50  # characters of a part of a name: a file system takes 255 bytes


def check_address(address: str, *, allow_download: bool) -> None:
    """Refuse an address that cannot be fetched.

    Raises:
        ValueError: If it has no host, contains a password, or downloads are not allowed.
    """
    if not allow_download:
        raise ValueError(
            f"--images: {address} is an address; --allow-download fetches it from there"
        )
    parts = _split(address)
    if not parts.hostname:
        raise ValueError(f"--images: {address} has no host; write https://host/image.jpg")
    if "@" in parts.netloc:
        raise ValueError(
            f"--images: an address with a user's name is not fetched, as {parts.hostname}'s is "
            "stored in tables and printed; download it with another program"
        )


def name_of_address(address: str) -> str:
    """Return the name of an address's image: host and path, safe for every file system.

    What follows a `?` is replaced by its digest, so that such addresses have names of their own.
    """
    parts = _split(address)
    names = [safe_name(unquote(part)) for part in (parts.netloc, *parts.path.split("/")) if part]
    if len(names) < 2:
        names.append("image")
    if parts.query:
        stem, extension = os.path.splitext(names[-1])
        digest = hashlib.sha256(parts.query.encode(errors="surrogateescape")).hexdigest()
        names[-1] = f"{stem}-{digest[:8]}{extension}"
    return "/".join(names)


def safe_name(text: str) -> str:
    """Return a text as the name of a file that is neither hidden nor leads elsewhere."""
    stem, extension = os.path.splitext(re.sub(r"[^\w.+()-]", "_", text).strip("."))
    return (stem[: MAX_NAME - len(extension)] + extension)[:MAX_NAME] or "image"


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises if it is no number
    except ValueError as error:
        raise ValueError(f"--images: {address} is no address: {error}") from None
    return parts
