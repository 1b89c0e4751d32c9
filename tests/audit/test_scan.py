"""What the audit reads: facts of a sample, and the cache that spares the second reading."""

import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

from audit import scan
from base.base_dataloader import LoaderOptions
from base.base_dataset import Picture
from dataloaders.folder import Folder
from dataloaders.shapes import Shapes
from inspection import counts, facts
from inspection.counts import band_totals
from inspection.facts import describe_mask
from tests import audit_sets
from utils.samples.labels import LabelMap
from utils.samples.pairing import Sample
from utils.transforms.augmentation import Augmentation


@pytest.fixture
def dataset(tmp_path):
    audit_sets.make_clean(tmp_path)
    return Folder(data_dir=str(tmp_path), split="train", classes=3)


@pytest.fixture
def reads(monkeypatch):
    """The samples that are really read."""
    seen = []
    examine = scan.examine

    def counting(dataset, index, labels):
        seen.append(index)
        return examine(dataset, index, labels)

    monkeypatch.setattr(scan, "examine", counting)
    return seen


def test_feature_the_second_scan_reads_nothing(dataset, reads, tmp_path):
    first = scan.scan([dataset], 255, 1, tmp_path / "cache")
    assert reads == list(range(audit_sets.TRAIN))
    assert scan.scan([dataset], 255, 1, tmp_path / "cache") == first
    assert len(reads) == audit_sets.TRAIN


def test_feature_a_changed_file_is_read_again(dataset, reads, tmp_path):
    scan.scan([dataset], 255, 1, tmp_path / "cache")
    reads.clear()
    os.utime(dataset.samples[3].label, ns=(1, 1))
    Image.new("RGB", audit_sets.SIZE).save(dataset.samples[5].image)
    again = scan.scan([dataset], 255, 1, tmp_path / "cache")
    assert reads == [3, 5]
    assert again[0][5].image.bands[0].total == 0


def test_feature_another_rule_is_another_reading(dataset, reads, tmp_path):
    scan.scan([dataset], 255, 1, tmp_path / "cache")
    scan.scan([dataset], 0, 1, tmp_path / "cache")
    other = Folder(data_dir=str(tmp_path), split="train", classes=4)
    scan.scan([other], 255, 1, tmp_path / "cache")
    assert len(reads) == 3 * audit_sets.TRAIN


