"""From the command line to a server, and to its end."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from serving.limits import Limits
from serving.options import TOKEN_VARIABLE
from utils.memory import parse_bytes

_PACKAGES = {
    "fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}  # fmt: skip
_MAX_CONNECTIONS = 512
_HEAD_SECONDS = 10.0
_IDLE_SECONDS = 2.0


def check(arguments: argparse.Namespace) -> tuple[Limits, str | None, socket.socket]:
    """Find what is wrong before a model is loaded, which takes seconds.

    Returns:
        The limits, the token if there is one, and the socket, which has its port.

    Raises:
        ValueError: If something is wrong.
    """
    missing = [pip for name, pip in _PACKAGES.items() if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(f"serve.py needs more packages: pip install {' '.join(missing)}")
    limits = Limits.of(arguments)
    if arguments.memory is not None:
        try:
            parse_bytes(arguments.memory)
        except ValueError as error:
            raise ValueError(f"--memory: {error}") from None
    if not arguments.batch_wait >= 0:
        raise ValueError(f"--batch-wait: is 0 or more, not {arguments.batch_wait:g}")
    if arguments.config is not None and not os.path.isfile(arguments.config):
        raise ValueError(f"--config: there is no file {arguments.config}")
    if arguments.scales is not None and arguments.mode != "multiscale":
        raise ValueError(f"--scales: is for --mode multiscale, not {arguments.mode}")
    return limits, _token(arguments), _bind(arguments.host, arguments.port)


def _token(arguments: argparse.Namespace) -> str | None:
    given = arguments.token is not None
    token: str | None = arguments.token if given else os.environ.get(TOKEN_VARIABLE)
    where = "--token" if given else TOKEN_VARIABLE
    if token is not None and (len(token) < 8 or not token.isascii() or not token.isprintable()):
        raise ValueError(f"{where}: is at least 8 letters, digits and signs of ASCII")
    if token is not None and token != token.strip():
        raise ValueError(f"{where}: has no spaces at its ends")
    if token is None and not _is_own(arguments.host):
        raise ValueError(
            f"--host: {arguments.host} can be reached from other machines, which needs a token: "
            f"{TOKEN_VARIABLE}=$(openssl rand -hex 16) python serve.py ..., and put TLS in front"
        )
    return token


def _is_own(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that has the port, so that a port that is taken is told at once.

    Raises:
        ValueError: If it is taken, or no address.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        # With the protocol: asyncio switches Nagle's algorithm off where it is named, which would
        # hold each answer back for 40 ms.
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ValueError(f"--host: {host} is no address ({error.strerror})") from None
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(_MAX_CONNECTIONS)
    except OSError as error:
        taken.close()
        option = "--host" if error.errno in (99, 49) else "--port"
        fix = "; choose another, or 0 for any free one" if option == "--port" else ""
        raise ValueError(
            f"{option}: {host}:{port} cannot be used ({error.strerror}){fix}"
        ) from None
    return taken


def serve(
    arguments: argparse.Namespace,
    files: dict[str, str],
    limits: Limits,
    token: str | None,
    listener: socket.socket,
) -> None:
    """Load the models and answer requests until a signal comes.

    Args:
        arguments: The command line.
        files: The models' files by their names.
        limits: As from `check()`.
        token: Likewise.
        listener: Likewise.

    Raises:
        ValueError: If a model cannot be used.
    """
    import logging

    import uvicorn

    from serving.app import Service, make_app
    from serving.batcher import Batcher
    from serving.metrics import Metrics
    from serving.protocol import TimedProtocol
    from serving.served_model import load_models
    from utils.runs.logger import log_to_console

    log_to_console(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # clients' faults are no news
    models = load_models(files, arguments)
    metrics = Metrics()
    batcher = Batcher(arguments.batch_size, arguments.batch_wait / 1000, metrics)
    folder = Path(tempfile.mkdtemp(prefix="serve-"))
    service = Service(models, limits, batcher, metrics, folder)
    app = make_app(service, metrics, token)
    seconds = limits.upload_seconds
    protocol: Any = functools.partial(
        TimedProtocol, head_seconds=min(_HEAD_SECONDS, seconds), read_seconds=seconds
    )
    config = uvicorn.Config(
        app, http=protocol, loop="asyncio", ws="none", lifespan="off", access_log=False,
        log_config=None, server_header=False, limit_concurrency=_MAX_CONNECTIONS,
        backlog=_MAX_CONNECTIONS,
    )  # fmt: skip

    class Server(uvicorn.Server):
        """A server that answers what it has accepted before it ends."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Begin to stop; stop at once when a second signal comes."""
            if app.is_stopping:
                _leave(folder, 130)
            app.is_stopping = True

        async def on_tick(self, counter: int) -> bool:
            """Return whether to end."""
            if app.is_stopping and not app.running:
                self.should_exit = True
            return await super().on_tick(counter)

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(
        f"{', '.join(models)}: http://{shown}:{port}/ (page), /v1/predict, /docs; Ctrl-C stops",
        flush=True,
    )
    try:
        Server(config).run(sockets=[listener])
        if not service.close(_IDLE_SECONDS):
            _leave(folder, 0)  # a thread cannot be ended in the middle of a forward pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _leave(folder: Path, code: int) -> NoReturn:
    """End the process with its threads, whatever they do."""
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    os._exit(code)
