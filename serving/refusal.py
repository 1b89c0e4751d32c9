"""The answer to a request that gets no product."""

from collections.abc import Mapping


class Refusal(Exception):
    """A request that is answered with an error.

    Args:
        status: The status code of HTTP, RFC 9110.
        message: What is wrong, and how to put it right.
        retry_after: Seconds after which the client may try again; None for a fault that stays.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        retry = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.headers = {**(headers or {}), **retry}
