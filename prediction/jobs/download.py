"""Images of http(s) addresses, fetched when they are read and not when they are found."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, BinaryIO
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from prediction.jobs.addresses import name_of_address
from prediction.jobs.image_file import ImageFile, is_address
from utils.files.data_file import DataError

CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a download may take."""

    bytes: int = 512 << 20  # size of the file
    silence: float = 30.0  # seconds without an answer
    seconds: float = 600.0  # seconds in all


DEFAULT_LIMITS = Limits()


@contextlib.contextmanager
def local_file(image: ImageFile, limits: Limits = DEFAULT_LIMITS) -> Iterator[Path]:
    """Return the file of an image, within this context: its own, or a temporary copy.

    An address is fetched by http or https only, through the proxy that the environment names. A
    redirect may change http to https, but to no other scheme, and may not lead from a public host
    to a private address (127.0.0.1, 10.0.0.1, 192.168.0.1, 169.254.169.254, ::1 ...). That keeps a
    public server from reading this network through us, but not one whose name resolves to a private
    address when it is connected a moment later, nor what a proxy resolves; an address that itself
    names a private host is fetched as it is written. Certificates are verified as Python does.

    Raises:
        DataError: If the image cannot be fetched, or is larger than the limit.
    """
    if not is_address(image.file):
        yield image.path
        return
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        path = Path(folder, os.path.basename(name_of_address(image.file)))
        fetch(image.file, path, limits)
        yield path


def fetch(address: str, target: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Write what an address answers to a new file; see `local_file()`.

    Raises:
        DataError: If it cannot be fetched, or is larger than the limit.
    """
    wanted = request.Request(
        # What a browser's address bar accepts, such as spaces and umlauts.
        quote(address, safe="%/:?#[]@!$&'()*+,;=~"),
        headers={"User-Agent": "segmentation-trainer", "Accept-Encoding": "identity"},
    )
    try:
        answer = _opener(address).open(wanted, timeout=limits.silence)
        with answer, open(target, "xb") as file:
            _copy(answer, file, address, limits)
    except DataError:
        raise
    except HTTPError as error:
        error.close()
        raise DataError(f"{address}: the server answers {error.code} ({error.reason})") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise DataError(f"{address}: cannot be fetched ({reason})") from None


def _copy(answer: HTTPResponse, file: BinaryIO, address: str, limits: Limits) -> None:
    claimed, count = answer.length, 0
    until = time.monotonic() + limits.seconds
    _check_size(claimed or 0, address, limits)
    while chunk := answer.read1(CHUNK):  # what is there, so that the time is looked at
        count += len(chunk)
        _check_size(count, address, limits)
        if time.monotonic() > until:
            raise DataError(f"{address}: takes longer than {limits.seconds:.0f} seconds")
        file.write(chunk)
    if claimed is not None and count < claimed:
        raise DataError(f"{address}: the answer ends after {count} of {claimed} bytes")


def _check_size(count: int, address: str, limits: Limits) -> None:
    if count > limits.bytes:
        raise DataError(
            f"{address}: is larger than the {limits.bytes / 1e6:.0f} MB that are fetched; download "
            "it with another program"
        )


def _opener(address: str) -> request.OpenerDirector:
    """Return an opener without the handlers of file:, ftp: and data:."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
        _Redirects(address),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(request.HTTPRedirectHandler):
    """Follows redirects, but not out of http(s) and not from outside into a private network."""

    def __init__(self, address: str) -> None:
        self._address = address

    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage,
        newurl: str,
    ) -> request.Request | None:  # fmt: skip
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if (before.scheme, after.scheme) not in (
            ("http", "http"), ("http", "https"), ("https", "https"),
        ):  # fmt: skip
            raise DataError(
                f"{self._address}: leads to {newurl}, which is not fetched: {after.scheme} in "
                f"place of {before.scheme}"
            )
        if _is_private(after.hostname) and not _is_private(urlsplit(self._address).hostname):
            raise DataError(f"{self._address}: leads to {newurl}, which is in a private network")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_private(host: str | None) -> bool:
    """Return whether a host has an address that the public network does not lead to."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):  # only a proxy knows it
        return False
    addresses = (ipaddress.ip_address(text) for text in found)
    return any(not (getattr(one, "ipv4_mapped", None) or one).is_global for one in addresses)
