"""A store that speaks the protocol of S3: that of the package moto, on this machine.

pip install "ray[data]" s3fs "moto[s3,server]"
"""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections import Counter

import pytest

import inference
from prediction.cluster import stores
from prediction.jobs.results_file import read_results
from tests.conftest import ROOT
from tests.prediction.program import write_image, written
from tests.processes import free_port
from tests.ray_here import environment, needs_ray

PATIENCE = 300  # seconds
IMAGES = 30

pytestmark = [
    needs_ray,
    pytest.mark.faults,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto")),
        reason='no S3 here: pip install s3fs "moto[s3,server]"',
    ),
]


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """The address of an empty bucket, and the file with the requests for it."""
    port, log = free_port(), tmp_path / "requests.log"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "NO_PROXY": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with open(log, "ab") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=file, stderr=file
        )
    until = time.monotonic() + PATIENCE
    while b"Running on" not in log.read_bytes():
        assert server.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    stores.open_store("s3://bucket").system.mkdir("bucket")
    yield "s3://bucket", log
    server.terminate()
    server.wait()


def requests(log):
    """How many requests of which kind there were for which folder; the log is emptied."""
    found = re.findall(rb'"(?:\x1b\[\d+m)*([A-Z]+) /bucket/?(\w*)', log.read_bytes())
    os.truncate(log, 0)
    return Counter(f"{kind.decode()} {folder.decode()}" for kind, folder in found)


def on_ray(model_file, *words):
    command = [sys.executable, "-m", "prediction.on_ray", "-m", model_file, "--mode", "whole",
               "--actors", "2", *words]  # fmt: skip
    return subprocess.run(
        [*map(str, command)], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


def test_feature_each_image_is_read_once_and_each_mask_put_once(model_file, folder, s3, tmp_path):
    store, log = s3
    for number in range(IMAGES):
        name = f"{'sub/' * (number % 2)}p{number}.png"
        write_image(folder / name, seed=number)
        stores.put(folder / name, f"{store}/in/{name}")
    stores.open_store(store).system.pipe_file("bucket/in/broken.png", b"no picture")
    single = ["-m", model_file, "--mode", "whole", "-i", folder, "-o", tmp_path / "single",
              "--device", "cpu", "--manifest", tmp_path / "single.csv"]  # fmt: skip
    assert inference.main([*map(str, single)]) == 0
    requests(log)
    words = ("-i", f"{store}/in", "-o", f"{store}/masks")
    ran = on_ray(model_file, *words, "--manifest", tmp_path / "m.csv")
    assert ran.returncode == 1 and f"skipped {store}/in/broken.png: " in ran.stderr, ran.stderr
    counts = requests(log)
    assert (counts["GET in"], counts["PUT masks"]) == (IMAGES + 1, IMAGES), counts
    names = list(stores.objects_below(f"{store}/masks"))
    assert names == written(tmp_path / "single")
    for name in names:
        stores.fetch(f"{store}/masks/{name}", tmp_path / "mask")
        assert (tmp_path / "mask").read_bytes() == (tmp_path / "single" / name).read_bytes()
        (tmp_path / "mask").unlink()
    rows = [row._replace(seconds=0.0) for row in read_results(tmp_path / "m.csv")]
    assert [row for row in rows if not row.error] == [
        row._replace(seconds=0.0) for row in read_results(tmp_path / "single.csv")
    ]
    # To find that nothing is left takes two lists.
    requests(log)
    ran = on_ray(model_file, *words, "--exclude", "broken.png")
    assert ran.returncode == 0 and f"{IMAGES} kept as they were" in ran.stdout, ran.stderr
    counts = requests(log)
    assert counts["PUT masks"] == counts["GET in"] == 0 and counts["GET "] <= 4, counts
