"""Masks whose colours say what they mean, against Pillow's own look at them."""

import numpy as np
import pytest
from PIL import Image

from dataloaders.folder import Folder
from dataloaders.gaofen2 import Gaofen2
from dataloaders.gaofen3 import Gaofen3
from tests.dataset_trees import ids, image, label_of, save
from utils.drawing.palette import voc_palette
from utils.files.data_file import DataError
from utils.samples.mask_colours import read_colours

# Not in the order of VOC, nor of any program.
PALETTE = [(0, 0, 255), (0, 0, 0), (128, 0, 0), (255, 255, 255)]
LABEL_MAP = {",".join(map(str, colour)): label for label, colour in enumerate(PALETTE)}
LABELS = ids(3, 4)
COLOURS = np.array(PALETTE, np.uint8)[LABELS]


@pytest.fixture
def folder(tmp_path):
    """A function that puts a mask beside an image and reads it."""
    save(tmp_path / "images/1.png", image())
    (tmp_path / "masks").mkdir()

    def read(mask, extension="png", **arguments):
        for old in (tmp_path / "masks").iterdir():
            old.unlink()
        mask.save(tmp_path / f"masks/1.{extension}")
        return label_of(Folder(classes=4, data_dir=str(tmp_path), **arguments))

    return read


def indexed(values, palette):
    picture = Image.fromarray(values, "P")
    picture.putpalette(np.array(palette, np.uint8).tobytes())
    return picture


@pytest.mark.parametrize("extension", ["png", "gif", "bmp", "tif"])
def test_feature_requantised_masks_are_read_by_colour(folder, extension):
    """Pillow's quantize() sorts the colours as it likes; its own decoding is the check."""
    mask = Image.fromarray(COLOURS).quantize(8)
    assert np.array_equal(np.asarray(mask.convert("RGB")), COLOURS)
    assert not np.array_equal(np.asarray(mask), LABELS)
    assert np.array_equal(folder(mask, extension, palette=PALETTE), LABELS)
    assert np.array_equal(folder(mask, extension, label_map=LABEL_MAP), LABELS)


def test_feature_palettes_of_the_classes_and_of_voc_mean_ids(folder):
    for palette in (PALETTE, voc_palette(256), np.eye(3, dtype=np.uint8).repeat(2, 0)):
        assert np.array_equal(folder(indexed(LABELS, palette), palette=PALETTE), LABELS)
    assert np.array_equal(folder(Image.fromarray(LABELS), palette=PALETTE), LABELS)
    assert np.array_equal(folder(Image.fromarray(COLOURS), palette=PALETTE), LABELS)


def test_feature_a_map_of_colours_never_takes_ids(folder):
    """In VOC's palette, 0 is black and 1 is (128, 0, 0)."""
    mask = indexed(LABELS & 1, voc_palette(256))
    assert np.array_equal(folder(mask, label_map=LABEL_MAP), 1 + (LABELS & 1))
    black_white = Image.fromarray((LABELS & 1) * np.uint8(255))
    expected = np.where(LABELS & 1, 3, 1)
    assert np.array_equal(folder(black_white, label_map=LABEL_MAP), expected)
    assert np.array_equal(folder(black_white.convert("1"), label_map=LABEL_MAP), expected)
    with pytest.raises(DataError, match=r"not a class, for example \(2, 2, 2\)"):
        folder(Image.fromarray(LABELS & 2), label_map=LABEL_MAP)


def test_exception_shades_of_grey_that_are_colours(folder):
    mask = Image.fromarray((LABELS & 1) * np.uint8(255))
    with pytest.raises(DataError, match=r'values 0, 255.*label_map \{"0": 1, "255": 3\}'):
        folder(mask, palette=PALETTE)
    expected = np.where(LABELS & 1, 255, 0)  # 255 is said to be an id
    assert np.array_equal(folder(mask, palette=PALETTE, ignore_index=255), expected)
    some = np.where(LABELS == 0, 255, LABELS).astype(np.uint8)  # 2 is no shade of the palette
    assert np.array_equal(folder(Image.fromarray(some), palette=PALETTE), some)


def test_feature_a_map_of_ids_and_colours_takes_both(folder):
    both = {**LABEL_MAP, "0": 2, "255": 0}
    mask = (LABELS & 1) * np.uint8(255)
    assert np.array_equal(folder(Image.fromarray(mask), label_map=both), np.where(mask, 0, 2))
    assert np.array_equal(folder(Image.fromarray(COLOURS), label_map=both), LABELS)


def test_feature_npy_masks(tmp_path):
    np.save(tmp_path / "grey.npy", LABELS)
    assert np.array_equal(read_colours(tmp_path / "grey.npy"), np.dstack([LABELS] * 3))
    np.save(tmp_path / "deep.npy", LABELS.astype(np.int32))
    with pytest.raises(DataError, match=r"deep\.npy: has numbers of type int32"):
        read_colours(tmp_path / "deep.npy")


def test_feature_gaofen_palettes_are_colours(tmp_path):
    labels = ids(1, 9, (9, 11))
    save(tmp_path / "sat/train/img/1.tif", image(size=(9, 11)))
    shown = Image.fromarray(np.array(Gaofen2.palette, np.uint8)[labels])
    shown.quantize(16).save(tmp_path / "sat/train/img/1_gt.png")
    assert np.array_equal(label_of(Gaofen2(str(tmp_path), "train")), labels)
    (tmp_path / "sar/train").mkdir(parents=True)
    for name in ("HH", "HV", "VH", "VV"):
        band = Image.fromarray(ids(2, 9, (9, 11)).astype(np.uint16))
        band.save(tmp_path / f"sar/train/1_{name}.tiff")
    labels = labels % 7
    shown = Image.fromarray(np.array(Gaofen3.palette, np.uint8)[labels])
    shown.quantize(16).save(tmp_path / "sar/train/1_gt.png")
    assert np.array_equal(label_of(Gaofen3(str(tmp_path / "sar"), "train")), labels)
