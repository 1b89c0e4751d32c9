"""Addresses of images and the names of their files."""

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction.jobs.addresses import check_address, name_of_address, safe_name

NAMES = {
    "https://host/a.jpg": "host/a.jpg",
    "https://Host.org:8080/x//y/a.b.JPG#top": "Host.org_8080/x/y/a.b.JPG",
    "http://host/%C3%BCber%20all.png": "host/über_all.png",
    "http://host/../../etc/passwd": "host/image/image/etc/passwd",
    "http://host/%2e%2e%2f%2e%2e%2fx.jpg": "host/_.._x.jpg",
    "http://host/.hidden.jpg": "host/hidden.jpg",
    "http://host": "host/image",
    "http://host/": "host/image",
    "http://[::1]/a.jpg": "___1_/a.jpg",
}


@pytest.mark.parametrize("address", NAMES)
def test_feature_names(address):
    assert name_of_address(address) == NAMES[address]


def test_feature_queries_have_names_of_their_own():
    names = {name_of_address(f"https://host/get.png?id={n}&x=../y") for n in range(20)}
    assert len(names) == 20
    assert all(name.startswith("host/get-") and name.endswith(".png") for name in names)


@given(st.text())
def test_feature_every_name_is_safe(text):
    name = safe_name(text)
    assert name == os.path.basename(name) and name not in ("", ".", "..")
    assert not name.startswith(".") and not set(name) & set('/\\:*?"<>|\0\n')
    assert len(name.encode()) <= 200
    assert len(PurePosixPath("a", name).parts) == 2
    assert safe_name(name) == name


ADDRESSES = {
    "http:///a.jpg": "no host", "https://": "no host", "http://host:99999999/a": "Port",
    "http://host:x/a": "Port", "http://[::1/a": "no address", "http://me:word@host/a": "user",
}  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_exception_addresses(address):
    with pytest.raises(ValueError, match=ADDRESSES[address]) as error:
        check_address(address, allow_download=True)
    assert "word" not in str(error.value)


def test_exception_downloads_are_not_allowed_unasked():
    check_address("https://host/a.jpg", allow_download=True)
    with pytest.raises(ValueError, match="--allow-download"):
        check_address("https://host/a.jpg", allow_download=False)
