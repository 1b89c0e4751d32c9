"""Which images are still to be predicted."""

from pathlib import Path

import pytest

from prediction.jobs.find_images import find_images
from prediction.jobs.image_file import ImageFile
from prediction.jobs.plan import (
    check_output_path,
    find_on_main,
    is_done,
    make_output_folder,
    plan_work,
)
from prediction.jobs.shards import Shard, in_shard

IMAGES = [ImageFile(f"in/{n % 3}/{n}.jpg", f"{n % 3}/{n}.jpg") for n in range(60)]


def outputs(image):
    return [image.output("out", ending) for ending in (".png", ".csv")]


def make(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_feature_what_is_missing_is_pending(here):
    for n, image in enumerate(IMAGES):
        make(*outputs(image)[: n % 3])  # nothing, one file, or both
    work = plan_work(IMAGES, outputs, overwrite=False)
    assert work.images == IMAGES
    assert work.pending == [image for n, image in enumerate(IMAGES) if n % 3 < 2]
    assert [is_done(outputs(image)) for image in IMAGES] == [n % 3 == 2 for n in range(60)]
    assert plan_work(IMAGES, outputs, overwrite=True).pending == IMAGES


def test_feature_a_mask_that_is_a_link_to_nowhere_is_missing(here):
    for image in IMAGES:
        make(*outputs(image))
    Path("out/2/5.png").unlink()
    Path("out/2/5.png").symlink_to("gone")
    assert plan_work(IMAGES, outputs, overwrite=False).pending == [IMAGES[5]]


@pytest.mark.parametrize("total", [1, 2, 7])
def test_feature_shards_share_the_work(here, total):
    make(*outputs(IMAGES[0]))
    works = [plan_work(IMAGES, outputs, shard=Shard(number, total), overwrite=False)
             for number in range(1, total + 1)]  # fmt: skip
    assert sorted(image for work in works for image in work.images) == sorted(IMAGES)
    assert sorted(image for work in works for image in work.pending) == sorted(IMAGES[1:])
    for number, work in enumerate(works, 1):
        assert all(in_shard(image.name, Shard(number, total)) for image in work.images)


def test_exception_collisions_between_shards(here):
    """Which two runs on two machines would not see."""
    for n in range(10):
        pair = [ImageFile(f"in/{n}.jpg", f"{n}.jpg"), ImageFile(f"in/{n}.tif", f"{n}.tif")]
        for number in (1, 2):
            with pytest.raises(ValueError, match=f"both become out/{n}.png"):
                plan_work(pair, outputs, shard=Shard(number, 2), overwrite=True)


def test_feature_find_on_main(here):
    make("in/a.jpg", "in/b.jpg", "in/list.txt")
    found = find_on_main(["in"], ["b*"], None, Path("out"))
    assert found == [ImageFile("in/a.jpg", "a.jpg")]
    with pytest.raises(ValueError, match="--allow-download"):
        find_images(["https://h/x/a.jpg"], (".jpg",), Path("out"))
    found = find_on_main(["https://h/x/a.jpg"], [], None, Path("out"), allow_download=True)
    assert found == [ImageFile("https://h/x/a.jpg", "a.jpg")]


def test_exception_output_folders(here):
    make("file")
    for output in ("file", "file/below/it"):
        with pytest.raises(ValueError, match="is not a folder"):
            check_output_path(Path(output))
        with pytest.raises(ValueError, match="cannot be made"):
            make_output_folder(Path(output))
    check_output_path(Path("new/one"))
    make_output_folder(Path("new/one"))
    assert Path("new/one").is_dir()