def test_feature_an_interruption_keeps_what_was_read(dataset, reads, tmp_path, monkeypatch):
    examine = scan.examine

    def interrupted(dataset, index, labels):
        if index == 7:
            raise KeyboardInterrupt
        return examine(dataset, index, labels)

    monkeypatch.setattr(scan, "examine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan.scan([dataset], 255, 1, tmp_path / "cache")
    monkeypatch.setattr(scan, "examine", examine)
    reads.clear()
    scan.scan([dataset], 255, 1, tmp_path / "cache")
    assert reads == list(range(7, audit_sets.TRAIN))


def test_feature_files_that_failed_are_tried_again(dataset, reads, tmp_path):
    audit_sets.unreadable(tmp_path, {})
    assert not scan.scan([dataset], 255, 1, tmp_path / "cache")[0][0].usable
    scan.scan([dataset], 255, 1, tmp_path / "cache")
    assert reads.count(0) == 2 and reads.count(1) == 1


def test_feature_a_cache_that_cannot_be_used_is_a_warning(dataset, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    (found,) = scan.scan([dataset], 255, 1, tmp_path / "cache")
    assert len(found) == audit_sets.TRAIN
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize("part", ["all of it", "a page"])
def test_feature_a_damaged_cache_is_made_anew(dataset, reads, tmp_path, caplog, part):
    first = scan.scan([dataset], 255, 1, tmp_path / "cache")
    path = tmp_path / "cache/audit.sqlite"
    data = bytearray(path.read_bytes())
    data[0 if part == "all of it" else 4096 :] = b"no database" * 100
    path.write_bytes(data)
    assert scan.scan([dataset], 255, 1, tmp_path / "cache") == first
    assert "is damaged" in caplog.text
    reads.clear()
    assert scan.scan([dataset], 255, 1, tmp_path / "cache") == first and not reads


def test_feature_names_that_are_not_utf_8_are_cached(tmp_path, reads):
    """As a file system of Latin-1 names them; the second reading knows the names again."""
    audit_sets.make_clean(tmp_path)
    for kind in ("images", "masks"):
        folder = os.fsencode(tmp_path / kind / "train")
        os.rename(folder + b"/train03.png", folder + b"/stra\xdfe.png")
    latin = Folder(data_dir=str(tmp_path), split="train", classes=3)
    (first,) = scan.scan([latin], 255, 1, tmp_path / "cache")
    assert [facts.name for facts in first].count("stra\udcdfe") == 1
    reads.clear()
    assert scan.scan([latin], 255, 1, tmp_path / "cache") == [first] and not reads


def test_feature_a_damaged_entry_is_read_again(dataset, reads, tmp_path):
    scan.scan([dataset], 255, 1, tmp_path / "cache")
    with sqlite3.connect(tmp_path / "cache/audit.sqlite") as database:
        database.execute("UPDATE facts SET data = ?", (b"\xc1",))
    reads.clear()
    scan.scan([dataset], 255, 1, tmp_path / "cache")
    assert len(reads) == audit_sets.TRAIN


def test_feature_processes_find_the_same(dataset, tmp_path):
    alone = scan.scan([dataset], 255, 1, tmp_path / "a")
    assert scan.scan([dataset], 255, 3, tmp_path / "b") == alone


def test_feature_scenes_without_files_are_examined(tmp_path):
    shapes = Shapes("val", num_images=3, image_size=32)
    (found,) = scan.scan([shapes], 255, 1, tmp_path)
    mask = shapes.load_mask(1)
    assert found[1].image.files == [] and found[1].mask.file is None
    assert found[1].mask.labels == {
        int(value): int(count) for value, count in zip(*np.unique(mask, return_counts=True),
                                                       strict=True)
    }  # fmt: skip


def test_feature_the_label_file_is_known_among_others(tmp_path):
    """As of Car Parts with a foreground: the mask is not the last file."""
    from dataloaders.carparts import CarSample

    class Cars(Shapes):
        def __init__(self):
            super().__init__("val", num_images=1)
            self.samples = [CarSample("p", "p.jpg", "mask.png", foreground="front.png")]

    (found,) = scan.scan([Cars()], 255, 1, tmp_path)
    assert found[0].files == ["p.jpg", "mask.png", "front.png"] and found[0].label == "mask.png"


def test_feature_equal_pixels_have_one_hash(tmp_path):
    """Another file of the same image, and one that differs in a single value."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=9)
    Image.fromarray(pixels).save(tmp_path / "b.bmp")
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(tmp_path / "c.png")
    from base.base_dataset import BaseDataset

    class Three(BaseDataset):
        classes = ("one", "two")

    dataset = Three([Sample(name, str(tmp_path / name)) for name in ("a.png", "b.bmp", "c.png")])
    labels = LabelMap(2, 255)
    first, second, third = (facts.examine(dataset, n, labels).image.sha256 for n in range(3))
    assert first == second != third


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_feature_band_totals_equal_numpy(dtype):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 250, (37, 23, 5)).astype(dtype)
    present = rng.random((37, 23)) < 0.7
    for channel, totals in enumerate(band_totals(pixels, present)):
        values = pixels[..., channel][present].astype(np.float64)
        assert totals.count == len(values)
        assert (totals.total, totals.squares) == (values.sum(), (values**2).sum())
        assert (totals.low, totals.high) == (values.min(), values.max())


def test_feature_large_images_are_counted_exactly(monkeypatch):
    """In strips: a count in float32 would stop growing at 2^24."""
    monkeypatch.setattr(counts, "_CHUNK", 100)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 30, 1), dtype=np.uint8)
    (totals,) = band_totals(pixels)
    assert totals.total == int(pixels.sum()) and totals.count == pixels.size


def test_feature_pixels_without_data_do_not_count():
    class Holes(Shapes):
        def load_image(self, index):
            pixels = np.full((4, 4, 3), 9, np.uint8)
            pixels[0] = 200
            return Picture(pixels, np.arange(16).reshape(4, 4) < 4)

        def load_mask(self, index):
            return np.array([[0, 1, 1, 7]] * 4, np.uint8)

    found = facts.examine(Holes("val", num_images=1), 0, LabelMap(6, 255, void=(255,)))
    assert found.image.missing == 4
    assert {band.total for band in found.image.bands} == {12 * 9}
    # The four pixels of the first row are ignored, whatever their id; 7 means nothing.
    assert found.mask.labels == {0: 3, 1: 6, 255: 4}
    assert found.mask.values == {"0": 4, "1": 8, "7": 4}
    assert found.mask.unknown == ["7"]


def test_feature_nan_is_counted():
    class Broken(Shapes):
        def load_image(self, index):
            pixels = np.ones((4, 4, 3), np.float32)
            pixels[1, 1, 2] = np.nan
            return Picture(pixels)

    found = facts.examine(Broken("val", num_images=1, image_size=16), 0, LabelMap(6, 255)).image
    assert found.not_finite == 1 and [band.count for band in found.bands] == [15, 15, 15]


def test_feature_colours_are_counted_like_ids():
    colours = {(0, 0, 0): 0, (128, 64, 0): 1, (9, 9, 9): -1}
    mask = np.zeros((5, 6, 3), np.uint8)
    mask[1], mask[2, :2], mask[4, 4] = (128, 64, 0), (9, 9, 9), (1, 2, 3)
    found = describe_mask(mask, None, LabelMap(2, 255, colours=colours))
    assert found.values == {"0,0,0": 21, "128,64,0": 6, "9,9,9": 2, "1,2,3": 1}
    assert found.labels == {0: 21, 1: 6, 255: 2} and found.unknown == ["1,2,3"]
    assert all("," in value for value in found.values)


def test_feature_a_photograph_as_mask_keeps_the_most_frequent_values(monkeypatch):
    monkeypatch.setattr(facts, "MAX_VALUES", 5)
    mask = np.repeat(np.arange(50, dtype=np.int32), np.arange(50) + 1)[None]
    found = describe_mask(mask, None, LabelMap(2, 255))
    assert found.num_values == 50
    assert found.values == {str(n): n + 1 for n in (49, 48, 47, 46, 45)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_feature_the_label_map_knows_what_it_would_take(dtype):
    """Independent: one value after the other through the map itself."""
    from utils.files.data_file import DataError

    labels = LabelMap(3, -1, void=(7,))
    values = [0, 1, 2, 3, 7, 200] + ([] if dtype == np.uint8 else [-1, -40000, 70000])
    known = labels.knows(np.array([values], dtype))[0].tolist()
    for value, is_known in zip(values, known, strict=True):
        try:
            labels(np.array([[value]], dtype), "")
        except DataError:
            assert not is_known, value
        else:
            assert is_known, value


def test_feature_a_pipeline_may_make_one_size_of_many():
    from types import SimpleNamespace

    from audit.set_findings import _batch_shapes

    def kinds(**augmentation):
        split = SimpleNamespace(
            options=LoaderOptions(batch_size=2),
            augmentation=Augmentation(**augmentation),
            sizes={(64, 48): 3, (80, 48): 1},
            name="train",
        )
        return [finding.kind for finding in _batch_shapes(split)]

    assert kinds() == kinds(augment=True) == ["mixed-sizes"]
    assert kinds(augment=True, crop_size=32) == []
    albumentations = pytest.importorskip("albumentations")
    pipeline = albumentations.Compose([albumentations.Resize(32, 32, p=1)]).to_dict()
    assert kinds(augment=True, albumentations=pipeline) == []
