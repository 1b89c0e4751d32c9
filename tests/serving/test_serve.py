"""serve.py from outside: the answers, the models, the limits of who may ask, and its end."""

import base64
import concurrent.futures
import io
import os
import re
import socket
import subprocess
import time

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

import models
from tests.prediction.program import run, write_image
from tests.serving.server import Server, command_of

IMAGES = {"a.png": (64, 48), "b.jpg": (50, 70), "c.bmp": (33, 17), "d.webp": (40, 40),
          "e.tif": (31, 29), "f.gif": (20, 20)}  # fmt: skip


def pixels(data):
    return np.array(Image.open(io.BytesIO(data)))


def test_feature_products_are_those_of_inference_to_the_byte(server, model_file, folder):
    """Masks and other files, for each format of images."""
    for number, (name, size) in enumerate(IMAGES.items()):
        write_image(folder / name, size, seed=number)
    words = "ids,colour,overlay,confidence,entropy,probabilities,class:road,ids.npy,polygons"
    assert run(model_file, "-i", folder, "-o", "out", "--save", words) == 0
    for name in IMAGES:
        data, stem = (folder / name).read_bytes(), name.partition(".")[0]
        files = {
            "ids": f"{stem}.png", "colour": f"{stem}_colour.png", "overlay": f"{stem}_overlay.png",
            "confidence": f"{stem}_confidence.png", "entropy": f"{stem}_entropy.png",
            "probabilities": f"{stem}_probabilities.npy", "class:road": f"{stem}_road.png",
            "ids.npy": f"{stem}.npy", "polygons": f"{stem}.geojson",
        }  # fmt: skip
        for product, file in files.items():
            answer = server.predict(data, products=product)
            assert answer.status_code == 200, answer.text
            expected = (folder.parent / "out" / file).read_bytes()
            assert answer.content == expected, (name, product)


def test_feature_a_map_gives_maps(server, model_file, folder):
    """GeoTIFFs and polygons in the coordinates of the map."""
    rasterio = pytest.importorskip("rasterio")
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8)
    place = rasterio.transform.from_origin(500_000, 5_000_000, 2, 2)
    path = folder / "map.tif"
    with rasterio.open(path, "w", driver="GTiff", width=60, height=40, count=3, dtype="uint8",
                       crs="EPSG:32633", transform=place, photometric="RGB") as file:  # fmt: skip
        file.write(values)
    assert run(model_file, "-i", path, "-o", "out", "--save", "ids,polygons") == 0
    answer = server.predict(path.read_bytes())
    assert answer.headers["content-type"] == "image/tiff"
    assert answer.content == (folder.parent / "out/map.tif").read_bytes()
    polygons = server.predict(path.read_bytes(), products="polygons")
    assert polygons.content == (folder.parent / "out/map.geojson").read_bytes()
    assert "32633" in polygons.text


def test_feature_bands_of_other_sensors(folder, tmp_path):
    """A model of four bands of float32 reads them from NPY files."""
    torch.manual_seed(0)
    model = models.UNet(2, in_channels=4, base_channels=2)
    model.final_conv.weight.data.normal_()
    meta = {"classes": ["a", "b"], "palette": [[0, 0, 0], [255, 0, 0]], "mean": [1.0] * 4,
            "std": [2.0] * 4, "channels": 4,
            "band_rule": {"channels": 4, "dtype": "float32"}}  # fmt: skip
    config = {"arch": {"type": "UNet", "args": {"base_channels": 2}}}
    checkpoint = tmp_path / "bands.pth"
    torch.save({"state_dict": model.state_dict(), "config": config, "meta": meta}, checkpoint)
    path = folder / "a.npy"
    np.save(path, np.random.default_rng(0).normal(1, 2, (40, 30, 4)).astype(np.float32))
    assert run(checkpoint, "-i", path, "-o", "out", "--save", "ids,overlay") == 0
    with Server(checkpoint) as server:
        for product, name in (("ids", "a.png"), ("overlay", "a_overlay.png")):
            answer = server.predict(path.read_bytes(), products=product)
            assert answer.content == (folder.parent / "out" / name).read_bytes()
        wrong = server.predict(write_image(folder / "b.png").read_bytes())
        assert wrong.status_code == 422 and "float32" in wrong.json()["error"]


