"""The models against the logits of the framework whose checkpoints they load."""

import inspect
import json
import math
import zlib
from typing import Any

import numpy as np
import pytest
import torch

import models
from tests.conftest import ROOT
from tests.slow import mark_slow

GOLDEN = ROOT / "tests" / "golden"
GOLDENS = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))}
NAMES = [name for name, golden in GOLDENS.items() if golden["class"] in models.__all__]
# Arguments that make the model the one that older checkpoints are of.
EXTRA: dict[str, dict[str, Any]] = {"UperNet": {"legacy_fpn": True}}


def make_weight(key, shape):
    """The recipe that the reference logits were made with."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    if key.endswith("running_var"):
        weight = rng.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        weight = rng.normal(0, 0.1, shape)
    elif len(shape) == 4:
        weight = rng.normal(0, 1, shape) * 0.7 * math.sqrt(1 / math.prod(shape[1:]))
    elif len(shape) == 1 and key.endswith("weight"):
        weight = rng.uniform(0.8, 1.2, shape)
    else:
        weight = rng.normal(0, 0.05, shape)
    return weight.astype(np.float32)


def build(golden):
    model_class = getattr(models, golden["class"])
    extra = dict(EXTRA.get(golden["class"], {}))
    if "pretrained" in inspect.signature(model_class).parameters:
        extra["pretrained"] = False
    return model_class(golden["num_classes"], **extra, **golden["args"])


def test_cardinality_references():
    assert {"PSPNet", "UNet"} <= {GOLDENS[name]["class"] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_feature_names_and_shapes_of_weights(name):
    """The order matters as well: optimizer states refer to parameters by their position."""
    golden = GOLDENS[name]
    with torch.device("meta"):
        model = build(golden)
    shapes = [(key, list(value.shape)) for key, value in model.state_dict().items()]
    assert shapes == list(golden["state_dict"].items())
    assert model.num_parameters()[0] == golden["params"]


@pytest.mark.parametrize(
    "name", mark_slow(NAMES, [n for n in NAMES if GOLDENS[n]["params"] > 15e6])
)
def test_feature_reference(name):
    """Source of the numbers: the reference implementation, run once on weights made by recipe."""
    golden = GOLDENS[name]
    with torch.device("meta"):
        model = build(golden).eval()
    model.load_state_dict(
        {k: torch.from_numpy(make_weight(k, shape)) for k, shape in golden["state_dict"].items()},
        assign=True,
    )
    rng = np.random.default_rng(golden["input_seed"])
    shape = (1, model.in_channels, *golden["input_hw"])
    images = torch.from_numpy(rng.normal(0, 1, shape).astype(np.float32))
    with torch.no_grad():
        logits = model(images)[:, :, ::8, ::8].numpy()
    expected = np.load(GOLDEN / f"{name}.npz")["logits"]
    assert logits.shape == expected.shape
    assert np.linalg.norm(logits - expected) / np.linalg.norm(expected) < 1e-4
