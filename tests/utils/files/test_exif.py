"""EXIF orientation: one rule for images and masks, in training, checkpoints and inference."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from builders.data import describe_dataset
from dataloaders.folder import Folder
from prediction.load_model import Meta, restore
from tests.prediction.conftest import folder, model_file  # noqa: F401  # fixtures
from tests.prediction.program import run
from tests.training_runs import run as train_run
from tests.training_runs import small_config
from utils.files.data_file import DataError
from utils.files.image_head import read_head, turn_upright

ORIENTATIONS = range(1, 9)


def tag(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def save(path, pixels, orientation=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = {} if orientation is None else {"exif": tag(orientation)}
    Image.fromarray(pixels).save(path, **extra, **options)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shown(path):
    """The image as Pillow, which is not ours, turns it for a person."""
    return np.array(ImageOps.exif_transpose(Image.open(path)))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_feature_heads_and_turns_equal_pillow(tmp_path, name, orientation):
    path = tmp_path / name
    options = {"lossless": True} if name.endswith("webp") else {}
    if name.endswith("tif"):
        tifffile.imwrite(path, noise(5, 7), extratags=[(274, "H", 1, orientation, True)])
    else:
        save(path, noise(5, 7), orientation, **options)
    head = read_head(path)
    assert head.stored_size == (7, 5)
    assert head.orientation == orientation
    if not name.endswith("tif"):  # Pillow turns these by itself while it reads them
        stored = np.array(Image.open(path))
        assert np.array_equal(turn_upright(stored, orientation), shown(path))
    assert head.shown_size == shown(path).shape[1::-1]


@pytest.mark.parametrize("value", [0, 9, 255])
def test_feature_an_orientation_of_nothing_is_upright(tmp_path, value):
    save(tmp_path / "a.jpg", noise(5, 7), value)
    assert read_head(tmp_path / "a.jpg").orientation == 1


def test_exception_a_head_that_is_none(tmp_path):
    for content in (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n123", b"hello", b"II*\0"):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.jpg"):
            read_head(tmp_path / "a.jpg")


def make(root, orientation, size=(24, 32), count=3, labelled="shown"):
    """Photos with an orientation, and masks drawn on what a person sees or on what is stored."""
    for n in range(count):
        photo = root / f"images/{n}.png"
        save(photo, noise(*size, seed=n), orientation)
        base = shown(photo) if labelled == "shown" else np.array(Image.open(photo))
        save(root / f"masks/{n}.png", (base[..., 0] > 127).astype(np.uint8))
    return root


def folder_of(root, **args):
    return Folder(classes=2, data_dir=str(root), images="images", masks="masks", **args)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("rule", ["apply", "ignore"])
def test_feature_one_rule_turns_image_and_mask(tmp_path, orientation, rule):
    labelled = "shown" if rule == "apply" else "stored"
    dataset = folder_of(make(tmp_path, orientation, labelled=labelled), exif=rule)
    pair = dataset.load(0)
    assert np.array_equal(pair.mask, pair.image[..., 0] > 127)
    if rule == "apply":
        assert np.array_equal(pair.image, shown(tmp_path / "images/0.png"))


def test_feature_a_mask_with_an_orientation_of_its_own(tmp_path):
    make(tmp_path, 6)
    stored = np.array(Image.open(tmp_path / "images/0.png"))
    save(tmp_path / "masks/0.png", (stored[..., 0] > 127).astype(np.uint8), 6)
    for rule in ("apply", "ignore"):
        pair = folder_of(tmp_path, exif=rule).load(0)
        assert np.array_equal(pair.mask, pair.image[..., 0] > 127), rule


def test_feature_bands_turn_with_what_is_missing(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    pixels = np.arange(5 * 7 * 4, dtype=np.uint16).reshape(5, 7, 4)
    extra = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "images/0.tif", pixels, planarconfig="contig", extratags=extra)
    save(tmp_path / "masks/0.png", np.zeros((7, 5), np.uint8))
    dataset = folder_of(tmp_path, exif="apply", nodata=0, mean=[1.0] * 4, std=[1.0] * 4)
    picture = dataset.load(0)
    assert picture.image.shape == (7, 5, 4)
    assert picture.missing.sum() == 1
    assert picture.missing[0, 4]  # the first pixel comes to the upper right


@pytest.mark.parametrize(
    ("labelled", "rule", "advice"),
    [("shown", None, '"exif": "apply"'), ("stored", "apply", '"exif": "ignore"')],
)
def test_exception_sizes_name_the_other_rule(tmp_path, labelled, rule, advice):
    dataset = folder_of(make(tmp_path, 6, labelled=labelled), exif=rule)
    with pytest.raises(DataError, match="orientation 6") as caught:
        dataset.load(0)
    for fact in (advice, "24x32", "32x24"):
        assert fact in str(caught.value)


def test_exception_sizes_that_no_rule_explains(tmp_path):
    make(tmp_path, 6)
    save(tmp_path / "masks/0.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError) as caught:
        folder_of(tmp_path).load(0)
    assert "exif" not in str(caught.value)


def config(root, **args):
    """A training on the folder's images, a third of them for validation."""
    args = {"classes": 2, "batch_size": 2, "num_workers": 0, "val_split": 0.34, **args}
    loader = {"type": "Folder", "args": {"data_dir": str(root), **args}}
    return {**small_config(root, epochs=1), "train_loader": loader, "val_loader": None}


