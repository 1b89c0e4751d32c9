"""serve.py in a process of its own, on a free port."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx

from tests.conftest import ROOT


def command_of(*words):
    return [sys.executable, str(ROOT / "serve.py"), *map(str, words)]


class Server:
    """A running server; a context manager that ends it."""

    def __init__(self, *models, words=(), environment=None, options=("--mode", "whole")):
        self._command = command_of(
            "-m", *models, "--port", 0, "--device", "cpu", *options, *words
        )  # fmt: skip
        # One thread for the network: with more than free cores, threads wait for each other.
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}

    def __enter__(self):
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self._environment,
        )  # fmt: skip
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.communicate()[1])
        self.url = re.search(r"http://\S+?:\d+", line)[0]
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, timeout=60)
        # A pipe that nobody reads would stop the server.
        self.errors = ""
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        return self

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors += line

    def __exit__(self, *error):
        self.client.close()
        if self.process.poll() is None:
            self.stop()

    def stop(self, seconds=60):
        """Ask the server to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def predict(self, data, client=None, **fields):
        """Send an image; return the answer."""
        client = client or self.client
        return client.post("/v1/predict", files={"image": ("image", data)}, data=fields)

    @contextlib.contextmanager
    def connection(self):
        """A bare connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as bare:
            yield bare


def answer_of(bare):
    """Read all that comes until the end; return the status of the answer, 0 if there is none."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := bare.recv(65536):
            data += piece
            if b"\r\n\r\n" in data and b'"error"' in data:
                break
    found = re.match(rb"HTTP/1.1 (\d+)", data)
    return int(found[1]) if found else 0
