"""Large images of every format: the peak memory of a process of its own, against its budget."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import ROOT
from tests.slow import mark_slow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak that Linux keeps")

NUM_CLASSES = 19

# Predicts one image with a network that costs little, and prints its own peak.
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from prediction.fields import copies_of
from prediction.jobs.image_file import ImageFile
from prediction.load_model import Meta
from prediction.open_model import OpenedModel
from prediction.outputs import Outputs, RunProducts
from prediction.predict_images import ImageRun, Speed, predict_all
from prediction.predictor.memory import MemoryBudget
from prediction.predictor.network import Predictor
from prediction.predictor.windows import WindowRule
from prediction.products.kinds import Settings

image, output, budget, save = sys.argv[1:]
Path(output).mkdir(exist_ok=True)

def peak_so_far():
    # Not `ru_maxrss`, which begins with that of the process that started this one.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 19, 9, stride=8, padding=4)

    def forward(self, images):
        size = images.shape[2:]
        return torch.nn.functional.interpolate(self.conv(images), size, mode="nearest")

classes = tuple(f"class {n}" for n in range(19))
meta = Meta(classes, tuple((n, n, n) for n in range(19)), (0.5,) * 3, (0.25,) * 3)
predictor = Predictor(Net(), meta.mean, meta.std, "cpu", mode="whole")
outputs = Outputs.of(save, classes, Path(output), Settings())
memory = MemoryBudget(
    predictor, 3, total=int(budget), rule=WindowRule(1024, 0.1), ahead=3, classes=19,
    copies=copies_of(outputs.needs),
)
run = ImageRun(
    OpenedModel(predictor, meta, None), outputs, memory,
    of_run=RunProducts(Path(output), save), speed=Speed(),
)
start = peak_so_far()
failed = predict_all(run, [ImageFile(image, Path(image).name)], 1).failed
print(json.dumps({"failed": failed, "start": start, "peak": peak_so_far()}))
"""


def rows_of(height, width, count=256):
    """Yield the rows of a picture with large regions and some noise."""
    noise = np.random.default_rng(0).integers(0, 20, (count, width, 3), dtype=np.uint8)
    columns = (np.arange(width) // 700 * 53 % 200).astype(np.uint8)[None, :, None]
    for top in range(0, height, count):
        number = min(count, height - top)
        yield noise[:number] + columns + np.uint8(top // 900 * 7 % 30)


def write(path, kind, height, width):
    image = np.concatenate(list(rows_of(height, width)))
    options = {"photometric": "rgb"}
    if kind in ("PNG", "JPEG"):
        Image.fromarray(image).save(path, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    elif kind == "strips":
        tifffile.imwrite(path, image, rowsperstrip=16, compression="zlib", **options)
    elif kind == "tiles":
        tifffile.imwrite(path, image, tile=(512, 512), compression="zlib", **options)
    else:
        tifffile.imwrite(path, image, tile=(256, 256), bigtiff=True, **options)


def run(path, output, budget, save="ids"):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(output), str(int(budget)), save],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["failed"] == 0, done.stderr
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "strips", "tiles", "BigTIFF"])
def test_feature_a_budget_of_two_gigabytes_is_kept(kind, tmp_path):
    """10,000 x 10,000 pixels and 19 classes: 7.6 GB of logits."""
    path = tmp_path / f"a.{kind.lower() if kind in ('PNG', 'JPEG') else 'tif'}"
    write(path, kind, 10_000, 10_000)
    figures = run(path, tmp_path / "out", 2e9)
    assert figures["peak"] < 2e9
    mask = tmp_path / "out/a.png"
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try:
        assert Image.open(mask).size == (10_000, 10_000)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize("kind", mark_slow(["strips", "PNG", "tiles"]))
def test_feature_a_smaller_budget_is_kept(kind, tmp_path):
    """450 MB above what the program takes alone, with all that can be large."""
    path = tmp_path / f"a.{kind.lower() if kind == 'PNG' else 'tif'}"
    write(path, kind, 1500, 10_000)
    start = run(path, tmp_path / "first", 4e9)["start"]
    budget = start + 450e6
    save = "ids,colour,overlay,confidence,probabilities,entropy,table,summary"
    figures = run(path, tmp_path / "out", budget, save)
    assert figures["peak"] < 1.1 * budget


@pytest.mark.slow
def test_feature_memory_does_not_grow_with_the_width(tmp_path):
    peaks = []
    for width in (10_000, 100_000):
        path = tmp_path / f"{width}.tif"
        with tifffile.TiffWriter(path) as file:
            rows = (rows[:, :width] for rows in rows_of(1024, width, 16))
            file.write(rows, shape=(1024, width, 3), dtype=np.uint8, rowsperstrip=16,
                       photometric="rgb")  # fmt: skip
        peaks.append(run(path, tmp_path / "out", 1.2e9)["peak"])
    assert peaks[1] < 1.2 * peaks[0] and max(peaks) < 1.2e9
