"""Images in folders and of patterns, held against pathlib."""

import os
from pathlib import Path

import pytest

from prediction.jobs.image_folders import images_below, images_of_pattern

NAMES = ["a.jpg", "b.PNG", "c.txt", ".d.jpg", "sub/e.jpg", "sub/deep.er/f.png", ".cache/g.jpg",
         "out/h.png", "x.jpg/i.jpg", "sub/ü,\n'j.jpg", os.fsdecode(b"sub/\xff.png"),
         ".jpg"]  # fmt: skip
EXTENSIONS = (".jpg", ".png")


@pytest.fixture
def tree(here):
    for name in NAMES:
        path = here / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return here / "in"


def expected(tree, matches):
    """The paths of files with the extensions, hidden ones and those in out/ left out."""
    found = set()
    for path in matches:
        parts = path.relative_to(tree).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and path.suffix.lower() in EXTENSIONS and not hidden:
            found |= {path.relative_to(tree).as_posix()} - {"out/h.png"}
    return found


@pytest.mark.parametrize("start", ["in", "./in/", "absolute", "."])
def test_feature_folder(tree, monkeypatch, start):
    if start == ".":
        monkeypatch.chdir(tree)
    source = tree if start == "absolute" else Path(start)
    images = list(images_below(source, EXTENSIONS, tree / "out"))
    names = [image.name for image in images]
    assert len(names) == len(set(names)) == 7
    assert set(names) == expected(tree, tree.rglob("*"))
    assert [image.file for image in images] == [str(source / name) for name in names]
    assert all(image.path.is_file() for image in images)


@pytest.mark.parametrize("pattern", ["*", "**/*", "*/*.png", "sub/*", "[ab].*", "**/*.jpg"])
def test_feature_pattern(tree, monkeypatch, pattern):
    monkeypatch.chdir(tree)
    fixed = Path(pattern).parts[0] if pattern.startswith("sub") else "."
    for source, root in ((pattern, "."), (str(tree / pattern), str(tree))):
        images = list(images_of_pattern(source, EXTENSIONS, tree / "out"))
        assert {os.path.relpath(i.file, root) for i in images} == expected(tree, tree.glob(pattern))
        assert all(Path(root, fixed, image.name) == image.path for image in images)
        assert [image.file for image in images] == sorted(image.file for image in images)


def test_feature_a_pattern_of_the_output_itself(tree):
    (image,) = images_of_pattern(f"{tree}/out/*", EXTENSIONS, tree / "out")
    assert image.name == "h.png"


def test_feature_links_that_lead_into_the_output(tree):
    (tree / "sub" / "mask.png").symlink_to(tree / "out" / "h.png")
    (tree / "again").symlink_to(tree / "out")
    (tree / "sub" / "up").symlink_to(tree)
    found = {image.name for image in images_of_pattern(f"{tree}/*/*", EXTENSIONS, tree / "out")}
    assert found == expected(tree, tree.glob("*/*")) - {"sub/mask.png", "again/h.png"}
    names = [image.name for image in images_below(tree, EXTENSIONS, tree / "out")]
    assert set(names) == expected(tree, tree.rglob("*"))
    assert len(names) == len(set(names))


def test_exception_a_folder_that_cannot_be_read(tree, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "in/sub")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="in/sub cannot be read"):
        list(images_below(tree, EXTENSIONS, tree / "out"))
