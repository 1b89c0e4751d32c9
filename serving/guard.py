"""What every request goes through: who may ask, what is counted, and the headers of answers."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics
from serving.refusal import Refusal

# What anybody may see: no data, and nothing of the models.
OPEN_PATHS = ("/", "/docs", "/openapi.json", "/health")
_LINGER_SECONDS = 10.0  # how long the rest of an upload is read that was refused
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_LOCAL = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Middleware around the whole application.

    Args:
        app: The application.
        token: What clients have to send; None for nothing.
        paths: The paths that there are, for the metrics.
        metrics: What is counted.

    Attributes:
        is_stopping: Whether new requests are answered with 503.
        running: How many requests are not answered yet.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, paths: Collection[str], metrics: Metrics
    ) -> None:
        self._app, self._token, self._paths, self._metrics = app, token, paths, metrics
        self.is_stopping = False
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        began = time.perf_counter()
        self.running += 1
        try:
            self._check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        finally:
            self.running -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(path, exchange.status, time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        """Refuse who may not ask, and everybody while the server stops.

        Raises:
            Refusal: If the request is not to be answered.
        """
        if self.is_stopping:
            raise Refusal(503, "the server is stopping", retry_after=10)
        headers = Headers(scope=scope)
        if self._token is None:
            _check_own_host(headers)
        elif scope["path"] not in OPEN_PATHS:
            kind, _, token = headers.get("authorization", "").partition(" ")
            given, own = token.strip().encode(), self._token.encode()
            # In constant time, lest the time of an answer tell how much of it is right.
            if kind.lower() != "bearer" or not hmac.compare_digest(given, own):
                raise Refusal(
                    401,
                    "send the token of the server, as in `Authorization: Bearer TOKEN`",
                    headers={"WWW-Authenticate": "Bearer"},
                )


def _check_own_host(headers: Headers) -> None:
    """Refuse pages of other hosts: a browser on this machine would send whatever they want.

    Raises:
        Refusal: If a request comes from such a page, or by another host's name.
    """
    own = headers.get("host", "")
    if _host_of(f"//{own}") not in _LOCAL:
        raise Refusal(
            403, "without a token the server answers to 127.0.0.1 and localhost only; use --token"
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != own:
        raise Refusal(403, "pages of other hosts may not use this server")


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class _Exchange:
    """One request and its answer.

    Args:
        receive: As ASGI has it.
        send: Likewise.

    Attributes:
        status: The status of the answer; 499 if there was nobody to answer.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._is_read = False
        self.status = 499

    async def receive(self) -> Message:
        """Return the next piece of the request."""
        message = await self._receive()
        self._is_read = self._is_read or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer, with our headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            there = {name for name, _ in message["headers"]}
            more = [pair for pair in _HEADERS if pair[0] not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        elif not message.get("more_body", False) and not self._is_read:
            # A client that is still sending sees the answer only if its connection stays.
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _discard(self) -> None:
        async def rest() -> None:
            while not self._is_read:
                await self.receive()

        try:
            await asyncio.wait_for(rest(), _LINGER_SECONDS)
        except asyncio.TimeoutError:
            self._is_read = True

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error."""
        body = error_body(refusal.message)
        headers = {
            "content-type": "application/json", "content-length": str(len(body)),
            **{name.lower(): value for name, value in refusal.headers.items()},
        }  # fmt: skip
        await self.send(
            {
                "type": "http.response.start",
                "status": refusal.status,
                "headers": list(_encoded(headers.items())),
            }
        )
        await self.send({"type": "http.response.body", "body": body})


def error_body(message: str) -> bytes:
    """Return the body of every answer that is an error."""
    return json.dumps({"error": message}).encode()


def _encoded(headers: Iterable[tuple[str, Any]]) -> Iterable[tuple[bytes, bytes]]:
    return ((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
