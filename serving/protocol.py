"""HTTP/1.1 whose connections cannot be held open by sending or reading slowly."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'content-length: 40\r\n\r\n{"error": "the request took too long"}\r\n'
)


class TimedProtocol(H11Protocol):
    """uvicorn's protocol with time limits: it has none for heads, and none for slow readers.

    Args:
        args: As uvicorn gives them.
        head_seconds: For the head of a request, from its connection or the answer before it.
        read_seconds: For a client to take what was sent.
        settings: As uvicorn gives them.
    """

    def __init__(
        self, *args: Any, head_seconds: float, read_seconds: float, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._head_seconds, self._read_seconds = head_seconds, read_seconds
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._time_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        super().data_received(data)
        self._time_head()

    def eof_received(self) -> None:
        """Answer a client that ends in the middle of its upload, as far as it still reads."""
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self.conn.receive_data(b"")
            self.handle_events()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has begun: then the connection ends."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head = _cancel(self._head)
        self._reader = _cancel(self._reader)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read, for a while."""
        super().pause_writing()
        self._reader = self.loop.call_later(self._read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._reader = _cancel(self._reader)

    def _time_head(self) -> None:
        """Run the clock while no request is in work: bytes that trickle in do not stop it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _cancel(self._head)
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self._head_seconds, self._late)

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self.transport.write(_LATE)
        self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; return what stands for none."""
    if timer is not None:
        timer.cancel()
    return None
