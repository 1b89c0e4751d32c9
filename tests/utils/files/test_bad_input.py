"""Every file gives the right pixels or an error that names it: see tests/bad_files.py."""

import functools

import numpy as np
import pytest

from base.base_dataloader import BaseDataLoader, LoaderOptions
from dataloaders.folder import Folder
from dataloaders.voc import VOC
from tests.bad_files import FEW_IDS, HEIGHT, IDS, KINDS, PHOTO, WIDTH, Kind, encode, png
from tests.slow import mark_slow
from utils.files.data_file import DataError
from utils.files.image_io import read_image, read_mask
from utils.transforms.augmentation import Augmentation

NUM_CLASSES = 4
GOOD = 21  # one bad image among 22 is within the limit of one in 20, two are not


def by_name(kinds):
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


PICTURES = [kind for kind in KINDS if kind.image is not None]
MASKS = [kind for kind in KINDS if kind.mask is not None]
BROKEN = [kind for kind in PICTURES if isinstance(kind.image, str)]
# Right by their check sums, so that only the decoder can tell, and libpng prints what it tells.
LOUD = (
    "too_few_rows.png", "too_few_ids.png", "too_few_indices.png", "no_zlib.png", "no_palette.png",
)  # fmt: skip


def check(read, path, expected, close):
    """Compare what a reader gives with what a kind says."""
    if isinstance(expected, str):
        with pytest.raises(DataError, match=f"{expected}|do not exist") as caught:
            read(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    found = read(path)
    assert found.shape == expected.shape
    if close:
        assert np.abs(found.astype(int) - expected).max() <= close
    else:
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def test_smoke_number_of_kinds():
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 45


@by_name(PICTURES)
def test_feature_image_or_error(tmp_path, kind, capfd):
    check(read_image, kind.put(tmp_path), kind.image, kind.close)
    assert kind.name in LOUD or not capfd.readouterr().err


@by_name(MASKS)
def test_feature_mask_or_error(tmp_path, kind, capfd):
    check(read_mask, kind.put(tmp_path), kind.mask, kind.close)
    assert kind.name in LOUD or not capfd.readouterr().err


# --- whole datasets


@functools.cache
def good_pair(number):
    """An image of one value and its mask."""
    mask = np.full((HEIGHT, WIDTH), number % NUM_CLASSES, np.uint8)
    return encode(np.full_like(PHOTO, number), "PNG"), encode(mask, "PNG")


def make_dataset(folder, kind, *, as_mask=False, num_good=1):
    """Good pairs, each of one value, and a pair with a file of some kind."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    lists = {"images": [], "masks": []}
    for number in range(num_good):
        for (name, lines), data in zip(lists.items(), good_pair(number), strict=True):
            (folder / f"{name}/0_{number}.png").write_bytes(data)
            lines.append(f"{name}/0_{number}.png")
    path = kind.put(folder / ("masks" if as_mask else "images"))
    other = folder / ("images" if as_mask else "masks") / f"{path.stem}.png"
    outcome = kind.mask if as_mask else kind.image
    height, width = (HEIGHT, WIDTH) if isinstance(outcome, str) else outcome.shape[:2]
    other.write_bytes(encode(np.zeros((height, width, 3)[: 2 + as_mask], np.uint8), "PNG"))
    for file in (path, other):
        lists[file.parent.name].append(f"{file.parent.name}/{file.name}")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines))
    sources = {name: str(folder / f"{name}.txt") for name in lists}
    return Folder(classes=NUM_CLASSES, **sources)


def make_loader(dataset, *, training=False, batch_size=1, seed=0, **options):
    options = LoaderOptions(batch_size=batch_size, num_workers=0, **options)
    settings = {"seed": seed, "ignore_index": 255, "training": training}
    return BaseDataLoader(dataset, Augmentation(), options, **settings)


def last_batch(dataset):
    """The one with the pair that is not like the others."""
    *_, last = make_loader(dataset).epoch(1)
    return last[0]


@by_name(PICTURES)
def test_feature_images_in_a_dataset(tmp_path, kind):
    dataset = make_dataset(tmp_path, kind)
    if isinstance(kind.image, str):
        with pytest.raises(DataError, match=f"{kind.image}|do not exist") as caught:
            last_batch(dataset)
        assert kind.name in str(caught.value)
        return
    batch = last_batch(dataset)
    assert np.abs(batch.images[0].numpy().astype(int) - kind.image).max() <= kind.close
    assert not batch.labels.any()


@by_name(MASKS)
@pytest.mark.filterwarnings("ignore")
def test_feature_masks_in_a_dataset(tmp_path, kind):
    dataset = make_dataset(tmp_path, kind, as_mask=True)
    expected = kind.mask
    if isinstance(expected, np.ndarray):
        if expected.ndim == 3:
            expected = "has colours"
        elif set(np.unique(expected)) - {*range(NUM_CLASSES), 255}:
            expected = "neither a class"
    if isinstance(expected, str):
        with pytest.raises(DataError, match=f"{expected}|do not exist") as caught:
            last_batch(dataset)
        assert kind.name in str(caught.value)
    else:
        assert np.array_equal(last_batch(dataset).labels[0].numpy(), expected)


MASK_VALUES = {
    "other_size.png": (IDS[:-1], "is 40x23 and its image"),
    "turned.png": (IDS.T.copy(), "is 24x40 and its image"),
    "class_21.png": (np.where(IDS == 2, 21, IDS), "label 21"),
    "class_254.png": (np.where(IDS == 2, 254, IDS), "label 254"),
    "ignored.png": (np.full_like(IDS, 255), None),
    "binary.png": ((FEW_IDS > 1).astype(np.uint8) * 255, None),
    "colours.png": (PHOTO, "has colours"),
}


@pytest.mark.parametrize("name", MASK_VALUES)
def test_exception_values_of_masks(tmp_path, name):
    mask, words = MASK_VALUES[name]
    kind = Kind(name, encode(mask, "PNG"), mask="" if words else mask)
    dataset = make_dataset(tmp_path, kind, as_mask=True)
    if words:
        with pytest.raises(DataError, match=rf"{name}.*{words}"):
            last_batch(dataset)
    else:
        assert np.array_equal(last_batch(dataset).labels[0].numpy(), mask)


# --- bad samples that are skipped


def labels_of(loader, epoch=1):
    """Place in the dataset, value of the image and label of each sample of an epoch."""
    found = []
    for batch in loader.epoch(epoch):
        for part in batch if isinstance(batch, list) else [batch]:
            for image, label, index in zip(*part[:3], strict=True):
                assert len(image.unique()) == len(label.unique()) == 1
                found.append((int(index), int(image[0, 0, 0]), int(label[0, 0])))
    return found


SKIPPED = [kind for kind in BROKEN if kind.name != "missing.png"]  # that is found in the list
QUICK = ("cut_pixels.png", "cut_in_scan.jpg", "cut.tif", "empty.png", "folder.png", "huge.png")
SLOW = [kind for kind in SKIPPED if kind.name not in QUICK]


@pytest.mark.parametrize("kind", mark_slow(SKIPPED, SLOW), ids=[kind.name for kind in SKIPPED])
def test_feature_skipped_in_training(tmp_path, kind):
    dataset = make_dataset(tmp_path, kind, num_good=GOOD)
    loaders = [
        make_loader(dataset, training=True, batch_size=2, shuffle=True, on_bad_sample="skip")
        for _ in range(2)
    ]
    first, second = (labels_of(loader) for loader in loaders)
    assert first == second
    assert len(first) == GOOD + 1  # another one stands in
    names = [sample.name for sample in dataset.samples]
    for index, value, label in first:
        assert names[index] == f"0_{value}"
        assert label == value % NUM_CLASSES
    (message,) = loaders[0].bad.values()
    assert kind.name in message
    assert labels_of(loaders[0], 2) != first
    assert len(loaders[0].bad) == 1


def test_feature_skipped_in_validation(tmp_path):
    dataset = make_dataset(tmp_path, Kind("empty.png", b"", ""), num_good=GOOD)
    loader = make_loader(dataset, batch_size=4, on_bad_sample="skip")
    found = labels_of(loader)
    assert sorted(value for _, value, _ in found) == list(range(GOOD))
    (message,) = loader.bad.values()
    assert "empty.png: is empty" in message


@pytest.mark.parametrize("training", [True, False])
def test_exception_too_many_are_skipped(tmp_path, training):
    dataset = make_dataset(tmp_path, Kind("empty.png", b"", ""), num_good=GOOD)
    (tmp_path / "masks/0_7.png").write_bytes(b"nothing")
    loader = make_loader(dataset, batch_size=2, training=training, on_bad_sample="skip")
    with pytest.raises(DataError, match="2 of 22 images cannot be used"):
        labels_of(loader)


def test_exception_nothing_is_skipped_unasked(tmp_path):
    dataset = make_dataset(tmp_path, Kind("empty.png", b"", ""), num_good=GOOD)
    with pytest.raises(DataError, match=r"empty\.png: is empty"):
        labels_of(make_loader(dataset, batch_size=2, training=True))


# --- list files


def make_folder(folder, content):
    """A dataset by list files; `a.png`, `b.png` and `c d.png` are there."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
        for stem in ("a", "b", "c d"):
            (folder / name / f"{stem}.png").write_bytes(png(IDS & 3, 0))
        if content is not None:
            (folder / name / "list.txt").write_bytes(content.replace(b"HERE", name.encode()))
    return {"images": "images/list.txt", "masks": "masks/list.txt", "data_dir": str(folder)}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a.png\r\nb.png\r\n", ["a", "b"]), (b"\xef\xbb\xbfa.png\nb.png", ["a", "b"]),
        (b"\n\n  a.png  \n\t\nb.png\t\n", ["a", "b"]), (b"a.png\na.png\nb.png", ["a", "b"]),
        (b"c d.png\na.png", ["a", "c d"]), (b"./a.png\n../HERE/../HERE/b.png", ["a", "b"]),
    ],
)  # fmt: skip
def test_feature_odd_lists(tmp_path, content, names):
    arguments = make_folder(tmp_path, content)
    dataset = Folder(classes=NUM_CLASSES, **arguments)
    assert not dataset.problems
    assert [sample.name for sample in dataset.samples] == names
    assert all(np.array_equal(pair.mask, IDS & 3) for pair in pairs(dataset))


