"""utils/files/image_io.py and utils/samples/labels.py against Pillow and naive loops."""

import io

import numpy as np
import pytest
from PIL import Image

from utils.cli.extensions import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.files import image_io
from utils.files.data_file import DataError
from utils.files.image_io import list_images, read_image, read_mask
from utils.samples.labels import LabelMap


def photo(height=40, width=60, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small.squeeze()).resize((width, height), Image.BICUBIC))
    return image


def encode(image, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_feature_lossless_images_equal_the_array(tmp_path, kind):
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(encode(photo(), kind))
    assert np.array_equal(read_image(path), photo())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_feature_lossy_images_equal_pillow(tmp_path, kind):
    path = tmp_path / "x.bin"
    path.write_bytes(encode(photo(), kind))
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(read_image(path) - expected).max() <= 3


def test_feature_grey_palette_and_alpha_become_rgb(tmp_path):
    path = tmp_path / "x.png"
    grey = photo(channels=1)
    path.write_bytes(encode(grey, "PNG"))
    assert np.array_equal(read_image(path), np.repeat(grey[..., None], 3, 2))
    alpha = np.dstack([photo(), np.full((40, 60), 128, np.uint8)])
    path.write_bytes(encode(alpha, "PNG"))
    assert np.array_equal(read_image(path), photo())


def test_feature_exif_rotation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = tmp_path / "x.jpg"
    path.write_bytes(encode(photo(), "JPEG", exif=exif))
    assert read_image(path).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore")
def test_exception_cut_off_files(tmp_path, kind, share):
    data = encode(photo(200, 300), kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"cut\.bin"):
        read_image(path)
    if kind != "JPEG":
        with pytest.raises(DataError, match=r"cut\.bin"):
            read_mask(path)


def test_feature_padding_behind_the_end_is_no_damage(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(encode(photo(), "JPEG") + b"\0" * 100)
    assert read_image(path).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is not an image"),
        (b"\xff\xd8\xff\xd9", "without an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "is damaged at byte 8"),
    ],
)
def test_exception_no_image(tmp_path, data, words):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=words):
        read_image(path)


def test_exception_missing_and_deep(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)
    deep = Image.fromarray(np.full((4, 4), 300, np.uint16))
    deep.save(tmp_path / "deep.png")
    deep.save(tmp_path / "deep.tif")
    for name in ("deep.png", "deep.tif"):
        with pytest.raises(DataError, match="8 bits"):
            read_image(tmp_path / name)
    assert read_mask(tmp_path / "deep.png")[0, 0] == 300


def test_feature_masks_keep_their_ids(tmp_path):
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(bytes(range(255, -1, -1)) * 3)
    palette.save(tmp_path / "p.png")
    Image.fromarray(ids).save(tmp_path / "l.png")
    Image.fromarray(ids > 3).save(tmp_path / "one.png")
    assert np.array_equal(read_mask(tmp_path / "p.png"), ids)
    assert np.array_equal(read_mask(tmp_path / "l.png"), ids)
    assert np.array_equal(read_mask(tmp_path / "one.png"), ids > 3)
    colours = photo(4, 6)
    Image.fromarray(colours).save(tmp_path / "c.png")
    assert np.array_equal(read_mask(tmp_path / "c.png"), colours)
    Image.fromarray(ids).save(tmp_path / "x.jpg")
    with pytest.raises(DataError, match="JPEG, which changes label values"):
        read_mask(tmp_path / "x.jpg")


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
