"""Where products go."""

import hashlib
import os

import pytest

from prediction.cluster import stores
from prediction.cluster.targets import FolderTarget, StoreTarget, target_of
from utils.files.data_file import DataError


@pytest.fixture(params=["folder", "store"])
def target(request, tmp_path, store):
    return target_of(str(tmp_path / "out") if request.param == "folder" else f"{store}/out/")


def make(target, name, data=b"mask"):
    """As a product does: a file in the work folder."""
    path = target.work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_feature_a_product_is_delivered(target):
    target.prepare()
    lookup = target.lookup()
    assert not lookup("sub/a.png") and not target.exists("sub/a.png")
    make(target, "sub/a.png")
    target.deliver("sub/a.png", wanted=True)
    assert target.exists("sub/a.png") and target.lookup()("sub/a.png")
    assert target.digest("sub/a.png") == hashlib.sha256(b"mask").hexdigest()
    assert not target.exists("sub/b.png")
    with pytest.raises(DataError, match=r"b\.png"):
        target.digest("sub/b.png")


def test_feature_a_store_gets_only_what_is_wanted(store):
    target = StoreTarget(f"{store}/out")
    for name in ("a.png", "b.png"):
        make(target, name)
        target.deliver(name, wanted=name == "a.png")
    assert list(stores.objects_below(f"{store}/out")) == ["a.png"]
    assert os.listdir(target.work) == []


def test_exception_what_cannot_be_put_leaves_no_file(store, monkeypatch):
    def refuse(path, address):
        raise DataError("full")

    monkeypatch.setattr(stores, "put", refuse)
    target = StoreTarget(f"{store}/out")
    make(target, "a.png")
    with pytest.raises(DataError, match="full"):
        target.deliver("a.png", wanted=True)
    assert os.listdir(target.work) == []


def test_feature_one_spelling(tmp_path, store):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    folder = FolderTarget(tmp_path)
    assert folder.real(str(tmp_path / "link/a")) == os.path.realpath(tmp_path / "real/a")
    assert folder.real("s3://b/a") == StoreTarget(store).real("s3://b/a") == "s3://b/a"


def test_exception_an_output_that_is_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="--output: .*out is not a folder"):
        target_of(str(tmp_path / "out")).prepare()


def test_feature_which_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert target_of("out").work == target_of(f"file://{tmp_path}/out").work == tmp_path / "out"
    assert isinstance(target_of("memory://out"), StoreTarget)