def pairs(dataset):
    return [dataset.load(index) for index in range(len(dataset))]


BROKEN_LISTS = {
    "utf_16": ("a.png\nb.png".encode("utf-16"), "is not UTF-8 text"),
    "utf_16_without_mark": ("a.png\nb.png".encode("utf-16-le"), "NUL characters"),
    "nul": (b"a.png\0\nb.png", "NUL characters"),
    "latin_1": ("ä.png".encode("latin-1"), "is not UTF-8 text"),
    "empty": (b"", "names no file"),
    "blank": (b"\n \n\t\n", "names no file"),
    "picture": (encode(PHOTO, "PNG"), "is not UTF-8 text"),
}


@pytest.mark.parametrize("name", BROKEN_LISTS)
def test_exception_broken_lists(tmp_path, name):
    content, words = BROKEN_LISTS[name]
    with pytest.raises(DataError, match=words) as caught:
        Folder(classes=NUM_CLASSES, **make_folder(tmp_path, content))
    assert "list.txt" in str(caught.value)


def test_exception_list_that_is_missing_or_a_folder(tmp_path):
    arguments = make_folder(tmp_path, None)
    with pytest.raises(DataError, match=r"list\.txt: no such folder or list file"):
        Folder(classes=NUM_CLASSES, **arguments)
    for name in ("images", "masks"):
        (tmp_path / name / "list.txt").mkdir()
    with pytest.raises(DataError, match=r"list\.txt: .*no image"):
        Folder(classes=NUM_CLASSES, **arguments)


