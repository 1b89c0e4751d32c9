"""Objects by their addresses."""

import hashlib
import importlib.util

import pytest

from prediction.cluster import stores
from utils.files.data_file import DataError


def test_feature_what_is_an_address_of_a_store():
    for text in ("s3://b/k", "gs://b", "S3A://b", "memory://x", "a+b.c-1://x"):
        assert stores.is_store(text), text
    for text in ("http://h/a.jpg", "HTTPS://h", "file:///a", "a/b", "C:\\a", "://x", "1a://x", "-"):
        assert not stores.is_store(text), text


def test_exception_a_scheme_that_cannot_be_opened():
    with pytest.raises(ValueError, match=r"nothing://a: cannot be opened \(.*nothing"):
        stores.open_store("nothing://a")


def test_exception_a_missing_package():
    if importlib.util.find_spec("gcsfs") is not None:
        pytest.skip("gcsfs is installed")
    with pytest.raises(
        ValueError, match="gs://b/a: takes other packages: pip install fsspec gcsfs"
    ):
        stores.open_store("gs://b/a")


def test_feature_objects_below(store, fill):
    fill({"in/b.png": b"b", "in/sub/a.png": b"a", "inner/c.png": b"c", "in.png": b"d"})
    assert list(stores.objects_below(f"{store}/in")) == ["b.png", "sub/a.png"]
    assert list(stores.objects_below(f"{store}/in/")) == ["b.png", "sub/a.png"]
    assert list(stores.objects_below(f"{store}/nothing")) == []
    assert stores.is_object(f"{store}/in.png") and not stores.is_object(f"{store}/in")


def test_feature_put_fetch_exists_digest(store, tmp_path):
    data = bytes(range(256)) * 9000  # more than one piece of what is read at once
    (tmp_path / "a").write_bytes(data)
    address = stores.child(f"{store}/out/", "sub/a.bin")
    assert address == f"{store}/out/sub/a.bin" and not stores.exists(address)
    stores.put(tmp_path / "a", address)
    assert stores.exists(address)
    stores.fetch(address, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == data
    assert stores.digest_object(address) == hashlib.sha256(data).hexdigest()
    (tmp_path / "a").write_bytes(b"new")
    stores.put(tmp_path / "a", address)
    assert stores.digest_object(address) == hashlib.sha256(b"new").hexdigest()


def test_exception_a_missing_object_is_named(store, tmp_path):
    address = f"{store}/none.png"
    for read in (lambda: stores.fetch(address, tmp_path / "a"),
                 lambda: stores.digest_object(address)):  # fmt: skip
        with pytest.raises(DataError, match="bucket/none.png: cannot be read .there is no such ob"):
            read()


def test_exception_a_store_that_refuses(store, tmp_path, monkeypatch):
    """Whatever a library raises is one line that names the object."""

    def refuse(*words, **options):
        raise RuntimeError("access denied\nand a long story")

    system = type(stores.open_store(store).system)
    for name in ("get_file", "put_file", "exists", "isfile", "find", "open"):
        monkeypatch.setattr(system, name, refuse)
    address = f"{store}/a.png"
    (tmp_path / "a").touch()
    for ask in (
        lambda: stores.fetch(address, tmp_path / "b"),
        lambda: stores.put(tmp_path / "a", address),
        lambda: stores.exists(address),
        lambda: stores.is_object(address),
        lambda: list(stores.objects_below(address)),
        lambda: stores.digest_object(address),
    ):
        with pytest.raises(DataError, match=r"^memory://bucket/a.png: .*\(access denied\)$"):
            ask()


def test_feature_names_that_lead_out_are_unsafe():
    for name in ("a.png", "a/b.png", "a b/ü.png", "...png", "a/..b/c"):
        assert stores.is_safe_name(name), name
    for name in (
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "/a",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "a\0b",
    ):
        assert not stores.is_safe_name(name), name


def test_feature_addresses_beside_each_other():
    assert stores.sibling("s3://b/list.txt", "a.png") == "s3://b/a.png"
    assert stores.key_of("s3://b/a.png") == "s3/b/a.png"
