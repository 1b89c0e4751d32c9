"""What a client may send: each fault is answered with its own status, and harms nobody else."""

import concurrent.futures
import contextlib
import io
import itertools
import socket
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.bombs import PICTURES, npy
from tests.prediction.program import write_image
from tests.serving.server import Server, answer_of

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
RAW = HEAD + b"Content-Type: image/png\r\n"
FORM = HEAD + b"Content-Type: multipart/form-data; boundary=x\r\n"


@pytest.fixture
def good(folder):
    return write_image(folder / "a.png", (64, 48)).read_bytes()


@pytest.fixture(autouse=True)
def _serves_on(server, good):
    """After each fault the next image is answered as before, and nothing is in work."""
    yield
    answer = server.predict(good)
    assert answer.status_code == 200 and server.client.get("/health").status_code == 200
    assert Image.open(io.BytesIO(answer.content)).size == (64, 48)


def encoded(kind, size=(64, 48)):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def flat(side):
    """An image of few bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(buffer, "PNG")
    return buffer.getvalue()


# Files


@pytest.mark.parametrize("name", PICTURES)
def test_exception_decompression_bombs(server, name):
    began = time.monotonic()
    answer = server.predict(PICTURES[name]())
    assert answer.status_code in (413, 415, 422), answer.text
    assert "/tmp" not in answer.text and "serve-" not in answer.text
    assert time.monotonic() - began < 10


BROKEN = {
    "half a JPEG": (lambda: encoded("JPEG")[:1500], 422),
    "half a PNG": (lambda: encoded("PNG")[:4000], 422),
    "a PNG with a changed byte": (lambda: encoded("PNG").replace(b"IDAT", b"IDAS", 1), 422),
    "the first bytes of a TIFF": (lambda: b"II*\0" + bytes(20), 422),
    "a page": (lambda: b"<html><script>alert(1)</script></html>", 415),
    "an SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415),
    "an archive": (lambda: b"PK\3\4" + bytes(100), 415),
    "a pickle": (lambda: b"\x80\4cos\nsystem\n.", 415),
    "a VRT that names a file": (lambda: b"<VRTDataset><SourceFilename>/etc/passwd", 415),
    "noise": (lambda: np.random.default_rng(0).bytes(5000), 415),
    "nothing": (lambda: b"", 400),
    "too many pixels": (lambda: flat(1001), 413),
    "too many bytes": (lambda: encoded("PNG") + bytes(3_000_000), 413),
}


@pytest.mark.parametrize("name", BROKEN)
def test_exception_broken_files(server, name):
    make, status = BROKEN[name]
    answer = server.predict(make())
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_feature_one_broken_image_harms_no_other(server, good):
    sent = [good, encoded("JPEG")[:1500], good, b"noise", PICTURES["text.png"](), good] * 5
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(server.predict, sent))
    expected = server.predict(good).content
    for data, answer in zip(sent, answers, strict=True):
        if data is good:
            assert answer.status_code == 200 and answer.content == expected
        else:
            assert answer.status_code in (413, 415, 422)


def test_feature_changed_bytes(server):
    """Files with a few other bytes are an image or a refusal, never a fault of the server."""
    generator = np.random.default_rng(0)
    files = [encoded(kind, (24, 32)) for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")]
    files.append(npy((24, 32, 3), data=bytes(24 * 32 * 3)))

    def ask(number):
        data = bytearray(files[number % len(files)])
        for place in generator.integers(0, min(len(data), 400), 1 + number % 4):
            data[place] = generator.integers(256)
        return server.predict(bytes(data[: len(data) - number % 3 * 50])).status_code

    assert {ask(number) for number in range(140)} <= {200, 413, 415, 422}


# Forms


def test_exception_wrong_forms(server, good):
    post = server.client.post

    def form(**more):
        return post("/v1/predict", files={"image": good}, data=more)

    assert post("/v1/predict", content=b"x").status_code == 415
    assert post("/v1/predict", json={"image": "/etc/passwd"}).status_code == 415
    assert post("/v1/predict", data={"image": "/etc/passwd"}).status_code == 415
    assert post("/v1/predict", files={"picture": good}).status_code == 422
    text = {"image": (None, "/etc/passwd")}
    assert post("/v1/predict", files=text).status_code == 422
    assert post("/v1/predict", files=[("image", good), ("image", good)]).status_code == 400
    assert form(**{f"field{n}": "1" for n in range(1000)}).status_code == 400
    assert form(products="x" * 100_000).status_code in (400, 413)
    assert form(model="../../etc/passwd").status_code == 404
    assert form(url="http://127.0.0.1/").status_code == 422
    for field, value in (("products", ""), ("products", "idz"), ("products", "ids,ids"),
                         ("products", "class:car"), ("products", "summary"),
                         ("products", "polygons.labelme"), ("products", 'class:"road'),
                         ("strength", "2"), ("strength", "nan"), ("legend", "perhaps"),
                         ("min_area", "-1"), ("format", "xml"), ("product", "ids")):  # fmt: skip
        answer = form(**{field: value})
        assert answer.status_code == 422 and answer.json()["error"], (field, value, answer.text)
    # The name of a file is nothing to the server.
    named = {"image": ("../../../tmp/x\0.png", good)}
    assert post("/v1/predict", files=named).status_code == 200


def test_exception_wrong_calls(server):
    assert server.client.get("/v1/predict").status_code == 405
    assert server.client.get("/nothing").status_code == 404
    assert server.client.get("/../../etc/passwd").status_code == 404
    assert server.client.get("/docs/..%2f..%2fserve.py").status_code == 404


BODIES = {
    "no boundary": HEAD + b"Content-Type: multipart/form-data\r\nContent-Length: 4\r\n\r\n--x-",
    "no part": FORM + b"Content-Length: 4\r\n\r\nabcd",
    "a part without an end": FORM + b"Content-Length: 66\r\n\r\n--x\r\nContent-Disposition: "
    b'form-data; name="image"; filename="a"\r\n',
    "a part without a name": FORM + b"Content-Length: 15\r\n\r\n--x\r\n\r\na\r\n--x--",
    "a negative length": RAW + b"Content-Length: -5\r\n\r\nabcde",
    "a length that is no number": RAW + b"Content-Length: five\r\n\r\nabcde",
    "two lengths": RAW + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "a length that is too small": RAW + b"Content-Length: 2\r\n\r\nabcde and more",
    "no chunk": RAW + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "a head that is too long": HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n",
}


@pytest.mark.parametrize("name", BODIES)
def test_exception_malformed_requests(server, name):
    with server.connection() as bare:
        bare.sendall(BODIES[name])
        assert 400 <= answer_of(bare) < 500


def test_exception_a_length_that_is_too_large(server):
    """Of a client that says nothing more: it ends its side, or waits."""
    for ends, status in ((True, 400), (False, 408)):
        with server.connection() as bare:
            bare.sendall(RAW + b"Content-Length: 1000\r\n\r\nabcde")
            if ends:
                bare.shutdown(socket.SHUT_WR)
            assert answer_of(bare) == status


# Size and speed


@pytest.mark.parametrize("kind", ["form", "body", "chunks"])
def test_exception_a_hundred_megabytes(server, kind):
    """The answer arrives although the client is in the middle of its upload."""
    piece = bytes(1 << 20)
    raw = {"content-type": "image/png"}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        if kind == "form":
            answer = server.predict(io.BytesIO(bytes(100_000_000)), client)
        elif kind == "body":
            answer = client.post("/v1/predict", content=bytes(100_000_000), headers=raw)
        else:
            pieces = itertools.repeat(piece, 100)
            answer = client.post("/v1/predict", content=pieces, headers=raw)
    assert answer.status_code == 413 and "2000000" in answer.json()["error"]


def trickle(server, start, pause=0.2):
    """Send a request byte by byte; return the status of the answer."""
    with server.connection() as bare:
        bare.sendall(start)
        bare.settimeout(pause)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                if bare.recv(1, socket.MSG_PEEK) is not None:
                    break
            except TimeoutError:
                bare.sendall(b"x")
        bare.settimeout(10)
        return answer_of(bare)


def test_exception_slow_senders(server, good):
    """Of bodies and of heads, and a hundred of them, while others are answered as usual."""
    starts = [RAW + b"Content-Length: 100000\r\n\r\n", HEAD + b"X: ", FORM
              + b"Content-Length: 100000\r\n\r\n--x\r\n"]  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        slow = [pool.submit(trickle, server, starts[n % 3]) for n in range(100)]
        time.sleep(0.5)
        assert server.predict(good).status_code == 200
        assert {each.result() for each in slow} == {408}


def test_exception_a_client_that_does_not_read(server):
    """Its connection ends, and its answer is forgotten."""
    body = flat(990)
    with socket.socket() as bare:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bare.connect(("127.0.0.1", server.port))
        head = RAW.replace(b"/v1/predict", b"/v1/predict?products=probabilities,ids.npy,image")
        bare.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        bare.settimeout(30)
        assert bare.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        time.sleep(3)
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := bare.recv(1 << 20):
                size += len(piece)
    assert size < 7_000_000  # of 10 million


def test_exception_a_full_queue_and_a_late_answer(model_file, good):
    """More than may wait get 429; what takes too long 503; both say when to come again."""
    large = encoded("PNG", (400, 400))
    words = ["--queue", "2", "--timeout", "1.5", "--batch-size", "1"]
    with Server(model_file, words=words, options=("--flip", "all8")) as server:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(server.predict, [large] * 8))
        seconds = time.monotonic() - began
        statuses = {answer.status_code for answer in answers}
        assert statuses == {429, 503} and seconds < 20
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        # What nobody waits for is given up: the next image does not wait for it.
        while "segmentation_images_in_work 0.0" not in server.client.get("/metrics").text:
            assert time.monotonic() - began < 30
            time.sleep(0.05)
        assert server.predict(encoded("PNG", (16, 16))).status_code == 200


def test_feature_a_client_that_goes_takes_its_image_along(server):
    """Its place is free at once."""
    body = encoded("PNG", (900, 900))
    for _ in range(3):
        with server.connection() as bare:
            bare.sendall(RAW + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    end = time.monotonic() + 20
    while "segmentation_images_in_work 0.0" not in server.client.get("/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.05)
