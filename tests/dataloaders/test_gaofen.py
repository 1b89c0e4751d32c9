"""Gaofen2 and Gaofen3 on trees made here, and on real scenes where there are some."""

import shutil

import numpy as np
import pytest
from PIL import Image

from dataloaders.gaofen2 import Gaofen2
from dataloaders.gaofen3 import Gaofen3
from tests import dataset_trees
from tests.dataset_trees import label_of
from tests.raster_files import raw_tiff, save, values
from utils.files.data_file import DataError
from utils.samples.band_rule import StatisticsMissing

POLARISATIONS = ("HH", "HV", "VH", "VV")


def ids(seed, count=9):
    return dataset_trees.ids(seed, count, (9, 11))


def colours(labels, palette):
    """As published: RGBA."""
    rgb = np.array(palette, np.uint8)[labels]
    return np.dstack([rgb, np.full(labels.shape, 255, np.uint8)])


# --- Gaofen-2


@pytest.fixture
def sat(tmp_path):
    """Two images with masks of ids and of colours, one with colours only."""
    for name, split in ((1, "train"), (2, "train"), (421, "valid")):
        folder = tmp_path / "sat" / split
        save(folder / f"img/{name}.tif", values((9, 11, 3), "uint8", seed=name))
        (folder / f"img/{name}.xml").write_text("<a/>")
        save(folder / f"img/{name}_gt.png", colours(ids(name), Gaofen2.palette))
        if name != 2:
            save(folder / f"lbl/{name}_gt.png", ids(name))
    return tmp_path


def test_feature_gaofen2_tree(sat):
    for root in (sat, sat / "sat"):
        dataset = Gaofen2(str(root), "train")
        assert [s.name for s in dataset.samples] == ["1", "2"]
        assert not dataset.problems and not dataset.notes
    assert dataset.samples[0].label == str(sat / "sat/train/lbl/1_gt.png")
    assert dataset.samples[1].label == str(sat / "sat/train/img/2_gt.png")
    for index, seed in enumerate((1, 2)):
        assert np.array_equal(dataset.load(index).image, values((9, 11, 3), "uint8", seed=seed))
        assert np.array_equal(label_of(dataset, index), ids(seed))
    assert [s.name for s in Gaofen2(str(sat), "valid").samples] == ["421"]
    assert len(Gaofen2(str(sat), "all")) == 3
    assert dataset.band_rule is None


