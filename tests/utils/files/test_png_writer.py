"""PNG files written row by row, read by Pillow and OpenCV."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.row_files import check_guarantees, random_cuts, write_all
from utils.files import png_writer
from utils.files.png_file import GREY, PALETTE, RGB
from utils.files.png_writer import PngWriter

KINDS = {
    "palette": (PALETTE, 8), "grey": (GREY, 8), "deep": (GREY, 16), "rgb": (RGB, 8),
}  # fmt: skip
COLOURS = [(i, 255 - i, i * 7 % 256) for i in range(256)]


def pixels(kind, height, width, seed=0):
    """Noise of all values above flat regions."""
    colour, bits = KINDS[kind]
    shape = (height, width, 3) if colour == RGB else (height, width)
    values = np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(f"uint{bits}")
    values[height // 2 :] //= 200
    return values


def open_writer(path, kind, rows, height=None, **more):
    colour, bits = KINDS[kind]
    palette = COLOURS if colour == PALETTE else ()
    return PngWriter(path, rows.shape[1], height, colour=colour, bits=bits, palette=palette, **more)


def read_cv2(path, kind):
    """OpenCV turns palettes into colours, and orders these as BGR."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return image if kind in ("grey", "deep") else image[..., ::-1]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_feature_pillow_and_opencv_read_what_was_written(tmp_path, kind, flat):
    for height, width in ((1, 1), (37, 53), (600, 1100)):  # the last in several blocks
        rows = pixels(kind, height, width)
        path = tmp_path / f"{height}.png"
        write_all(open_writer(path, kind, rows, height, flat=flat), rows)
        image = Image.open(path)
        image.verify()  # the checksums of all chunks
        image = Image.open(path)
        assert np.array_equal(np.asarray(image), rows)
        shown = rows
        if kind == "palette":
            assert image.mode == "P"
            assert np.array_equal(np.reshape(image.getpalette(), (-1, 3)), COLOURS)
            shown = np.array(COLOURS, np.uint8)[rows]
        assert np.array_equal(read_cv2(path, kind), shown)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_feature_the_bytes_do_not_depend_on_the_cuts(tmp_path_factory, kind, data):
    folder = tmp_path_factory.mktemp("png")
    rows = pixels(kind, 90, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png_writer, "BLOCK_BYTES", data.draw(st.sampled_from([1, 700, 10**6])))
        write_all(open_writer(folder / "a.png", kind, rows, len(rows)), rows)
        cuts = data.draw(random_cuts(len(rows)))
        write_all(open_writer(folder / "b.png", kind, rows, len(rows)), rows, cuts)
        write_all(open_writer(folder / "c.png", kind, rows), rows, cuts)  # of unknown height
    first = (folder / "a.png").read_bytes()
    assert first == (folder / "b.png").read_bytes() == (folder / "c.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first))), rows)


def test_feature_rows_that_are_not_contiguous(tmp_path):
    rows = pixels("rgb", 20, 30)[:, ::2]
    write_all(open_writer(tmp_path / "a.png", "rgb", rows), rows, [3, 4])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), rows)


def test_feature_rows_may_change_after_the_call(tmp_path):
    rows = pixels("grey", 20, 30)
    writer = open_writer(tmp_path / "a.png", "grey", rows)
    for row in rows:
        buffer = row[None].copy()
        writer.write(buffer)
        buffer[:] = 0
    writer.finish()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), rows)


def test_feature_files_are_about_as_small_as_pillows(tmp_path, real_data):
    for name, flat in (("SegmentationClass", True), ("JPEGImages", False)):
        ours = theirs = 0
        for path in sorted((real_data / "voc2012_layout/VOCdevkit/VOC2012" / name).iterdir()):
            image = Image.open(path)
            rows = np.asarray(image)
            kind = "palette" if flat else "rgb"
            write_all(open_writer(tmp_path / path.name, kind, rows, flat=flat), rows)
            ours += (tmp_path / path.name).stat().st_size
            file = io.BytesIO()
            image.save(file, format="PNG")
            theirs += len(file.getvalue())
        assert ours < 1.1 * theirs, name


def test_exception_rows_that_do_not_fit(tmp_path):
    rows = pixels("grey", 8, 9)
    for wrong in (rows[:, 1:], rows.astype(np.uint16), np.dstack([rows] * 3)):
        writer = open_writer(tmp_path / "a.png", "grey", rows, 8)
        with pytest.raises(ValueError, match=r"a\.png: rows of"):
            writer.write(wrong)
        writer.discard()
    writer = open_writer(tmp_path / "a.png", "grey", rows, 8)
    writer.write(rows)
    with pytest.raises(ValueError, match="row 9 of 8"):
        writer.write(rows[:1])
    writer.discard()
    writer = open_writer(tmp_path / "a.png", "grey", rows, 8)
    writer.write(rows[1:])
    with pytest.raises(ValueError, match="7 of 8"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_feature_files_are_whole_or_not_there(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (1200, 1000), np.uint8)

    def open_one(path, overwrite=False):
        return PngWriter(path, 1000, 1200, overwrite=overwrite)

    check_guarantees(tmp_path, "a.png", open_one, rows, 1_190_000)