def test_feature_several_products_are_json(server, model_file, folder):
    path = write_image(folder / "a.png", (64, 48))
    assert run(model_file, "-i", path, "-o", "out", "--save", "ids,table") == 0
    answer = server.predict(path.read_bytes(), products="ids,table,polygons,image")
    assert answer.headers["content-type"] == "application/json"
    tree = answer.json()
    assert (tree["model"], tree["width"], tree["height"]) == ("best_model", 64, 48)
    products = tree["products"]
    assert base64.b64decode(products["ids"]["base64"]) == (folder.parent / "out/a.png").read_bytes()
    assert products["polygons"]["type"] == "FeatureCollection"
    seen = pixels(base64.b64decode(products["image"]["base64"]))
    assert seen.shape == (48, 64, 3)
    lines = (folder.parent / "out/table.csv").read_text().splitlines()
    for line, row in zip(lines[1:], products["table"], strict=True):
        cells = line.split(",")
        assert (row["class"], row["pixels"]) == (cells[2], int(cells[3]))
        assert row["mean_confidence"] == (float(cells[7]) if cells[7] else None)
    assert sum(row["pixels"] for row in products["table"]) == 64 * 48


def test_feature_the_body_may_be_the_image(server, folder):
    data = write_image(folder / "a.png", (64, 48)).read_bytes()
    answer = server.client.post(
        "/v1/predict?products=ids", content=data, headers={"content-type": "image/png"}
    )
    assert answer.content == server.predict(data).content
    assert server.predict(data, format="json").json()["products"]["ids"]["type"] == "image/png"


def test_feature_batches_equal_single_images(server, folder):
    """Images of one size that come together are predicted together; ids stay the same."""
    images = [write_image(folder / f"{n}.png", (64, 48), seed=n).read_bytes() for n in range(12)]
    alone = [pixels(server.predict(data).content) for data in images]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(server.predict, images * 4))
    for number, answer in enumerate(together):
        # The sums of a batch are rounded otherwise: where two classes are equal, either may win.
        assert (pixels(answer.content) == alone[number % 12]).mean() > 0.999
    text = server.client.get("/metrics").text
    batches = dict(
        re.findall(r'segmentation_batch_images_(sum|count){model="best_model"} (\S+)', text)
    )
    assert float(batches["sum"]) > float(batches["count"])
    assert 'segmentation_requests_total{path="/v1/predict",status="200"}' in text
    assert re.search(r"^segmentation_images_in_work 0.0$", text, re.M)


def test_feature_models_by_name(model_file, folder):
    """Two models, one of them exported; each gives its own masks."""
    data = write_image(folder / "a.png", (64, 48)).read_bytes()
    with Server(f"one={model_file}", f"two={model_file}", words=["--unsure", "0.6"]) as server:
        names = [model["name"] for model in server.client.get("/v1/models").json()["models"]]
        assert names == ["one", "two"]
        masks = [server.predict(data, model=name).content for name in names]
        assert masks[0] == masks[1] == server.predict(data).content
        assert (pixels(masks[0]) == 255).any()
        wrong = server.predict(data, model="tow")
        assert wrong.status_code == 404 and "'two'" in wrong.json()["error"]


@pytest.mark.slow
def test_feature_an_exported_file_is_served(model_file, folder, tmp_path):
    pytest.importorskip("onnxruntime")
    import export

    made = tmp_path / "exported.onnx"
    assert export.main(["-m", str(model_file), "--to", "onnx", "-o", str(made)]) == 0
    path = write_image(folder / "a.png", (64, 48))
    assert run(made, "-i", path, "-o", "out") == 0
    with Server(made) as server:
        assert (
            server.predict(path.read_bytes()).content == (folder.parent / "out/a.png").read_bytes()
        )
        refused = server.predict(path.read_bytes(), products="confidence")
        assert refused.status_code == 422 and "--outputs ids,logits" in refused.json()["error"]


def test_feature_large_images_go_through_windows(model_file, folder):
    """In the windows that inference.py makes of them."""
    path = write_image(folder / "a.png", (300, 200))
    assert run(model_file, "-i", path, "-o", "out", "--window", 128) == 0
    with Server(model_file, words=["--window", "128"]) as server:
        assert (
            server.predict(path.read_bytes()).content == (folder.parent / "out/a.png").read_bytes()
        )


# Who may ask


def test_feature_a_token_is_required_and_compared(model_file, folder):
    data = write_image(folder / "a.png", (64, 48)).read_bytes()
    words = ["--host", "0.0.0.0"]
    with Server(
        model_file, words=words, environment={"SEGMENTATION_TOKEN": "a-long-secret"}
    ) as server:
        wrong = ("Bearer a-long-secreT", "Bearer", "Basic a-long-secret", "Bearer é")
        for given in ({}, *({"Authorization": text} for text in wrong)):
            headers = {name: value.encode() for name, value in given.items()}
            for path in ("/v1/models", "/metrics"):
                assert server.client.get(path, headers=headers).status_code == 401
            answer = server.client.post("/v1/predict", files={"image": data}, headers=headers)
            assert answer.status_code == 401 and "Bearer" in answer.headers["www-authenticate"]
        right = {"Authorization": "Bearer a-long-secret"}
        answer = server.client.post("/v1/predict", files={"image": data}, headers=right)
        assert answer.status_code == 200
        assert server.client.get("/health").status_code == 200
        assert server.client.get("/").status_code == 200


