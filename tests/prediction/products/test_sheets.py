"""Colour and overlay against `draw_overlay` of the whole image, and by hand."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prediction.products import sheets
from prediction.products.kinds import Settings
from tests.prediction.products.case import IGNORED, make_case
from tests.row_files import full_disk, random_cuts
from utils.drawing import legend_strip
from utils.drawing.legend_strip import draw_legend_strip, legend_entries, legend_size
from utils.drawing.overlay import draw_overlay, lay_over, outline_thickness
from utils.drawing.palette import IGNORED_COLOUR, colorize

# Wide enough for the legend, and narrow: the sheet is wider than the image.
SIZES = [(40, 700), (90, 37), (1, 1), (2, 500), (1500, 3)]


def read(path):
    return np.asarray(Image.open(path))


def overlay_of(case):
    whole, facts = case.whole, case.facts
    return draw_overlay(whole.image, whole.ids, facts.classes, facts.palette)


@pytest.mark.parametrize("size", SIZES)
def test_feature_an_overlay_is_that_of_the_whole_image(tmp_path, size):
    case = make_case(*size)
    path = case.write("overlay", tmp_path)
    assert path.name == "b.c_overlay.png"
    assert np.array_equal(read(path), overlay_of(case))


@pytest.mark.parametrize("num_classes", [2, 40, 300])
def test_feature_an_overlay_of_any_number_of_classes(tmp_path, num_classes):
    case = make_case(50, 640, num_classes)
    assert np.array_equal(read(case.write("overlay", tmp_path, [20])), overlay_of(case))


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_feature_outlines_do_not_depend_on_the_cuts(tmp_path_factory, data):
    """Whatever their thickness, and however few pixels are drawn at once."""
    folder = tmp_path_factory.mktemp("overlay")
    height, width = data.draw(st.integers(1, 70)), data.draw(st.sampled_from([1, 30, 400]))
    cuts = data.draw(random_cuts(height))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legend_strip, "USUAL_SIDE", data.draw(st.sampled_from([900, 30, 7])))
        patch.setattr(sheets, "PIECE_PIXELS", data.draw(st.sampled_from([1, 500, 10**6])))
        patch.setattr(sheets, "_IN_MEMORY", data.draw(st.sampled_from([100, 10**6])))
        case = make_case(height, width, seed=data.draw(st.integers(0, 3)))
        path = case.write("overlay", folder, cuts)
        assert np.array_equal(read(path), overlay_of(case))


@pytest.mark.parametrize("rows_at_once", [1, 2, 5])
def test_feature_thick_outlines_across_single_rows(tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr(legend_strip, "USUAL_SIDE", 15)
    case = make_case(60, 45)
    assert outline_thickness(60, 45) == 4
    path = case.write("overlay", tmp_path, range(0, 60, rows_at_once))
    assert np.array_equal(read(path), overlay_of(case))


def test_feature_strength_and_outlines_only(tmp_path):
    case = make_case(40, 60)
    whole, palette = case.whole, case.facts.palette
    plain = {"legend": False, "overwrite": True}
    for opacity in (0.0, 0.3, 1.0):
        path = case.write("overlay", tmp_path, [3], Settings(strength=opacity, **plain))
        expected = lay_over(whole.image, whole.ids, palette, clear=[0], opacity=opacity)
        assert np.array_equal(read(path), expected)
    path = case.write("overlay", tmp_path, [3], Settings(outlines_only=True, **plain))
    drawn = read(path)
    inside = cv2.erode((whole.ids == 1).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert inside.any() and np.array_equal(drawn[inside], whole.image[inside])
    changed = (drawn != whole.image).any(-1)
    assert changed.any() and set(whole.ids[changed]) <= {1, 2, 3, 4}


def test_feature_ignored_pixels_are_left_as_they_are(tmp_path):
    case = make_case(40, 600, ignored=True)
    ignored = case.whole.ids == IGNORED
    assert ignored.any()
    drawn = read(case.write("overlay", tmp_path, [13]))
    assert np.array_equal(drawn[:40][ignored], case.whole.image[ignored])
    colours = read(case.write("colour", tmp_path, [13]))
    assert (colours[:40][ignored] == IGNORED_COLOUR).all()
    # Its swatch is in the legend of the colours, and an empty one in that of the overlay.
    assert (colours[40:] == IGNORED_COLOUR).all(-1).sum() > 50
    assert not (drawn[40:] == IGNORED_COLOUR).all(-1).any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_classes", [5, 300])
def test_feature_colours_above_a_legend(tmp_path, size, num_classes):
    case = make_case(*size, num_classes)
    height, width = size
    ids, facts = case.whole.ids, case.facts
    entries = legend_entries(np.bincount(ids.ravel()), facts.classes, facts.palette)
    strip = draw_legend_strip(entries, width, legend_size(height, width))
    sheet = read(case.write("colour", tmp_path, [height // 3]))
    assert sheet.shape == (height + len(strip), max(width, strip.shape[1]), 3)
    assert np.array_equal(sheet[:height, :width], colorize(ids, facts.palette))
    assert np.array_equal(sheet[height:, : strip.shape[1]], strip)
    assert (sheet[:height, width:] == 255).all()
    bare = read(case.write("colour", tmp_path / "bare", [1], Settings(legend=False)))
    assert np.array_equal(bare, colorize(ids, facts.palette))


@pytest.mark.parametrize("name", ["colour", "overlay"])
def test_feature_a_jpeg_is_nearly_the_png(tmp_path, name):
    case = make_case(60, 700)
    exact = read(case.write(name, tmp_path, [17])).astype(int)
    path = case.write(f"{name}.jpg", tmp_path, [17])
    image = Image.open(path)
    assert image.format == "JPEG" and image.mode == "RGB"
    assert np.abs(np.asarray(image) - exact).mean() < 12 and np.asarray(image).shape == exact.shape


def test_exception_a_jpeg_is_not_that_large(tmp_path):
    """Known before anything is predicted, with the legend that may come below."""
    for height, width, legend in ((65_501, 10, False), (65_400, 10, True), (20_000, 9_000, False)):
        facts = dataclasses.replace(make_case(4, 4).facts, height=height, width=width)
        with pytest.raises(ValueError, match=rf"{width}x{height}.*choose png"):
            sheets.Colour(tmp_path / "a.jpg", facts, Settings(legend=legend))
    assert list(tmp_path.iterdir()) == []


def test_feature_large_images_have_bounded_letters_and_outlines():
    """The legend below 100,000 x 100,000 pixels would else be as large as a large image."""
    side = 100_000
    assert outline_thickness(side, side) == 15 and legend_size(side, side) == 15 * 13
    entries = legend_entries(np.ones(19), ["pedestrian"] * 19, [(0, 0, 0)] * 19)
    strip = draw_legend_strip(entries, side, legend_size(side, side))
    assert strip.nbytes < 100e6 and strip.shape[1] < side
    assert legend_size(900, 500) == 13 and legend_size(1800, 500) == 26


def test_feature_rows_that_wait_for_the_legend_leave_nothing_behind(tmp_path, monkeypatch):
    """Of a narrow image, whose legend may be wider: on a disk, where memory is short."""
    monkeypatch.setattr(sheets, "_IN_MEMORY", 1000)
    case = make_case(300, 40)
    path = tmp_path / "a.png"
    for room in (5000, 36_100):  # in the rows that wait, and in the file
        with full_disk(room), pytest.raises(OSError):
            product = sheets.Overlay(path, case.facts, Settings())
            try:
                product.write(case.whole)
                product.finish()
            finally:
                product.discard()
        assert list(tmp_path.iterdir()) == []
    product = sheets.Overlay(path, case.facts, Settings())
    product.write(case.whole)
    assert list(tmp_path.iterdir()) == []
    product.finish()
    assert np.array_equal(read(path), overlay_of(case))
    with pytest.raises(FileExistsError):
        sheets.Overlay(path, case.facts, Settings())
