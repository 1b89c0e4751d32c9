"""The device that `--device` names."""

import dataclasses
import itertools
import os

import pytest
import torch

from tests.utils.config.test_check_config import check, minimal
from utils.devices import resolve_device, resolve_training_device, restrict_visible_gpus

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def third_rank(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


def config(n_gpu=1):
    return dataclasses.replace(check(minimal()), n_gpu=n_gpu)


BOTH = (resolve_device, lambda name: resolve_training_device(name, config()))


def test_exception_more_processes_than_gpus(two_gpus, third_rank):
    for name, resolve in itertools.product((None, "cuda"), BOTH):
        with pytest.raises(ValueError, match=r"GPUs \(2\); use --nproc-per-node=2"):
            resolve(name)
    assert resolve_device("cpu") == CPU
    assert resolve_training_device("cpu", config()) == (CPU, 1)


def test_exception_a_gpu_that_is_not_there(no_gpu):
    for name, resolve in itertools.product(("cuda", "cuda:1", "1"), BOTH):
        with pytest.raises(ValueError, match="no GPU was found"):
            resolve(name)


@pytest.mark.parametrize("name", ["", " ", "gpu"])
def test_exception_no_device(name):
    for resolve in BOTH:
        with pytest.raises(ValueError, match=f"--device: '{name}'"):
            resolve(name)


def test_feature_devices_of_a_training(two_gpus):
    assert resolve_training_device(None, config()) == (CUDA, 1)
    assert resolve_training_device("0,1", config(n_gpu=2)) == (CUDA, 2)
    assert resolve_training_device("0,1", config(n_gpu=0)) == (CPU, 0)
    assert resolve_training_device("cpu", config(n_gpu=2)) == (CPU, 1)


def test_feature_more_gpus_wanted_than_found(two_gpus, caplog):
    assert resolve_training_device(None, config(n_gpu=4)) == (CUDA, 2)
    assert "n_gpu: 4" in caplog.text


def test_feature_training_without_a_gpu(no_gpu):
    assert resolve_device(None) == CPU
    assert resolve_training_device(None, config()) == (CPU, 0)


def test_feature_visible_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    for name in (None, "cpu", "cuda", "cuda:1"):
        restrict_visible_gpus(name)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    restrict_visible_gpus("0, 3")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0, 3"
