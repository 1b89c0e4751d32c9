import numpy as np
import pytest
from PIL import Image

from utils.drawing.palette import (
    IGNORED_COLOUR,
    blend,
    colorize,
    save_image,
    save_mask,
    voc_palette,
)

# The colours as the VOC pages list them.
VOC_FIRST = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
    (128, 128, 128), (64, 0, 0),
]  # fmt: skip


class TestVocPalette:
    def test_feature_published_colours(self):
        assert voc_palette(9) == VOC_FIRST
        assert voc_palette(21)[20] == (0, 64, 128)
        assert voc_palette(256)[255] == IGNORED_COLOUR

    @pytest.mark.parametrize("num_classes", [0, 1, 21, 256, 1000])
    def test_cardinality(self, num_classes):
        palette = voc_palette(num_classes)
        assert len(palette) == len(set(palette)) == num_classes
        assert all(0 <= value <= 255 for colour in palette for value in colour)

    def test_feature_calls_share_nothing(self):
        voc_palette(3).append((9, 9, 9))
        assert len(voc_palette(3)) == 3

    @pytest.mark.parametrize("num_classes", [-1, 2**24 + 1])
    def test_exception(self, num_classes):
        with pytest.raises(ValueError, match="colours for 0 to 2"):
            voc_palette(num_classes)


class TestColorize:
    def test_smoke(self):
        ids = np.array([[0, 1], [255, 2]], dtype=np.uint8)
        ids.flags.writeable = False
        picture = colorize(ids, VOC_FIRST[:3], 255)
        assert picture.dtype == np.uint8
        assert picture.tolist() == [
            [list(VOC_FIRST[0]), list(VOC_FIRST[1])],
            [list(IGNORED_COLOUR), list(VOC_FIRST[2])],
        ]

    def test_feature_ignored_label_may_be_a_class_id(self):
        picture = colorize(np.array([[0, 1]]), VOC_FIRST[:2], 0)
        assert picture[0].tolist() == [list(IGNORED_COLOUR), list(VOC_FIRST[1])]

    @pytest.mark.parametrize("value", [-1, 3, 255])
    def test_exception_id_without_colour(self, value):
        with pytest.raises(ValueError, match=f"3 colours, and none for the ids \\[{value}\\]"):
            colorize(np.array([[0, value]]), VOC_FIRST[:3])
        with pytest.raises(ValueError, match=r"the ids \[7\]"):
            colorize(np.array([[7, 255]]), VOC_FIRST[:3], 255)


class TestBlend:
    def test_feature_halfway(self):
        image = np.full((1, 2, 3), 100, np.uint8)
        colours = np.array([[[200, 0, 101]] * 2], np.uint8)
        assert blend(image, colours)[0, 0].tolist() == [150, 50, 100]
        assert blend(image, colours, 0).tolist() == image.tolist()
        assert blend(image, colours, 1).tolist() == colours.tolist()
        assert image[0, 0, 0] == 100


class TestSaveMask:
    def test_smoke_palette_png(self, tmp_path):
        ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
        save_mask(tmp_path / "mask.png", ids, VOC_FIRST)
        mask = Image.open(tmp_path / "mask.png")
        assert (mask.mode, mask.size) == ("P", (3, 2))
        assert np.array(mask).tolist() == ids.tolist()
        assert np.array(mask.convert("RGB")).tolist() == colorize(ids, VOC_FIRST).tolist()
        assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]

    @pytest.mark.parametrize("num_classes", [1, 2, 255, 256])
    def test_cardinality_ids_survive(self, tmp_path, num_classes):
        ids = np.arange(num_classes)[None]
        save_mask(tmp_path / "mask.png", ids, voc_palette(num_classes))
        assert np.array(Image.open(tmp_path / "mask.png")).tolist() == ids.tolist()

    def test_feature_many_classes_take_16_bits(self, tmp_path):
        ids = np.array([[0, 256, 299]])
        save_mask(tmp_path / "mask.png", ids, voc_palette(300))
        mask = Image.open(tmp_path / "mask.png")
        assert mask.mode.startswith("I")
        assert np.array(mask).tolist() == ids.tolist()

    @pytest.mark.parametrize("value", [-1, 256])
    def test_exception_id_does_not_fit(self, tmp_path, value):
        with pytest.raises(ValueError, match="0 to 255"):
            save_mask(tmp_path / "mask.png", np.array([[0, value]]), VOC_FIRST)

    def test_feature_longest_name(self, tmp_path):
        path = tmp_path / ("x" * 251 + ".png")
        save_mask(path, np.zeros((1, 1), np.uint8), VOC_FIRST)
        assert path.exists()


class TestSavePicture:
    def test_smoke(self, tmp_path):
        image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        save_image(tmp_path / "picture.png", image)
        assert np.array(Image.open(tmp_path / "picture.png")).tolist() == image.tolist()