def start(root, capsys, **args):
    """Run train.py; returns its exit code and what it wrote to the error stream."""
    return train_run(root, config(root, **args))[0], capsys.readouterr().err


def test_exception_training_offers_the_rule_before_a_folder_is_made(tmp_path, capsys):
    make(tmp_path, 6)
    code, error = start(tmp_path, capsys)
    assert code == 2 and '"exif": "apply"' in error and "2 of 2 masks" in error
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("rule", [None, "apply", "ignore"])
def test_exception_masks_of_both_rules_do_not_send_in_circles(tmp_path, capsys, rule):
    make(tmp_path, 6, count=6)
    for n in (1, 3, 5):
        stored = np.array(Image.open(tmp_path / f"images/{n}.png"))
        save(tmp_path / f"masks/{n}.png", (stored[..., 0] > 127).astype(np.uint8))
    code, error = start(tmp_path, capsys, **({"exif": rule} if rule else {}), val_split=0.01)
    assert code == 2
    assert "mogrify -auto-orient" in error
    assert '"exif": "apply"' not in error
    for n in (0, 2, 4):  # what mogrify does
        save(tmp_path / f"images/{n}.png", shown(tmp_path / f"images/{n}.png"))
    assert start(tmp_path, capsys, exif="ignore", augment=True, crop_size=16)[0] == 0


@pytest.mark.parametrize(("orientation", "size"), [(3, (24, 32)), (6, (32, 32))])
def test_feature_a_doubt_is_said_once_with_the_first_file(tmp_path, capsys, orientation, size):
    make(tmp_path, orientation, size=size, count=4)
    code, error = start(tmp_path, capsys)
    assert code == 0
    assert error.count("warning: ") == 1
    assert '"exif": "apply" into train_loader.args' in error
    assert "4 of 4 images" in error
    assert f"images/0.png (orientation {orientation})" in error
    code, error = start(tmp_path, capsys, exif="apply")
    assert (code, error) == (0, "")
    path = max((tmp_path / "saved").rglob("best_model.pth"), key=lambda p: p.stat().st_mtime_ns)
    assert restore(path, "cpu")[1].exif == "apply"


def test_feature_sizes_that_tell_raise_no_doubt(tmp_path, capsys):
    """Also where bad samples are skipped."""
    make(tmp_path, 6, labelled="stored", count=6)
    assert start(tmp_path, capsys) == (0, "")
    make(tmp_path, 6, count=6)
    code, error = start(tmp_path, capsys, on_bad_sample="skip")
    assert code == 2  # none fits
    assert "do not tell" not in error
    assert '"exif": "apply"' in error


def test_feature_the_rule_is_part_of_what_a_cache_knows(tmp_path):
    make(tmp_path, 3)
    rules = {folder_of(tmp_path, exif=rule).reading_rule() for rule in ("apply", "ignore")}
    assert len(rules) == 2
    described = describe_dataset(folder_of(tmp_path, exif="apply"), 255)
    assert described["exif"] == "apply"
    assert "exif" not in describe_dataset(folder_of(tmp_path), 255)
    assert Meta(("a", "b"), ((0, 0, 0), (1, 1, 1)), (0.5,) * 3, (0.5,) * 3).exif is None


def test_feature_inference_says_or_applies_the_orientation(model_file, folder, capsys):  # noqa: F811
    save(folder / "a.png", noise(14, 20), 6)
    save(folder / "b.png", noise(14, 20), 3)
    save(folder / "c.png", noise(14, 20))
    assert run(model_file, "-i", folder, "-o", "stored") == 0
    error = capsys.readouterr().err
    assert error.count("--exif apply") == 1
    assert "a.png" in error or "b.png" in error
    assert Image.open("stored/a.png").size == (20, 14)
    assert run(model_file, "-i", folder, "-o", "turned", "--exif", "apply") == 0
    assert "orientation" not in capsys.readouterr().err
    assert Image.open("turned/a.png").size == (14, 20)
    upright = io.BytesIO()
    Image.fromarray(shown(folder / "a.png")).save(upright, "PNG")
    (folder / "d.png").write_bytes(upright.getvalue())
    assert run(model_file, "-i", folder / "d.png", "-o", "turned", "--exif", "ignore") == 0
    assert np.array_equal(Image.open("turned/a.png"), Image.open("turned/d.png"))
