"""The body of a request: an image, and fields that say what to make of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import NamedTuple

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serving.answer import FIELDS, check_fields
from serving.limits import Limits
from serving.refusal import Refusal

_MULTIPART = "multipart/form-data"
_RAW = ("application/octet-stream", "image/")
_FORM_BYTES = 16_384  # what boundaries and fields may take beside the image
_FIELD_BYTES = 4096

_Parts = tuple[bytes, dict[str, str]]  # the image, and the fields beside it


class Upload(NamedTuple):
    """What a client has sent."""

    image: bytes
    fields: dict[str, str]


class Uploads:
    """Reads uploads within the limits, all of them together too.

    Args:
        limits: What an upload may take.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0  # bytes

    @contextlib.contextmanager
    def hold(self) -> Iterator[_Held]:
        """Count what is read in this context; it is forgotten at the end."""
        held = _Held(self)
        try:
            yield held
        finally:
            self._held -= held.bytes

    async def read(self, request: Request, held: _Held) -> Upload:
        """Return the image and the fields of a request.

        The image is a file of a form (`multipart/form-data`), or the body itself, with the fields
        in the query.

        Raises:
            Refusal: If it is too large or too slow, or no such form.
        """
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != _MULTIPART and not kind.startswith(_RAW):
            raise Refusal(
                415,
                "send the image as the file `image` of a form (multipart/form-data), or as the "
                "body with the content type image/png or application/octet-stream",
            )
        fields = dict(request.query_params)
        check_fields(fields)
        most = self._limits.max_bytes + (_FORM_BYTES if kind == _MULTIPART else 0)
        self._check_claim(request, most)
        body = held.counted(request, most)
        try:
            reading = self._form(request, body) if kind == _MULTIPART else _joined(body)
            image, more = await asyncio.wait_for(reading, self._limits.upload_seconds)
        except asyncio.TimeoutError:
            raise Refusal(
                408, f"the upload took more than {self._limits.upload_seconds:g} seconds"
            ) from None
        except ClientDisconnect:
            raise Refusal(400, "the upload has ended too early") from None
        fields.update(more)
        if not image:
            raise Refusal(400, "the upload has no bytes: send a file `image`")
        return Upload(image, fields)

    def _check_claim(self, request: Request, most: int) -> None:
        claim = request.headers.get("content-length", "0")
        if claim.isascii() and claim.isdigit() and int(claim) > most:
            raise self.too_large()

    def too_large(self) -> Refusal:
        """Return the refusal of an upload that is too large."""
        return Refusal(413, f"an upload has at most {self._limits.max_bytes} bytes")

    def take(self, size: int) -> None:
        """Count bytes that are kept.

        Raises:
            Refusal: If all uploads together would be too large.
        """
        if self._held + size > self._limits.held_bytes:
            raise Refusal(429, "too many uploads at the same time; try again", retry_after=1)
        self._held += size

    async def _form(self, request: Request, body: AsyncGenerator[bytes, None]) -> _Parts:
        parser = MultiPartParser(
            request.headers, body, max_files=1, max_fields=len(FIELDS), max_part_size=_FIELD_BYTES
        )
        parser.spool_max_size = self._limits.max_bytes + _FORM_BYTES  # never a file
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:
            text = getattr(error, "message", "it cannot be parsed")
            raise Refusal(400, f"the form is malformed: {text}") from None
        return await _parts_of(form)


class _Held:
    """The bytes of one upload that are in memory."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self.bytes = 0

    async def counted(self, request: Request, most: int) -> AsyncGenerator[bytes, None]:
        """Yield the body of a request in pieces.

        Raises:
            Refusal: If it is too large.
        """
        async for piece in request.stream():
            if self.bytes + len(piece) > most:
                raise self._uploads.too_large()
            self._uploads.take(len(piece))
            self.bytes += len(piece)
            yield piece


async def _joined(body: AsyncIterator[bytes]) -> _Parts:
    return b"".join([piece async for piece in body]), {}


async def _parts_of(form: FormData) -> _Parts:
    image, fields = b"", dict[str, str]()
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "image":
                raise Refusal(422, f"the file of the form is called image, not {name[:40]!r}")
            image = await value.read()
        elif name == "image":
            raise Refusal(422, "image: is a file of the form, not a text")
        else:
            fields[name] = value
    await form.close()
    check_fields(fields)
    return image, fields
