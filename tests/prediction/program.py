"""Images to predict, inference.py on them, and what has become of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import inference
from prediction.load_model import restore
from prediction.predictor.network import Predictor
from prediction.provenance import NAME
from tests.conftest import ROOT


def write_image(path, size=(20, 14), mode="RGB", seed=0):
    """Write an image of `size` (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else None
    Image.fromarray(pixels).convert(mode).save(path, kind)
    return path


def run(models, *words, device="cpu"):
    """Run inference.py in this process; return its exit code."""
    models = [models] if isinstance(models, (str, Path)) else models
    command = ["--model", *models, "--device", device, *words]
    command += [] if "--mode" in words else ["--mode", "whole"]
    return inference.main([str(word) for word in command])


def command_of(model_file, *words):
    """Return the command line of inference.py in a process of its own."""
    command = [
        sys.executable, ROOT / "inference.py", "-m", model_file, "--device", "cpu",
        "--mode", "whole", *words,
    ]  # fmt: skip
    return [str(word) for word in command]


def run_apart(model_file, *words, streams="", **options):
    """Run inference.py in a process of its own; `streams` redirects its streams."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" {streams}', "-", *command_of(model_file, *words)],
        capture_output=True, text=True, timeout=300, env=dict(os.environ), **options,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def predictor_of(model_file, **settings):
    """Return the predictor of a checkpoint."""
    model, meta = restore(model_file, "cpu")
    return Predictor(model, meta.mean, meta.std, "cpu", mode="whole", **settings)


def pixels_of(path):
    return np.array(Image.open(path).convert("RGB"))


def without_rate(text):
    return re.sub(r"[\d.]+ images/s", "...", text)


def written(folder):
    """The files of a folder, but for the note of what they were made with."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return sorted(str(path.relative_to(folder)) for path in files)
