"""Downloads from a server of this machine: what is fetched, and what is not."""

import contextlib
import http.server
import os
import socket
import threading
from pathlib import Path

import pytest

from prediction.jobs import download
from prediction.jobs.download import Limits, fetch, local_file
from prediction.jobs.image_file import ImageFile
from utils.files.data_file import DataError

BYTES = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, self.headers))
        kind = self.path.split("/")[1]
        if kind == "to":
            self.answer(302, {"Location": self.server.targets[self.path], "Content-Length": "0"})
        elif kind == "missing":
            self.send_error(404)
        elif kind == "chunked":
            self.answer(200, {"Transfer-Encoding": "chunked"})
            for _ in range(4):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(BYTES), BYTES))
            self.wfile.write(b"0\r\n\r\n")
        elif kind == "short":
            self.answer(200, {"Content-Length": str(len(BYTES) + 1)})
            self.wfile.write(BYTES)
            self.close_connection = True
        elif kind == "slow":
            self.answer(200, {"Content-Length": "1000"})
            while not self.server.stop.wait(0.02):
                self.wfile.write(b"x")
            self.close_connection = True
        elif kind == "silent":
            self.server.stop.wait(60)
        else:
            self.answer(200, {"Content-Length": str(len(BYTES))})
            self.wfile.write(BYTES)

    def answer(self, code, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(OSError):  # the client has gone
            super().handle()


@pytest.fixture
def server(here, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(here / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (here / "tmp").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen, server.targets, server.stop = [], {}, threading.Event()
        server.host = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["plain", "chunked"])
def test_feature_a_file_as_long_as_it_is_read(server, here, kind):
    image = ImageFile(f"{server.host}/{kind}/sub/über all.jpg?x=1", "name.jpg")
    with local_file(image) as path:
        assert path.read_bytes() == BYTES * (4 if kind == "chunked" else 1)
        assert path.is_relative_to(here / "tmp") and path.name.endswith(".jpg")
    assert not os.listdir(here / "tmp")
    ((requested, headers),) = server.seen
    assert requested == f"/{kind}/sub/%C3%BCber%20all.jpg?x=1"
    assert headers["Accept-Encoding"] == "identity"


def test_feature_an_image_of_this_machine_is_itself(here):
    with local_file(ImageFile("sub/a.jpg", "a.jpg")) as path:
        assert path == Path("sub/a.jpg")


FAULTS = {
    "missing": (Limits(), "404"),
    "short": (Limits(), f"after {len(BYTES)} of {len(BYTES) + 1} bytes"),
    "plain": (Limits(bytes=len(BYTES) - 1), "larger"),
    "chunked": (Limits(bytes=4 * len(BYTES) - 1), "larger"),
    "slow": (Limits(seconds=0.1), "seconds"),
    "silent": (Limits(silence=0.1), "timed out"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_exception_what_is_not_whole_is_not_there(server, here, kind):
    limits, said = FAULTS[kind]
    address = f"{server.host}/{kind}/a.jpg"
    with pytest.raises(DataError, match=said) as error, local_file(ImageFile(address, "a"), limits):
        raise AssertionError("no file")
    assert str(error.value).startswith(f"{address}: ")
    assert not os.listdir(here / "tmp")


def test_feature_limits_are_exact(server, here):
    fetch(f"{server.host}/plain/a.jpg", here / "a", Limits(bytes=len(BYTES)))
    fetch(f"{server.host}/chunked/a.jpg", here / "b", Limits(bytes=4 * len(BYTES)))
    assert (here / "b").stat().st_size == 4 * len(BYTES)


def test_exception_nobody_answers(here):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(DataError, match="cannot be fetched"):
            fetch(f"http://127.0.0.1:{port}/a.jpg", here / "a")


# --- Redirects


def redirect(server, target):
    path = f"/to/{len(server.targets)}.jpg"
    server.targets[path] = target
    return path


def test_feature_redirects(server, here):
    """Also from one private host to another."""
    second = redirect(server, f"{server.host}/plain/a.jpg")
    first = redirect(server, second)  # without the host
    fetch(server.host + first, here / "a")
    assert (here / "a").read_bytes() == BYTES


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "x:y"])
def test_exception_redirects_to_other_schemes(server, here, target):
    with pytest.raises(DataError, match=target.split(":")[0]):
        fetch(server.host + redirect(server, target), here / "a")


def test_exception_redirects_without_end(server, here):
    path = redirect(server, "")
    server.targets[path] = path
    with pytest.raises(DataError, match="infinite loop"):
        fetch(server.host + path, here / "a")


PRIVATE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0",
           "100.64.0.1", "[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "127.1",
           "2130706433", "0x7f000001", "localhost", "both.example"]  # fmt: skip


@pytest.fixture
def names(monkeypatch):
    """A public name whose server is the one of the test, and one that has a private address."""
    whole = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host == "both.example":
            entries = whole("93.184.216.34", None), whole("10.0.0.1", None)
            return [*entries[0], *entries[1]]
        if host == "public.example":  # without a port it is only looked at
            return whole("127.0.0.1" if port else "93.184.216.34", port, *args, **kwargs)
        return whole(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("host", PRIVATE)
def test_exception_redirects_from_outside_into_a_private_network(server, here, names, host):
    outside = server.host.replace("127.0.0.1", "public.example")
    path = redirect(server, f"http://{host}:{server.server_port}/plain/a.jpg")
    # Over another redirect, so that it is the first host that counts.
    path = redirect(server, outside + path)
    with pytest.raises(DataError, match="private network"):
        fetch(outside + path, here / "a")
    assert not (here / "a").exists()
    assert all(seen.startswith("/to/") for seen, _ in server.seen)


def test_feature_redirects_outside(server, here, names):
    outside = server.host.replace("127.0.0.1", "public.example")
    fetch(outside + redirect(server, f"{outside}/plain/a.jpg"), here / "a")
    assert (here / "a").read_bytes() == BYTES


@pytest.mark.parametrize(
    ("before", "after", "fine"),
    [("http", "https", True), ("https", "http", False), ("https", "https", True)],
)
def test_feature_redirects_may_only_become_safer(before, after, fine):
    follow = download._Redirects(f"{before}://93.184.216.34/a.jpg").redirect_request
    start = download.request.Request(f"{before}://93.184.216.34/a.jpg")
    words = (start, None, 302, "Found", {}, f"{after}://93.184.216.34/b.jpg")
    if fine:
        assert follow(*words).full_url == words[-1]
    else:
        with pytest.raises(DataError, match="http in place of https"):
            follow(*words)