def test_feature_gaofen2_one_folder(sat, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sat.glob("sat/*/img/*"):
        shutil.copy(path, flat)
    for split, names in {"train": ["1", "2"], "valid": ["421"], "all": ["1", "2", "421"]}.items():
        dataset = Gaofen2(str(flat), split)
        assert [s.name for s in dataset.samples] == names
        assert not dataset.problems and not dataset.notes
    (flat / "1_gt.png").unlink()
    assert "1 of 2 images" in Gaofen2(str(flat), "train").problems[0]
    shutil.copy(flat / "2.tif", flat / "city.tif")
    with pytest.raises(DataError, match=r"city\.tif: has no number.* use the split \"all\""):
        Gaofen2(str(flat), "train")


def test_feature_gaofen2_four_bands(sat):
    """The sensor has four; the mean is then the user's."""
    array = values((9, 11, 4), "uint16")
    (sat / "sat/valid/img/421.tif").write_bytes(raw_tiff(array))
    with pytest.raises(StatisticsMissing, match="4 bands of type uint16"):
        Gaofen2(str(sat), "valid")
    dataset = Gaofen2(str(sat), "valid", bands=[4, 1], mean=[1, 2], std=[3, 4])
    assert np.array_equal(dataset.load(0).image, array[..., [3, 0]])
    assert dataset.channels == 2


def test_exception_gaofen2(sat, tmp_path):
    with pytest.raises(ValueError, match="split: 'val'; did you mean 'valid'"):
        Gaofen2(str(sat), "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected sat/train/img in it, or N.tif"):
        Gaofen2(str(tmp_path / "empty"), "train")


# --- Gaofen-3


@pytest.fixture
def scenes(tmp_path):
    """Two scenes of training, one of validation."""
    for name, split in (("1", "train"), ("10", "train"), ("2", "val")):
        folder = tmp_path / split
        folder.mkdir(exist_ok=True)
        array = scene(name)
        for band, kind in enumerate(POLARISATIONS):
            (folder / f"{name}_{kind}.tiff").write_bytes(raw_tiff(array[..., band : band + 1]))
        labels = ids(int(name), 8)
        save(folder / f"{name}_gt.png", colours(labels, [*Gaofen3.palette, (125, 125, 125)]))
    return tmp_path


def scene(name):
    return values((9, 11, 4), "uint16", seed=int(name)) // 30


def test_feature_gaofen3_scenes(scenes):
    dataset = Gaofen3(str(scenes), "train")
    assert [s.name for s in dataset.samples] == ["1", "10"]
    assert not dataset.problems and not dataset.notes
    assert np.array_equal(dataset.load(1).image, scene("10").clip(0, 1000))
    labels = ids(10, 8)
    assert np.array_equal(label_of(dataset, 1), np.where(labels == 7, 255, labels))
    assert len(Gaofen3(str(scenes), "all")) == 3
    assert dataset.channels == len(dataset.mean) == 4
    assert dataset.mean[1] == 112.11773
    six = Gaofen3(str(scenes), "val", background=False)
    labels = ids(2, 8)
    assert np.array_equal(label_of(six), np.where(labels >= 6, 255, labels))
    assert len(six.classes) == len(six.palette) == 6
    assert len(Gaofen3.classes) == len(Gaofen3.palette) == 7


def test_feature_gaofen3_polarisations_and_clip(scenes):
    dataset = Gaofen3(str(scenes), "val", polarisations=("VV", "HH"), clip=None)
    assert np.array_equal(dataset.load(0).image, scene("2")[..., [3, 0]])
    assert list(dataset.mean) == [91.35073, 88.2671]
    with pytest.raises(StatisticsMissing, match="2 bands of type uint16") as caught:
        Gaofen3(str(scenes), "val", polarisations=("VV", "HH"), clip=(0, 500))
    expected = scene("2")[..., [3, 0]].clip(0, 500).reshape(-1, 2)
    assert caught.value.mean == pytest.approx(expected.mean(axis=0), rel=1e-5)


def test_feature_gaofen3_one_folder(scenes):
    dataset = Gaofen3(str(scenes / "train"), "all")
    assert len(dataset) == 2
    (scenes / "train/1_VH.tiff").unlink()
    dataset = Gaofen3(str(scenes / "train"), "all")
    assert len(dataset) == 1
    assert any("1_VH; add" in problem for problem in dataset.problems)
    assert len(Gaofen3(str(scenes / "train"), "all", polarisations=("HH", "HV"))) == 2


def test_exception_gaofen3(scenes):
    with pytest.raises(ValueError, match="split: 'valid'; did you mean 'val'"):
        Gaofen3(str(scenes), "valid")
    with pytest.raises(DataError, match="has no folder 'train' .*use the split \"all\""):
        Gaofen3(str(scenes / "train"), "train")
    for wrong in ((), ("HH", "HH")):
        with pytest.raises(ValueError, match="polarisations: expected some of"):
            Gaofen3(str(scenes), "train", polarisations=wrong)


# --- real files


def test_feature_real_gaofen2_ids_equal_the_colours(real_data):
    dataset = Gaofen2(str(real_data / "gf2_layout"), "all")
    assert len(dataset) == 8
    for index, sample in enumerate(dataset.samples):
        assert np.array_equal(dataset.load(index).image, np.asarray(Image.open(sample.image)))
        beside = sample.image.replace(".tif", "_gt.png")
        published = np.asarray(Image.open(beside).convert("RGB"))
        assert np.array_equal(np.array(Gaofen2.palette)[label_of(dataset, index)], published)
    pixels = np.stack([dataset.load(i).image for i in range(8)]).reshape(-1, 3) / 255
    assert dataset.mean == pytest.approx(pixels.mean(axis=0), abs=1e-5)
    assert dataset.std == pytest.approx(pixels.std(axis=0), abs=1e-5)


@pytest.mark.parametrize("clip", [None, (0, 1000)])
def test_feature_real_gaofen3_equals_pillow(real_data, clip):
    dataset = Gaofen3(str(real_data / "gf3_layout"), "all", clip=clip)
    assert len(dataset) == 5
    for index, sample in enumerate(dataset.samples):
        expected = np.dstack([np.asarray(Image.open(path)) for path in sample.bands])
        image = dataset.load(index).image
        assert np.array_equal(image, expected if clip is None else expected.clip(*clip))
        published = np.asarray(Image.open(sample.label).convert("RGB"))
        assert np.array_equal(np.array(Gaofen3.palette)[label_of(dataset, index)], published)
    # The constants come from ten scenes, of which these are half.
    pixels = np.stack([dataset.load(i).image for i in range(5)]).reshape(-1, 4)
    assert dataset.mean == pytest.approx(pixels.mean(axis=0), rel=0.5)
