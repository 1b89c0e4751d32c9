"""Digests, held against sha256sum and hashlib."""

import hashlib
import shutil
import subprocess

import numpy as np
import pytest

from utils.files.data_file import DataError
from utils.files.digest import CHUNK, digest_file, digest_files, digest_settings


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
def test_feature_files(tmp_path, size):
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    assert digest_file(path) == digest_files([path]) == hashlib.sha256(data).hexdigest()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_feature_what_a_shell_computes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    command = ["sh", "-c", "sha256sum a b | cut -c-64 | sha256sum"]
    text = subprocess.check_output(command, cwd=tmp_path, text=True)
    assert digest_files([tmp_path / "a", tmp_path / "b"]) == text[:64]
    assert digest_files([tmp_path / "b", tmp_path / "a"]) != text[:64]


def test_exception_files(tmp_path):
    (tmp_path / "empty").touch()
    for name, said in (("gone", "no such file"), ("empty", "empty"), ("", "is a folder")):
        with pytest.raises(DataError, match=said):
            digest_file(tmp_path / name)


def test_feature_settings():
    same = [{"a": 1, "b": [0.5, None]}, {"b": (0.5, None), "a": 1}]
    assert digest_settings(same[0]) == digest_settings(same[1])
    others = [{}, {"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"b": 1}, {"a": "ü\udcff"}]
    assert len(set(map(digest_settings, others))) == len(others)
    with pytest.raises(TypeError):
        digest_settings({"a": object()})
