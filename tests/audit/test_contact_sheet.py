"""The contact sheet: what is chosen, and how it is drawn."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import check
from audit.sheet import MIN_TILES, choose
from audit.sheet_html import write_html
from audit.sheet_png import WIDTH, write_png
from audit.tiles import UNKNOWN, UNKNOWN_COLOUR, Tile, make_tile
from base.base_dataloader import LoaderOptions
from base.base_dataset import BaseDataset, Picture
from inspection.facts import ImageFacts, MaskFacts, SampleFacts
from inspection.finding import Finding
from inspection.split import Split
from tests import audit_sets
from tests.slow import mark_slow
from utils.drawing.legend import Entry
from utils.drawing.overlay import outline_colours
from utils.drawing.palette import IGNORED_COLOUR, voc_palette
from utils.samples.labels import LabelMap
from utils.samples.pairing import Sample
from utils.transforms.augmentation import Augmentation


class Flat(BaseDataset):
    """Grey images with a mask of one's own; nothing is on disk."""

    classes = tuple(f"name {n}" for n in range(182))
    palette = tuple(voc_palette(182))

    def __init__(self, masks, pixels=None):
        super().__init__([Sample(f"image {n}", f"{n}.png", f"{n}_m.png")
                          for n in range(len(masks))])  # fmt: skip
        self.masks, self.pixels = masks, pixels

    def load_image(self, index):
        shape = (*self.masks[index].shape[:2], 3)
        return Picture(np.full(shape, 100, np.uint8) if self.pixels is None else self.pixels)

    def load_mask(self, index):
        return self.masks[index]


LABELS = LabelMap(182, 255)


def split_of(labels, name="train"):
    """A split of which only the classes in each mask are known."""
    dataset = Flat([np.zeros((8, 8), np.uint8)] * len(labels))
    facts = [
        SampleFacts(f"p{n}", [f"{n}.png", f"{n}_m.png"], ImageFacts(width=8, height=8, channels=3),
                    MaskFacts(width=8, height=8, labels=dict.fromkeys(sorted(found), 1)),
                    f"{n}_m.png")
        for n, found in enumerate(labels)
    ]  # fmt: skip
    indices = range(len(labels))
    return Split(name, f"{name}_loader", dataset, Augmentation(), LoaderOptions(1), indices, facts)


def test_feature_every_class_is_seen_with_few_images():
    labels = [{n, (n + 1) % 182} for n in range(182)] * 3
    chosen = choose([split_of(labels)], [])
    assert {label for _, place, _ in chosen for label in labels[place]} == set(range(182))
    assert len(chosen) <= 92


def test_feature_classes_that_only_the_validation_has_are_seen():
    train, val = split_of([{0}] * 40), split_of([{0}] * 20 + [{1, 2}], "val")
    assert ("val", 20) in [(split.name, place) for split, place, _ in choose([train, val], [])]


def test_feature_samples_with_findings_come_first():
    split = split_of([{0, 1}] * 30)
    findings = [
        Finding("error", "size-mismatch", "train", "", "", {f"{n}_m.png": "odd" for n in (21, 4)}),
        Finding("warning", "duplicates", "train", "", "", {f"{n}.png": "" for n in range(20, 30)}),
        Finding("warning", "leak", "val", "", "", {"1.png": ""}),
    ]
    chosen = [(place, messages) for _, place, messages in choose([split], findings)]
    assert chosen[:4] == [
        (21, ["size-mismatch: odd", "duplicates"]), (4, ["size-mismatch: odd"]),
        (20, ["duplicates"]), (22, ["duplicates"]),
    ]  # fmt: skip
    assert len(chosen) == MIN_TILES
    assert all(not messages for _, messages in chosen[4:])


def test_feature_the_overlay_has_the_classes_colours():
    """Half class colour, half image, by hand; bright outlines; names only in text."""
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:], mask[30:, :] = 7, 255
    tile = make_tile(Flat([mask]), 0, LABELS, "train", ())
    height, width = tile.overlay.shape[:2]
    assert (height, width) == (320, 480) and tile.size == (60, 40)
    assert [entry.name for entry in tile.entries] == ["name 0", "name 7", "ignored"]
    assert [entry.fraction for entry in tile.entries] == [0.375, 0.375, 0.25]
    for (row, column), colour in {(5, 5): (0, 0, 0), (5, 400): voc_palette(8)[7],
                                  (310, 5): IGNORED_COLOUR}.items():  # fmt: skip
        expected = 0.45 * 100 + 0.55 * np.array(colour)
        np.testing.assert_allclose(tile.overlay[row, column], expected, atol=1)
    assert tile.overlay[20, 240].tolist() == outline_colours(voc_palette(8))[7]


def test_feature_values_without_a_meaning_stand_out():
    mask = np.zeros((40, 40), np.uint16)
    mask[:20] = 999
    tile = make_tile(Flat([mask]), 0, LABELS, "train", ())
    assert {entry.name: entry.colour for entry in tile.entries}[UNKNOWN] == UNKNOWN_COLOUR
    expected = 0.45 * 100 + 0.55 * np.array(UNKNOWN_COLOUR)
    np.testing.assert_allclose(tile.overlay[10, 10], expected, atol=1)


