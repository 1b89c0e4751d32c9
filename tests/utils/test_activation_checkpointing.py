"""utils/activation_checkpointing.py: the same numbers in less memory; torch.compile beside it."""

import functools
import os
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from tests.models.test_models import CASES, as_params, copied, shared, total_of
from tests.training_runs import assert_same, assert_same_end, trained
from tests.utils.distributed.test_processes import changed_train, config, steps_of, train_on
from utils.activation_checkpointing import recompute_activations
from utils.checkpoint.save_load import load_checkpoint


def one_step(model, images):
    torch.manual_seed(1)
    outputs = model.train()(images)
    total_of(outputs).backward()
    gradients = {n: None if p.grad is None else p.grad for n, p in model.named_parameters()}
    return outputs, gradients, dict(model.named_buffers())


@pytest.mark.parametrize("case", as_params(CASES))
def test_feature_every_model_is_the_same_to_the_bit(case):
    """Logits, gradients, statistics; dropout is on."""
    size = max(64, shared(case).min_size)
    images = torch.rand(2, 3, size, size)
    results, sums = [], []
    for checkpointed in (False, True):
        model = copied(case)
        if checkpointed:
            assert recompute_activations(model) > 1
        results.append(one_step(model, images))
        sums.append(list(model.state_dict()))
    assert sums[0] == sums[1]
    assert_same(*results)


@pytest.mark.slow
def test_feature_a_run_is_the_same_to_the_bit(tmp_path):
    folders = []
    for on in (False, True):
        place = tmp_path / str(on)
        tree = config(place, activation_checkpointing=on)
        tree["arch"] = {"type": "ENet"}
        folder = trained(place, tree)
        folders.append(folder)
    assert_same_end(*folders)


PEAK = """
import sys
sys.path.insert(0, {root!r})
import torch
from benchmarks.peak_memory import peak_memory
from models import UNet
from utils.activation_checkpointing import recompute_activations
torch.set_num_threads(1)
model = UNet(num_classes=3, base_channels=16)
if {on}:
    recompute_activations(model)
def step(batch, size):
    model.train()(torch.rand(batch, 3, size, size)).sum().backward()
step(2, 64)  # gradients, and what the libraries need once
print(peak_memory(lambda: step(8, 192)))
"""


@pytest.mark.slow
def test_feature_it_takes_less_memory():
    # The C library gives back at once what is no longer used; else the peak is that of its habits.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    plain, less = (
        float(subprocess.run(
            [sys.executable, "-c", PEAK.format(root=str(ROOT), on=on)],
            capture_output=True, text=True, check=True, env=environment,
        ).stdout)
        for on in (False, True)
    )  # fmt: skip
    assert less < 0.7 * plain


@pytest.mark.slow
def test_feature_compiled_is_the_same(tmp_path, monkeypatch):
    """With a compiler that takes graphs apart and puts them together again, in seconds."""
    compiled = []
    compile_ = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or compile_(model))
    folders = []
    for on in (False, True):
        place = tmp_path / str(on)
        tree = config(place)
        tree["compile"] = on
        folder = trained(place, tree)
        folders.append(folder)
    assert len(compiled) == 1
    for one, other in zip(*map(steps_of, folders), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    one, other = (load_checkpoint(folder / "last.pth")["state_dict"] for folder in folders)
    assert list(one) == list(other)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"compile": True}, {"amp": "bf16"}, {}])
def test_feature_several_processes(tmp_path, options):
    """Compiled, in 16 bits, with less memory: the losses of one process with the same options."""
    # With a compiler that takes seconds.
    quick = 'functools.partial(torch.compile, backend="aot_eager")'
    program = changed_train(tmp_path, f"import functools\ntorch.compile = {quick}")
    folders = []
    for processes in (1, 2):
        place = tmp_path / str(processes)
        tree = config(place, activation_checkpointing=not options, epochs=1, val=False) | options
        tree["train_loader"]["args"] |= {"num_images": 16, "batch_size": 8}  # one shape to compile
        done, folder = train_on(place, tree, processes, program=program)
        assert done.returncode == 0, done.stderr
        folders.append(folder)
    tolerance = 1e-2 if options.get("amp") else 1e-4
    for one, other in zip(*map(steps_of, folders), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=tolerance)
