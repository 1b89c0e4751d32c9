"""Folder with images of other than three bands: what is measured, chosen, refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from base.base_dataset import BaseDataset
from base.samples import Samples
from dataloaders.folder import Folder
from tests.raster_files import nodata_tag, raw_tiff, save, values
from tests.utils.config.test_check_config import check, minimal, problems_of
from utils.files.data_file import DataError
from utils.files.raster_io import BandRule, is_plain_image
from utils.samples.band_rule import StatisticsMissing, measure
from utils.transforms.augmentation import Augmentation


@pytest.fixture
def tree(tmp_path):
    """Three images of five bands, uint16, with masks."""
    for i in range(3):
        path = tmp_path / f"images/{i}.tif"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw_tiff(values((12, 14, 5), seed=i) // 16, planar=i == 1))
        save(tmp_path / f"masks/{i}.png", np.full((12, 14), i, np.uint8))
    return tmp_path


@pytest.fixture
def one_mask(tmp_path):
    """A mask of zeros, and room for its image."""
    save(tmp_path / "masks/1.png", np.zeros((9, 11), np.uint8))
    (tmp_path / "images").mkdir()
    return tmp_path


def missing_statistics(**arguments):
    with pytest.raises(StatisticsMissing) as caught:
        Folder(**arguments)
    return caught.value


# --- mean and std


def test_exception_mean_and_std_come_with_the_message(tree):
    error = missing_statistics(classes=3, data_dir=str(tree))
    stack = np.stack([values((12, 14, 5), seed=i) // 16 for i in range(3)]).reshape(-1, 5)
    assert error.mean == pytest.approx(stack.mean(axis=0), rel=1e-5)
    assert error.std == pytest.approx(stack.std(axis=0), rel=1e-5)
    for text in ("5 bands of type uint16", "On 3 of 3 images", f'"mean": {error.mean},\n'):
        assert text in str(error)
    dataset = Folder(classes=3, data_dir=str(tree), mean=error.mean, std=error.std)
    assert dataset.channels == 5
    assert dataset.band_rule == BandRule(5, "uint16")
    assert np.array_equal(dataset.load(1).image, values((12, 14, 5), seed=1) // 16)
    assert dataset.preview_bands == (0, 1, 2)


@pytest.mark.parametrize("mean", [[1.0], [1.0] * 6, []])
def test_exception_one_number_a_band(tree, mean):
    with pytest.raises(ValueError, match=f"mean: {len(mean)} numbers .*5 channels; expected 5"):
        Folder(classes=3, data_dir=str(tree), mean=mean, std=[1.0] * 5)


def test_feature_constant_bands_and_broken_images(tree):
    array = np.full((12, 14, 5), 7, np.uint16)
    for i in range(3):
        (tree / f"images/{i}.tif").write_bytes(raw_tiff(array))
    (tree / "images/0.tif").write_bytes(b"II*\0")
    error = missing_statistics(classes=3, data_dir=str(tree))
    assert error.mean == [7] * 5
    assert error.std == [1] * 5
    assert "On 2 of 3 images" in str(error)
    assert "constant, so its std is 1: channel 1, 2, 3, 4, 5" in str(error)


def test_exception_no_image_can_be_read(tree):
    for i in range(3):
        (tree / f"images/{i}.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"images/0\.tif: is cut off or damaged"):
        Folder(classes=3, data_dir=str(tree), bands=[1])
    with pytest.raises(DataError, match=r"images/0\.tif: has a damaged header"):
        Folder(classes=3, data_dir=str(tree))


def test_feature_8_bits_count_from_0_to_1(one_mask):
    array = values((9, 11, 2), "uint8")
    (one_mask / "images/1.tif").write_bytes(raw_tiff(array))
    error = missing_statistics(classes=2, data_dir=str(one_mask))
    assert error.mean == pytest.approx(array.mean(axis=(0, 1)) / 255, rel=1e-5)
    assert error.std == pytest.approx(array.std(axis=(0, 1)) / 255, rel=1e-5)


def test_feature_images_are_spread_over_the_folder(tree):
    """Every third of 96 images, of one band that holds its number."""
    for i in range(96):
        array = np.full((2, 3, 1), i, np.int16)
        (tree / f"images/{i:02}.tif").write_bytes(raw_tiff(array))
        save(tree / f"masks/{i:02}.png", np.zeros((2, 3), np.uint8))
    for i in range(3):
        (tree / f"images/{i}.tif").unlink()
    error = missing_statistics(classes=3, data_dir=str(tree))
    assert "On 32 of 96" in str(error)
    assert error.mean == [np.arange(0, 96, 3).mean()]


def test_feature_measure_is_exact_far_from_zero():
    """numpy over the whole stack at once, with a mean of a million times the deviation."""
    rng = np.random.default_rng(0)
    pictures = [rng.normal((1e6, 0, -3e5), (1, 2, 3), (20, 30, 3)) for _ in range(5)]
    holes = [rng.random((20, 30)) < 0.3 for _ in range(5)]
    holes[2], holes[3][:] = None, True
    mean, std = measure(zip(pictures, holes, strict=True), 3)
    holes[2] = np.zeros((20, 30), bool)
    kept = np.concatenate([p[~hole] for p, hole in zip(pictures, holes, strict=True)])
    np.testing.assert_allclose(mean, kept.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, kept.std(axis=0), rtol=1e-9)
    assert np.isnan(measure([], 3)[0]).all()


# --- which images, which bands


def test_feature_an_alpha_that_is_no_transparency_is_a_band(one_mask):
    """tifffile calls the fourth band of uint8 alpha, whatever is in it."""
    array = values((9, 11, 4), "uint8")
    infrared = array[..., 3].copy()
    for alpha, is_band in ((77, False), (infrared // 128 * 255, False), (infrared, True)):
        array[..., 3] = alpha
        options = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
        tifffile.imwrite(one_mask / "images/1.tif", array, **options)
        statistics = {"mean": [0.5] * 4, "std": [1.0] * 4} if is_band else {}
        dataset = Folder(classes=2, data_dir=str(one_mask), **statistics)
        assert np.array_equal(dataset.load(0).image, array if is_band else array[..., :3])
    assert "4 bands" in str(missing_statistics(classes=2, data_dir=str(one_mask)))


def test_feature_nodata_of_8_bits_counts(one_mask):
    array = values((9, 11, 3), "uint8") | 1
    array[2, 3] = 0
    options = {"photometric": "rgb", "extratags": [(42113, "s", 0, "0", True)]}
    tifffile.imwrite(one_mask / "images/1.tif", array, **options)
    dataset = Folder(classes=2, data_dir=str(one_mask))
    assert dataset.mean == BaseDataset.mean
    missing = dataset.load(0).missing
    assert missing.sum() == 1 and missing[2, 3]
    assert is_plain_image(one_mask / "images/1.tif") is False
    picture = Image.fromarray(array).quantize(4)
    picture.save(one_mask / "images/1.tif", tiffinfo={42113: "0"})
    assert Folder(classes=2, data_dir=str(one_mask)).band_rule is None  # indices are no bands


def test_feature_plain_images_stay_as_they_are(one_mask):
    rgb = values((9, 11, 3), "uint8")
    for mode in ("RGB", "L", "RGBA", "P"):
        Image.fromarray(rgb).convert(mode).save(one_mask / "images/1.tif")
        dataset = Folder(classes=2, data_dir=str(one_mask))
        assert dataset.band_rule is None
        assert dataset.channels == 3
        expected = np.asarray(Image.open(one_mask / "images/1.tif").convert("RGB"))
        assert np.array_equal(dataset.load(0).image, expected)


@pytest.mark.parametrize("kind", ["two bands", "16 bits", "float", "npy", "deep png"])
def test_feature_other_images_are_read_with_all_bands(tmp_path, kind):
    path = tmp_path / "images/1.tif"
    path.parent.mkdir()
    array = values((9, 11, 2), {"float": "float32", "16 bits": "int16"}.get(kind, "uint8"))
    if kind == "npy":
        np.save(path.with_suffix(".npy"), array)
    elif kind == "deep png":
        array = values((9, 11, 1))
        Image.fromarray(array[..., 0]).save(path.with_suffix(".png"))
    else:
        path.write_bytes(raw_tiff(array))
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/1.npy", np.zeros((9, 11), np.int64))
    count = array.shape[2]
    with pytest.raises(StatisticsMissing):
        Folder(classes=2, data_dir=str(tmp_path))
    dataset = Folder(classes=2, data_dir=str(tmp_path), mean=[0.5] * count, std=[1.0] * count)
    pair = dataset.load(0)
    assert np.array_equal(pair.image, array)
    assert pair.mask.max() == 0
    assert dataset.preview_bands == (0,)


def test_feature_rgb_with_chosen_bands_keeps_the_defaults(one_mask):
    rgb = values((9, 11, 3), "uint8")
    save(one_mask / "images/1.png", rgb)
    dataset = Folder(classes=2, data_dir=str(one_mask), bands=[3, 2, 1], rgb=[1, 2, 3])
    assert tuple(dataset.mean) == (0.485, 0.456, 0.406)
    assert np.array_equal(dataset.load(0).image, rgb[..., ::-1])
    assert dataset.preview_bands == (2, 1, 0)
    dataset = Folder(classes=2, data_dir=str(one_mask), rgb=[2])
    assert dataset.preview_bands == (1,)
    assert np.array_equal(dataset.load(0).image, rgb)


def test_feature_bands_clip_and_preview(tree):
    rule = {"bands": [5, 2, 4, 1], "clip": [100, 2000], "rgb": [4, 2, 1]}
    error = missing_statistics(classes=3, data_dir=str(tree), **rule)
    dataset = Folder(classes=3, data_dir=str(tree), mean=error.mean, std=error.std, **rule)
    stack = np.stack([values((12, 14, 5), seed=i) // 16 for i in range(3)])
    expected = stack[..., [4, 1, 3, 0]].clip(100, 2000)
    assert np.array_equal([dataset.load(i).image for i in range(3)], expected)
    assert error.mean == pytest.approx(expected.reshape(-1, 4).mean(axis=0), rel=1e-5)
    assert dataset.preview_bands == (2, 1, 3)
    rule = {"bands": [1, 2], "clip": [(0, 10), (20, 30)]}
    pairs = Folder(classes=3, data_dir=str(tree), mean=[1, 1], std=[1, 1], **rule)
    assert np.array_equal(pairs.load(0).image[..., 1], stack[0, ..., 1].clip(20, 30))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bands": [6]}, r"there is no band 6; .*0\.tif has 5"),
        ({"bands": []}, "bands: the list is empty"),
        ({"band_suffixes": []}, "band_suffixes: "),
        ({"band_suffixes": ["_a", "_a"]}, "band_suffixes: "),
        ({"band_suffixes": ["_a", "_b"]}, "_a or _b"),
        ({"clip": [5, 5]}, "clip: 5 is not below 5"),
        ({"clip": [5]}, r"clip: expected \[low, high\]"),
        ({"clip": [0, (1, 2)]}, r"clip: expected \[low, high\]"),
        ({"clip": [(0, 1), (1, 2)]}, "list of 5 such pairs"),
        ({"bands": [1, 2], "rgb": [3]}, "rgb: expected three of the bands 1, 2"),
        ({"rgb": [1, 2]}, "rgb: expected three of the bands 1, 2, 3, 4, 5"),
    ],
)
def test_exception_band_arguments(tree, arguments, words):
    with pytest.raises(ValueError, match=words):
        Folder(classes=3, data_dir=str(tree), **arguments)


def test_smoke_the_config_check_takes_the_arguments():
    """What JSON gives, of the types that the signature says."""
    tree = minimal()
    args = {
        "classes": 3, "data_dir": "x", "batch_size": 4, "bands": [4, 1], "clip": [0, 1000.5],
        "nodata": -9999, "rgb": [4], "mean": [1, 2], "std": [1, 2], "ignore_index": -1,
    }  # fmt: skip
    tree["train_loader"] = {"type": "Folder", "args": args}
    assert check(tree)
    args["clip"] = [[0, 10], [5, 6.5]]
    args["band_suffixes"] = ["_HH", "_VV"]
    assert check(tree)
    args["bands"], args["clip"] = [0], "0-10"
    assert len(problems_of(tree)) == 2


# --- a file a band


def test_feature_one_file_a_band(tmp_path):
    """The order of the list is the order of the bands; masks stand beside the images."""
    array = values((9, 11, 3), "uint16")
    for name in ("1", "town/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        for band, kind in enumerate(("HH", "HV", "VV")):
            file = tmp_path / f"{name}_{kind}.tiff"
            file.write_bytes(raw_tiff(array[..., band : band + 1]))
        save(tmp_path / f"{name}_gt.png", np.zeros((9, 11), np.uint8))
    (tmp_path / "1.xml").write_text("<x/>")
    arguments = {
        "classes": 2, "images": str(tmp_path), "masks": str(tmp_path), "mask_suffix": "_gt",
        "mean": [1.0, 2.0], "std": [1.0, 1.0], "band_suffixes": ["_VV", "_HH"],
    }  # fmt: skip
    dataset = Folder(**arguments)
    assert [s.name for s in dataset.samples] == ["1", "town/2"]
    assert dataset.samples[0].bands == (str(tmp_path / "1_VV.tiff"), str(tmp_path / "1_HH.tiff"))
    assert dataset.samples[0].image == dataset.samples[0].bands[0]
    assert not dataset.problems
    for index in range(2):
        assert np.array_equal(dataset.load(index).image, array[..., [2, 0]])
    with pytest.raises(ValueError, match="bands: .*band_suffixes"):
        Folder(**arguments, bands=[1])
    (tmp_path / "1_HH.tiff").unlink()
    dataset = Folder(**arguments)
    assert len(dataset) == 1
    assert "1 band files are missing" in dataset.problems[0]
    assert "1_HH; add them" in dataset.problems[0]


def test_feature_masks_beside_images_are_no_images(tmp_path):
    save(tmp_path / "1.png", values((9, 11, 3), "uint8"))
    save(tmp_path / "1_gt.png", np.zeros((9, 11), np.uint8))
    dataset = Folder(classes=2, data_dir=str(tmp_path), images=".", masks=".", mask_suffix="_gt")
    assert [s.name for s in dataset.samples] == ["1"]
    assert not dataset.problems


# --- missing pixels and negative labels


def samples_of(dataset, ignore_index=255):
    return Samples(dataset, Augmentation(), seed=0, ignore_index=ignore_index)


@pytest.mark.parametrize("nodata", [None, -7.0])
def test_feature_missing_pixels_are_ignored_and_left_out(tmp_path, nodata):
    array = values((9, 11, 2), "float32")
    array[0, 0, 1], array[3, 4, 0] = np.nan, np.inf
    array[5, 6] = -7
    (tmp_path / "images").mkdir()
    tags = [nodata_tag("-7")] * (nodata is None)
    (tmp_path / "images/1.tif").write_bytes(raw_tiff(array, tags=tags))
    save(tmp_path / "masks/1.png", np.ones((9, 11), np.uint8))
    error = missing_statistics(classes=2, data_dir=str(tmp_path), nodata=nodata)
    expected = np.ones((9, 11), bool)
    for y, x in ((0, 0), (3, 4), (5, 6)):
        expected[y, x] = False
    assert error.mean == pytest.approx(array[expected].mean(axis=0), rel=1e-4)
    statistics = {"mean": error.mean, "std": error.std}
    dataset = Folder(classes=2, data_dir=str(tmp_path), nodata=nodata, **statistics)
    sample = samples_of(dataset).sample(0, 0)
    assert np.array_equal(sample.label == 255, ~expected)
    assert np.array_equal(sample.label == 1, expected)
    assert sample.image[0, 0, 1] == pytest.approx(error.mean[1])  # zero to the network
    assert sample.image[0, 0, 0] == array[0, 0, 0]
    assert np.isfinite(sample.image).all()


@pytest.mark.parametrize("dtype", ["int16", "int32", "int8"])
@pytest.mark.parametrize("ignore_index", [255, -1])
def test_feature_masks_of_negative_numbers(tmp_path, dtype, ignore_index):
    """As in Sen1Floods11: -1 has no label, 0 and 1 are classes."""
    mask = np.random.default_rng(0).integers(-1, 2, (9, 11, 1)).astype(dtype)
    save(tmp_path / "images/1.png", values((9, 11, 3), "uint8"))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/1.tif").write_bytes(raw_tiff(mask))
    arguments = {"classes": 2, "data_dir": str(tmp_path)}
    for rule in ({"label_map": {"-1": -1, "0": 0, "1": 1}}, {"ignore_index": -1}):
        label = samples_of(Folder(**arguments, **rule), ignore_index).sample(0, 0).label
        expected = mask[..., 0].astype(int)
        assert np.array_equal(label, np.where(expected == -1, ignore_index, expected))
    with pytest.raises(DataError, match=r"1\.tif: \d+ pixels have label -1"):
        samples_of(Folder(**arguments)).sample(0, 0)
    with pytest.raises(ValueError, match=r"label_map\.-40000: expected an id"):
        Folder(**arguments, label_map={"-40000": 0})


# --- real files


def measured(name):
    """Mean and std of the real files, rounded to five places, by another program."""
    return {
        "s2": (
            [1490.17773, 1280.32398, 1283.04344, 1281.23563, 1457.91386, 1797.21443, 2078.21147,
             1905.28659, 2149.53424, 347.7174, 10.99164, 1492.47236, 925.78539],
            [170.1776, 278.87049, 353.33298, 494.50691, 459.58698, 676.60756, 801.72832,
             794.17147, 927.53641, 135.76145, 1.42499, 880.78651, 642.96321],
        ),
        "s1": ([-11.16373, -18.92394], [5.53087, 5.57702]),
        "landsat": (
            [439.01598, 661.54288, 589.37981, 3442.29771, 2181.92867, 1049.99384, 2678.67718, 0],
            [139.71683, 180.78985, 270.70755, 461.05945, 427.101, 375.11544, 158.66755, 1],
        ),
    }[name]  # fmt: skip


@pytest.mark.parametrize("kind", ["s1", "s2"])
def test_feature_real_flood_tiles(real_data, kind):
    root = real_data / "sen1floods11_tiles/train"
    arguments = {"classes": 2, "images": str(root / kind), "masks": str(root / "masks")}
    error = missing_statistics(**arguments)
    mean, std = measured(kind)
    assert error.mean == pytest.approx(mean, rel=1e-5)
    assert error.std == pytest.approx(std, rel=1e-5)
    dataset = Folder(**arguments, mean=error.mean, std=error.std)
    assert len(dataset) == 12
    assert dataset.channels == {"s1": 2, "s2": 13}[kind]
    label = samples_of(dataset).sample(0, 0).label
    assert set(np.unique(label)) <= {0, 1, 255}


def test_feature_real_landsat_with_a_constant_band(real_data):
    root = str(real_data / "landsat8band_layout")
    error = missing_statistics(classes=5, data_dir=root)
    mean, std = measured("landsat")
    assert error.mean == pytest.approx(mean, rel=1e-5)
    assert error.std == pytest.approx(std, rel=1e-5)
    assert "channel 8" in str(error)
