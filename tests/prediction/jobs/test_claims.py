"""Whose each output is, held against a comparison of all pairs."""

import itertools
import os
import random

import pytest

import prediction.jobs.claims
from prediction.jobs.claims import Claims, check_one_by_one
from prediction.jobs.folders import Folders
from prediction.jobs.image_file import ImageFile


def masks(image):
    return [image.output("out", ".png"), image.output("out", "_overlay.png")]


FINE = [ImageFile("in/a.jpg", "a.jpg"), ImageFile("in/x/a.jpg", "x/a.jpg"),
        ImageFile("in/b.png", "b.png")]  # fmt: skip


@pytest.fixture(params=["listed", "real paths", "equal hashes"])
def claims(request, here, monkeypatch):
    if request.param == "equal hashes":
        monkeypatch.setattr(prediction.jobs.claims, "hash", lambda _: 7, raising=False)
    (here / "in" / "x").mkdir(parents=True)
    (here / "out").mkdir()
    real = Folders().real if request.param == "listed" else os.path.realpath
    return Claims(masks, real)


def test_feature_images_may_come_again(claims):
    for image in [*FINE, *FINE]:
        claims.claim(image)


TAKEN = {
    "one stem": ("in/a.png", "a.png", "in/a.jpg and in/a.png would both become out/a.png"),
    "an overlay": ("in/_.tif", "x/a_overlay.tif", "would both become out/x/a_overlay.png"),
    "its own mask": ("out/c.png", "c.png", "out/c.png is one of the images"),
    "the mask of another": ("out/a.png", "else/a.png", "out/a.png is one of the images"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_exception_taken(claims, case):
    file, name, said = TAKEN[case]
    for image in FINE:
        claims.claim(image)
    with pytest.raises(ValueError, match="--output") as error:
        claims.claim(ImageFile(file, name))
    assert said in str(error.value)


def test_exception_in_the_other_order(claims):
    """The image comes before the one whose mask it would be."""
    claims.claim(ImageFile("out/a.png", "else/a.png"))
    with pytest.raises(ValueError, match="out/a.png is one of the images"):
        claims.claim(FINE[0])


def test_exception_behind_links(claims, here):
    """An output folder that is a link to the images, and an image that is a link to a mask."""
    (here / "in" / "link.png").symlink_to(here / "out" / "b.png")
    (here / "out" / "b.png").touch()
    claims.claim(ImageFile("in/link.png", "link.png"))
    with pytest.raises(ValueError, match="out/b.png is one of the images"):
        claims.claim(FINE[2])
    (here / "out" / "x").symlink_to(here / "in" / "x")
    with pytest.raises(ValueError, match="out/x/c.png is one of the images"):
        claims.claim(ImageFile("in/x/c.png", "x/c.png"))


@pytest.mark.parametrize("seed", range(20))
def test_feature_random_images(here, seed):
    """The first image that is refused is the first that collides with one before it."""
    random.seed(seed)
    names = ["".join(random.choices("abcde", k=2)) + random.choice([".jpg", ".png", "_overlay.png"])
             for _ in range(8)]  # fmt: skip
    images = [ImageFile(random.choice(["in/", "out/"]) + name, name) for name in names]

    def collide(one, other):
        if one.file == other.file:
            return one.file in masks(one)
        files = [[image.file, *masks(image)] for image in (one, other)]
        return bool(set(files[0]) & set(files[1])) or one.file in masks(one)

    found = [n for n, image in enumerate(images)
             if any(collide(image, other) for other in images[: n + 1])]  # fmt: skip
    refused = [n for n, (_, why) in enumerate(check_one_by_one(images, masks)) if why]
    assert refused[:1] == found[:1]
    for one, other in itertools.combinations([i for i, n in zip(images, range(8), strict=True)
                                              if n not in refused], 2):  # fmt: skip
        assert not collide(one, other)


def test_feature_addresses_are_no_files(here):
    claims = Claims(masks)
    claims.claim(ImageFile("https://h/a.jpg", "a.jpg"))
    claims.claim(ImageFile("https://h/b.jpg", "b.jpg"))
    with pytest.raises(ValueError, match="https://h/a.jpg and https://h/x/a.jpg would both"):
        claims.claim(ImageFile("https://h/x/a.jpg", "a.jpg"))


def test_feature_of_a_stream_one_image_fails_alone(here):
    images = [FINE[0], ImageFile("in/a.png", "a.png"), FINE[2]]
    found = list(check_one_by_one(iter(images), masks))
    assert [image for image, _ in found] == images
    assert [why is None for _, why in found] == [True, False, True]
    # A program that reports each new file names the masks as well.
    (_, why), _ = check_one_by_one([ImageFile("out/a.png", "a.png"), FINE[1]], masks)
    assert "is one of the images" in why