def test_feature_a_mask_of_another_size_keeps_its_shape():
    """A mask that does not fit the image is drawn beside it, not stretched over it."""
    mask = np.zeros((60, 20), np.uint8)
    mask[:, 10:] = 7
    tile = make_tile(Flat([mask], np.full((20, 60, 3), 100, np.uint8)), 0, LABELS, "train", ())
    assert tile.image.shape[:2] == (160, 480) and tile.overlay.shape[:2] == (480, 160)
    expected = 0.45 * 128 + 0.55 * np.array(voc_palette(8)[7])
    np.testing.assert_allclose(tile.overlay[20, 140], expected, atol=1)


def test_feature_names_beyond_a_font_are_replaced():
    from utils.drawing.fonts import drawable, font_for, fonts

    assert drawable("road", 13, "3") == "road"
    assert drawable("\ue123\ue124", 13, "3") == "3"  # private characters: no font has them
    assert drawable("a\ue123\udcdf.png", 13) == "a??.png"
    assert font_for("road", 13) is fonts(13)[0]
    greek = "\u03b1\u03b2"
    if len(fonts(13)) > 1:  # a system with fonts of its own
        assert drawable(greek, 13, "3") == greek and font_for(greek, 13) is not fonts(13)[0]


def test_feature_images_of_many_bands_are_shown_by_their_preview():
    class Bands(Flat):
        mean, std, channels, preview_bands = [1000.0] * 5, [100.0] * 5, 5, (4, 2, 0)

    pixels = np.full((30, 30, 5), 1000, np.uint16)
    pixels[..., 4], pixels[..., 0] = 1200, 800
    tile = make_tile(Bands([np.zeros((30, 30), np.uint8)], pixels), 0, LABELS, "train", ())
    # Two deviations above the mean is white, two below black.
    assert tuple(tile.image[3, 3]) == (255, 128, 0)


def test_feature_the_image_of_the_sheet_shows_the_tiles(tmp_path):
    red = np.full((100, 200, 3), (250, 0, 0), np.uint8)
    tiles = [Tile("one", "train", (200, 100), red, red, [Entry("sky", (0, 0, 250), 1.0)], ["bad"]),
             Tile("two", "val", None, None, None, (), ["cannot be read"])]  # fmt: skip
    write_png(tmp_path / "s.png", "title", tiles, [Entry("sky", (0, 0, 250), 0.5)])
    sheet = np.array(Image.open(tmp_path / "s.png"))
    assert sheet.shape[1] == WIDTH
    assert 2 * 300 * 150 < (sheet == (250, 0, 0)).all(2).sum() < 2 * 340 * 175
    assert (sheet == (0, 0, 250)).all(2).sum() >= 2 * 100  # in the legend and below the tile


class Pages(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_feature_the_page_is_complete_in_itself(tmp_path):
    """Read with Python's own parser: nothing is fetched, names are text and no markup."""
    image = np.full((30, 40, 3), 77, np.uint8)
    tiles = [Tile("<b>x", "train", (4, 3), image, image, [Entry("a&b", (1, 2, 3), 1.0)], [])]
    finding = Finding("error", "leak", "val", "1 image <twice>", "remove it", {"a.png": ""})
    write_html(tmp_path / "s.html", "title", tiles, [Entry("a&b", (1, 2, 3), 1.0)] * 2, [finding])
    text = (tmp_path / "s.html").read_text()
    pages = Pages()
    pages.feed(text)
    assert pages.tags.count("img") == 2 and "script" not in pages.tags and "b" in pages.tags
    for source in pages.sources:
        head, _, data = source.partition(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (40, 30)
    assert "<b>x" in pages.text and "a&b" in pages.text and "1 image <twice>" in pages.text
    assert not re.search(r"url\(|@import|https?:", text)


HARD = (audit_sets.missing_partner, audit_sets.unreadable, audit_sets.size_mismatch,
        audit_sets.colours_for_ids, audit_sets.blended_mask)  # fmt: skip


@pytest.mark.parametrize("maker", mark_slow(HARD), ids=lambda maker: maker.__name__)
def test_feature_a_sheet_is_drawn_whatever_is_wrong(tmp_path, maker):
    audit_sets.make_clean(tmp_path)
    tree = audit_sets.config_of(tmp_path)
    maker(tmp_path, tree)
    (tmp_path / "config.json").write_text(json.dumps(tree))
    flags = ["--no-step", "--workers", "1", "--cache", str(tmp_path / "cache")]
    sheet = str(tmp_path / "sheet")
    assert check.main(["-c", str(tmp_path / "config.json"), *flags, "--sheet", sheet]) in (0, 2)
    assert Image.open(tmp_path / "sheet/contact_sheet.png").width == WIDTH
    assert (tmp_path / "sheet/contact_sheet.html").read_text().count("<article") >= MIN_TILES