def test_feature_pages_of_other_hosts_are_refused(server, folder):
    data = write_image(folder / "a.png", (64, 48)).read_bytes()
    for headers in ({"Host": "rebound.example"}, {"Origin": "https://evil.example"},
                    {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}):  # fmt: skip
        answer = server.client.post("/v1/predict", files={"image": data}, headers=headers)
        assert answer.status_code == 403, headers
    own = {"Origin": server.url}
    answer = server.client.post("/v1/predict", files={"image": data}, headers=own)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_feature_pages_load_nothing(server, path):
    answer = server.client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", answer.text)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_feature_the_description_names_the_calls(server):
    tree = server.client.get("/openapi.json").json()
    assert tree["openapi"].startswith("3.1")
    assert set(tree["paths"]) == {"/v1/predict", "/v1/models", "/health", "/metrics"}
    form = tree["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert {"image", "model", "products"} <= set(form["schema"]["properties"])
    assert "422" in tree["paths"]["/v1/predict"]["post"]["responses"]


# Mistakes in the call


def refused(*words, environment=None):
    began = time.monotonic()
    done = subprocess.run(
        command_of(*words), capture_output=True, text=True, timeout=60,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert time.monotonic() - began < 30
    return done.stderr


def test_exception_mistakes_are_told_with_their_fix(model_file, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port: 127.0.0.1:{port}" in refused("-m", model_file, "--port", port)
    assert "SEGMENTATION_TOKEN=" in refused("-m", model_file, "--host", "0.0.0.0")
    assert "--token" in refused("-m", model_file, "--token", "short")
    assert "best_model.pth?" in refused("-m", str(model_file).replace("best", "bst"))
    assert f"one={model_file}" in refused("-m", model_file, model_file)
    assert "--max-bytes" in refused("-m", model_file, "--max-bytes", "many")
    assert "--timeout" in refused("-m", model_file, "--timeout", "0")
    assert "give at least" in refused("-m", model_file, "--port", 0, "--memory", "50MB")


def test_exception_a_model_that_cannot_be_read(tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(b"no checkpoint")
    assert "broken.pth" in refused("-m", path, "--port", 0)


def test_exception_missing_packages_are_named(model_file, monkeypatch, capsys):
    import importlib.util

    import serve

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name)
    )
    assert serve.main(["-m", str(model_file), "--port", "0"]) == 2
    assert "pip install uvicorn" in capsys.readouterr().err


# The end


def test_feature_a_second_signal_ends_it_at_once(model_file, folder, tmp_path):
    """Also in the middle of a forward pass; nothing is left in the folder of temporary files."""
    data = write_image(folder / "a.png", (900, 800)).read_bytes()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with Server(model_file, environment={"TMPDIR": str(temporary)}, options=()) as server:
        with server.connection() as bare:
            head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            bare.sendall(head + b"Content-Length: %d\r\n\r\n" % len(data) + data)
            while "segmentation_images_in_work 1.0" not in server.client.get("/metrics").text:
                time.sleep(0.01)
            assert list(temporary.iterdir())
            began = time.monotonic()
            server.process.terminate()
            assert server.client.get("/health").status_code == 503
            server.process.terminate()
            assert server.process.wait(5) == 130
        assert time.monotonic() - began < 5 and not list(temporary.iterdir())


def test_feature_what_is_in_work_is_answered_at_the_end(model_file, folder):
    """After SIGTERM: the image in work is answered, new requests get 503, the exit code is 0."""
    data = write_image(folder / "a.png", (500, 400)).read_bytes()
    with Server(model_file, options=("--flip", "horizontal")) as server:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.predict, data)
            while "segmentation_images_in_work 1.0" not in server.client.get("/metrics").text:
                time.sleep(0.01)
            server.process.terminate()
            late = []
            while not answer.done():
                try:
                    late.append(httpx.get(f"{server.url}/health"))
                except httpx.TransportError:  # it has ended with its last answer
                    answer.result(1)
                time.sleep(0.05)
            assert answer.result().status_code == 200
        refused = [each for each in late if each.status_code == 503]
        assert len(refused) > 3 and refused == late[-len(refused) :]
        assert all(int(each.headers["retry-after"]) > 0 for each in refused)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.errors
    assert refused[0].json()["error"]
