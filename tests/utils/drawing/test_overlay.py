"""Classes laid over an image, and their legend."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from utils.drawing.fonts import length
from utils.drawing.legend import MAX_ENTRIES, Entry, draw_legend, draw_swatch, entry_name, shorten
from utils.drawing.overlay import OPACITY, draw_overlay, is_background, lay_over, outline_colours
from utils.drawing.palette import voc_palette

PALETTE = [(0, 0, 0), (250, 10, 10), (20, 20, 240)]
CLASSES = ["background", "road", "tree"]


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def count(image, colour):
    return int((image == colour).all(-1).sum())


def test_feature_a_background_is_known_by_its_name():
    names = ["background", "_background_", "Background", "bg", "void", "Un-labelled", "other"]
    others = ["road", "class 0", "wall-other", "ground", "sky", "", "avoid"]
    assert [name for name in [*names, *others] if is_background(name)] == names


def test_feature_tints_and_outlines_by_hand():
    """A square of class 1 in class 0: 0.45 of its colour inside, its outline one pixel wide."""
    image = picture(10, 12)
    ids = np.zeros((10, 12), np.uint8)
    ids[2:8, 3:9] = 1
    drawn = lay_over(image, ids, PALETTE, clear=[0])
    inside = (slice(3, 7), slice(4, 8))
    expected = (1 - OPACITY) * image[inside] + OPACITY * np.array(PALETTE[1])
    assert np.abs(drawn[inside] - expected).max() <= 0.5
    edge = np.zeros(ids.shape, bool)
    edge[2:8, 3:9] = True
    edge[inside] = False
    assert (drawn[edge] == PALETTE[1]).all()
    assert (drawn[ids == 0] == image[ids == 0]).all()  # as it is, to the last bit
    # Without a class to leave as it is, both sides of the boundary have their outline.
    both = lay_over(image, ids, PALETTE)
    assert both[1, 5].tolist() == outline_colours(PALETTE)[0]
    assert np.abs(both[0, 0] - (1 - OPACITY) * image[0, 0].astype(float)).max() <= 0.5


def test_feature_outlines_are_thicker_where_asked():
    ids = np.zeros((30, 30), np.uint8)
    ids[5:25, 5:25] = 1
    image = np.zeros((30, 30, 3), np.uint8)
    drawn = lay_over(image, ids, PALETTE, clear=[0], thickness=3)
    assert count(drawn, PALETTE[1]) == 20 * 20 - 14 * 14


def test_feature_dark_outlines_are_brighter_in_the_same_hue():
    colours = [(128, 0, 0), (0, 64, 32), (0, 0, 0), (255, 3, 9)]
    expected = [[210, 0, 0], [0, 210, 105], [210, 210, 210], [255, 3, 9]]
    assert outline_colours(colours) == expected


def test_feature_the_overlay_is_the_image_and_a_legend_of_what_occurs():
    image = picture(60, 400)
    ids = np.zeros((60, 400), np.uint8)
    ids[20:40, 100:200] = 1
    drawn = draw_overlay(image, ids, CLASSES, PALETTE)
    assert drawn.shape[1] == 400 and drawn.shape[0] > 60
    assert drawn[:60].tolist() == lay_over(image, ids, PALETTE, clear=[0]).tolist()
    legend = drawn[60:]
    assert count(legend, PALETTE[1]) > 100  # its swatch
    assert not count(legend, PALETTE[2])  # does not occur
    assert not count(legend, PALETTE[0])  # not tinted, so its swatch is empty


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 2000), (2700, 4)])
def test_cardinality_images_of_any_size(size):
    image = picture(*size)
    ids = (np.arange(image[..., 0].size) % 3).reshape(size).astype(np.uint16)
    drawn = draw_overlay(image, ids, ["a road " * 40, "\u65e5\u672c\n\udcff", ""], PALETTE)
    assert drawn.shape[0] > size[0] and drawn.shape[1] >= size[1]
    expected = lay_over(image, ids, PALETTE, thickness=max(1, round(max(size) / 900)))
    assert drawn[: size[0], : size[1]].tolist() == expected.tolist()


def test_cardinality_hundreds_of_classes():
    palette, names = voc_palette(300), [f"class {i}" for i in range(300)]
    ids = np.arange(300, dtype=np.uint16).reshape(15, 20).repeat(8, 0).repeat(8, 1)
    drawn = draw_overlay(picture(120, 160), ids, names, palette)
    assert drawn.shape[0] < 2000  # in several columns, though the image has room for one
    code = drawn[120:].astype(np.int64) @ (65536, 256, 1)
    values, counts = np.unique(code, return_counts=True)
    pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    swatches = sum(pixels.get(r * 65536 + g * 256 + b, 0) > 50 for r, g, b in palette[1:])
    assert swatches in (MAX_ENTRIES - 1, MAX_ENTRIES)


def test_feature_a_legend_has_columns_and_cuts_names():
    entries = [Entry(f"class {i}", (200, i, 0), 0.25) for i in range(4)]
    narrow, wide = draw_legend(entries, 1), draw_legend(entries, 1000)
    assert wide.size == (1000, narrow.height // 4) and narrow.width > 60
    long = draw_legend([Entry("x" * 500, (200, 0, 0), 0.5)], 1)
    assert long.width < 300
    assert draw_legend([], 50).size == (50, 0)


def test_feature_an_untinted_class_has_an_empty_swatch():
    block = Image.new("RGB", (20, 20), "#00ff00")
    entry = Entry("road", (200, 0, 0), 1.0, tinted=False)
    draw_swatch(ImageDraw.Draw(block), 0, 0, entry)
    assert count(np.array(block), (255, 255, 255)) == 11 * 11


def test_feature_names_are_cut_to_the_pixel():
    text = "road markings, worn"
    assert shorten(text, 1000) == text
    for width in (30, 60, 90):
        start, end = shorten(text, width), shorten(text, width, keep_end=True)
        assert text.startswith(start[:-1]) and text.endswith(end[1:])
        assert length(start, 13) <= width and length(end, 13) <= width
        assert length(text[: len(start)] + "…", 13) > width  # one letter more does not fit
    assert shorten(text, 0) == "…"
    assert entry_name(Entry("a\nb", (0, 0, 0), 1.0, "7")) in ("a\ufffdb", "7")
