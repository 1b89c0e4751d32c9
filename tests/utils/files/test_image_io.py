"""utils/files/image_io.py and utils/samples/labels.py; more files are in test_bad_input.py."""

import numpy as np
import pytest
from PIL import Image

from tests.bad_files import PHOTO, encode
from utils.cli.extensions import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.files import image_io
from utils.files.data_file import DataError
from utils.files.image_io import list_images, read_image, read_mask
from utils.samples.labels import LabelMap


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore")
def test_exception_cut_off_files(tmp_path, kind, share):
    data = encode(PHOTO.repeat(8, 0).repeat(8, 1), kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"cut\.bin"):
        read_image(path)
    if kind != "JPEG":
        with pytest.raises(DataError, match=r"cut\.bin"):
            read_mask(path)


def test_feature_masks_and_images_of_every_ending(tmp_path):
    save = Image.fromarray(np.zeros((4, 4), np.uint8)).save
    for ending in IMAGE_EXTENSIONS:
        save(tmp_path / f"x{ending}", **({"lossless": True} if ending == ".webp" else {}))
        assert read_image(tmp_path / f"x{ending}").shape == (4, 4, 3)
        if ending in MASK_EXTENSIONS:
            assert not read_mask(tmp_path / f"x{ending}").any()
    assert set(IMAGE_EXTENSIONS) - set(MASK_EXTENSIONS) == {".jpg", ".jpeg"}


def test_feature_listing(tmp_path):
    for name in ("b.JPG", "a.x.png", "sub/c.jpeg", ".hidden.png", ".git/d.png", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)]
    assert found == ["a.x.png", "b.JPG", "sub/c.jpeg"]


# --- labels


@pytest.mark.parametrize("ignore_index", [255, -1, -100, 0, 200])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_feature_label_map_equals_a_naive_loop(ignore_index, dtype):
    ids = {0: 2, 7: 0, 9: -1, 30: 1}
    mask = np.random.default_rng(0).choice([0, 7, 9, 30, 255], (5, 6)).astype(dtype)
    labels = LabelMap(3, ignore_index, void=(255,), ids=ids)(mask, "m")
    for raw, label in zip(mask.flat, labels.flat, strict=True):
        expected = -1 if raw == 255 else ids[int(raw)]
        assert label == (ignore_index if expected == -1 else expected)
    assert labels.dtype == (np.int16 if ignore_index < 0 else np.uint8)


def test_feature_colours():
    colours = {(0, 0, 0): 0, (128, 0, 64): 1, (255, 255, 255): -1}
    mask = np.array([[[0, 0, 0], [128, 0, 64]], [[255, 255, 255], [0, 0, 0]]], np.uint8)
    labels = LabelMap(2, 255, colours=colours)(mask, "m")
    assert labels.tolist() == [[0, 1], [255, 0]]
    mask[0, 0, 0] = 1
    with pytest.raises(DataError, match=r"1 pixels have a colour .*\(1, 0, 0\)"):
        LabelMap(2, 255, colours=colours)(mask, "m")
    with pytest.raises(DataError, match="has colours"):
        LabelMap(2, 255)(mask, "m")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_exception_label_out_of_range(dtype):
    mask = np.array([[0, 1, 5, 5, 9]], dtype)
    with pytest.raises(DataError, match=r"a/b\.png: 3 pixels have label 5, 9, which is neither"):
        LabelMap(2, 255)(mask, "a/b.png")


def test_exception_far_out_of_range():
    with pytest.raises(DataError, match="label 70000"):
        LabelMap(2, 255)(np.array([[70000, 0]], np.int32), "m")
    with pytest.raises(DataError, match="label -5"):
        LabelMap(2, 255)(np.array([[-5, 0]], np.int32), "m")
    assert LabelMap(2, -1)(np.array([[-1, 1]], np.int32), "m").tolist() == [[-1, 1]]
    assert LabelMap(300, -1)(np.array([[299, 65535]], np.int32) % 300, "m").tolist() == [[299, 135]]


def test_feature_the_ids_of_a_dataset_alone_are_ignored():
    """The label of the program, 0 or 200, is no id where the dataset names its own."""
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    assert LabelMap(3, 200, void=(255,))(mask, "m").tolist() == [[0, 1, 2, 200]]
    with pytest.raises(DataError, match=r"label 200, .*nor ignored \(255\)"):
        LabelMap(3, 200, void=(255,))(np.array([[200]], np.uint8), "m")
    with pytest.raises(DataError, match=r"label 255, .*nor ignored \(7, 9\)"):
        LabelMap(3, 255, void=(7, 9))(mask, "m")
    with pytest.raises(DataError, match=r"label 255, .*nor ignored \(none is\)"):
        LabelMap(3, 255, void=())(mask, "m")
    assert LabelMap(3, -1, void=(1,))(mask[:, :3], "m").tolist() == [[0, -1, 2]]


def test_feature_ignored_by_default_are_255_and_the_label():
    mask = np.array([[0, 2, 200, 255]], np.uint8)
    assert LabelMap(3, 200)(mask, "m").tolist() == [[0, 2, 200, 200]]
    with pytest.raises(DataError, match=r"label 9, .*nor ignored \(255, 200\)"):
        LabelMap(3, 200)(np.array([[9]], np.uint8), "m")
    assert LabelMap(256, -1)(mask, "m").tolist() == mask.tolist()  # a class wins
    assert LabelMap(300, -1)(np.array([[255, 299]]), "m").tolist() == [[255, 299]]
    assert LabelMap(300, -1, void=(255,))(np.array([[255, 299]]), "m").tolist() == [[-1, 299]]
    with pytest.raises(DataError, match="label 200, which the label map does not name"):
        LabelMap(3, 200, ids={0: 0, 2: 1})(mask, "m")


@pytest.mark.parametrize("fast", [True, False])
def test_feature_png_with_and_without_the_faster_decoder(tmp_path, monkeypatch, fast):
    """Pillow is the independent source."""
    if fast:
        pytest.importorskip("imagecodecs")
        assert image_io._fast_png_decoder() is not None
    else:
        monkeypatch.setattr(image_io, "_fast_png_decoder", lambda: None)
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (31, 47, 4), dtype=np.uint8)
    for name, picture in {
        "rgb": Image.fromarray(rgba[..., :3]),
        "rgba": Image.fromarray(rgba),
        "grey": Image.fromarray(rgba[..., 0]),
    }.items():
        picture.save(tmp_path / f"{name}.png")
        expected = np.asarray(picture.convert("RGB"))
        read = read_image(tmp_path / f"{name}.png")
        assert read.dtype == np.uint8
        assert np.array_equal(read, expected)
        assert read.flags.writeable
        assert read.flags.c_contiguous
