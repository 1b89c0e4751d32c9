"""Nothing in a file of weights is run, whichever program reads it."""

import encodings.cp437  # noqa: F401  what zipfile reads names with
import functools
import pickle
import sys

import pytest
import torch

from models.pretrained import read_weights
from models.timm_backbone import weights_overlay
from tests import hostile_files
from tests.hostile_files import (
    CALLS,
    FORMATS,
    MODULE,
    PLACES,
    SAFETENSORS,
    behind,
    with_extra_parts,
)
from utils.checkpoint import weights_file
from utils.checkpoint.content import as_checkpoint
from utils.checkpoint.save_load import CheckpointError, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("call", CALLS)
def test_smoke_payloads_are_live(marker, call):
    """Where nothing is refused, each makes its marker; else these tests could not fail."""
    try:
        pickle.loads(pickle.dumps(CALLS[call](str(marker))))
    finally:
        sys.modules.pop(MODULE, None)
    assert marker.exists()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("place", PLACES)
def test_exception_no_payload_runs(folder, marker, form, place):
    path = folder / "evil.pth"
    save_checkpoint({"state_dict": {}}, path)
    load_checkpoint(path)  # torch imports parts of itself at the first one
    for name, call in CALLS.items():
        path.write_bytes(FORMATS[form](PLACES[place](call(str(marker)))))
        loaded = set(sys.modules)
        for read, kind in ((load_checkpoint, CheckpointError), (read_weights, ValueError)):
            with pytest.raises(kind) as caught:
                read(path)
            message = str(caught.value)
            assert str(path) in message and "\n" not in message, name
            assert "weights_only" not in message  # torch's advice is to switch it off
        assert not marker.exists(), (name, read)
        assert set(sys.modules) - loaded == set(), name
        assert MODULE not in sys.modules


@pytest.mark.parametrize("place", PLACES)
def test_feature_what_lies_beside_the_content_is_not_read(folder, marker, place):
    """Further parts of an archive, and a second pickle behind the first."""
    for make in (with_extra_parts, behind):
        for call in CALLS.values():
            path = folder / "evil.pth"
            path.write_bytes(make(PLACES[place](call(str(marker)))))
            for read in (load_checkpoint, read_weights):
                try:
                    read(path)
                except ValueError as error:
                    assert "\n" not in str(error)
                assert not marker.exists()


@pytest.mark.parametrize("name", SAFETENSORS)
def test_exception_hostile_safetensors(folder, name):
    path = folder / f"{name}.safetensors"
    path.write_bytes(SAFETENSORS[name])
    for read, kind in ((load_checkpoint, CheckpointError), (read_weights, ValueError)):
        with pytest.raises(kind, match=path.name) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_feature_only_what_is_listed_is_opened_unsafely(folder, monkeypatch):
    """Not even where the environment asks torch for it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = folder / "hacked"
    path = folder / "evil.pth"
    path.write_bytes(hostile_files.zipped(CALLS["system"](str(marker))))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("version", ["2.9.1", "2.9.1+cu128", "1.13.0", "2.0"])
def test_exception_an_old_torch_reads_nothing(folder, monkeypatch, version):
    path = folder / "c.pth"
    save_checkpoint({"state_dict": {"w": torch.ones(1)}}, path)
    load_checkpoint(path)
    monkeypatch.setattr(weights_file.torch, "__version__", version)
    for read in (load_checkpoint, read_weights):
        with pytest.raises(ValueError, match="only from 2.10 on it reads such files safely"):
            read(path)
    for newer in ("2.10.0", "2.14.1+cpu", "3.0"):
        monkeypatch.setattr(weights_file.torch, "__version__", newer)
        load_checkpoint(path)


def test_exception_archives_that_unpack_to_more(folder):
    """A part of zeros takes a thousandth of the place; torch itself never packs."""
    path = folder / "bomb.pth"
    content = {"state_dict": {"w": torch.zeros(20_000_000)}}
    path.write_bytes(hostile_files.packed(content))
    assert path.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match="an archive of packed parts"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="an archive of packed parts"):
        read_weights(path)


def test_exception_weights_for_timm_are_read_by_us(folder, marker):
    """The library gets tensors, not the file's name."""
    path = folder / "evil.pth"
    path.write_bytes(FORMATS["zipped"](CALLS["system"](str(marker))))
    with pytest.raises(ValueError, match="damaged or not a file of weights"):
        weights_overlay(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"seed": float("nan")}, "seed: nan is not a usable number"),
        ({"seed": 2**100}, "seed: a number of 101 bits"),
        ({"trainer": {"save_dir": "a\0b"}}, r"trainer.save_dir: 'a\\x00b'"),
        ({"arch": {1: 2}}, "a key is not text"),
        ({"arch": torch.zeros(1)}, "arch: expected plain data, not Tensor"),
        (functools.reduce(lambda inner, _: {"a": inner}, range(60), {}), "nested too deeply"),
        ([], r"\(list, not dict\)"),
    ],
)
def test_exception_a_config_in_a_checkpoint_is_held_to_the_rules(config, words):
    with pytest.raises(CheckpointError, match=f"^a.pth: its config is damaged:? {words}"):
        as_checkpoint({"state_dict": {}, "config": config}, "a.pth")