def make_voc(folder, content):
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    for stem in ("1", "2"):
        (folder / f"JPEGImages/{stem}.jpg").write_bytes(encode(PHOTO, "JPEG"))
        (folder / f"SegmentationClass/{stem}.png").write_bytes(png(IDS & 3, 0))
    (folder / "ImageSets/Segmentation/train.txt").write_bytes(content)
    return {"data_dir": str(folder), "split": "train"}


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf1\r\n1\r\n\n 2 \r\n",
     b"/JPEGImages/1.jpg /SegmentationClass/1.png\n/JPEGImages/2.jpg /SegmentationClass/2.png"],
)  # fmt: skip
def test_feature_odd_voc_lists(tmp_path, content):
    dataset = VOC(**make_voc(tmp_path, content))
    assert [sample.name for sample in dataset.samples] == ["1", "2"]
    assert all(np.array_equal(pair.mask, IDS & 3) for pair in pairs(dataset))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1\n2".encode("utf-16"), "is not UTF-8 text"), (b"1\0", "NUL characters"),
        (b"", "names no file"), (b"3\n4", "2 of the files|4 of the files"),
    ],
)  # fmt: skip
def test_exception_broken_voc_lists(tmp_path, content, words):
    with pytest.raises(DataError, match=words) as caught:
        VOC(**make_voc(tmp_path, content))
    assert "train.txt" in str(caught.value)
