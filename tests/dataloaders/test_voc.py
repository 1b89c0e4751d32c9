"""VOC and SBD on trees made here, and on real files where there are some."""

import functools
import http.server
import socket
import sys
import tarfile
import threading

import numpy as np
import pytest
import scipy.io
import torchvision.datasets

from dataloaders.voc import VOC
from tests.dataset_trees import (
    assert_image_equals_pillow,
    assert_labels,
    ids,
    image,
    label_of,
    pytorch_segmentation_loaders,
    read,
    save,
)
from utils.files.data_file import DataError

NAMES = ["2007_000001", "2007_000002"]
VALUES = [*range(21), 255]
SPLITS = ["train", "val", "trainval", "test"]


@pytest.fixture
def voc(tmp_path):
    """The folder with VOCdevkit in it; the plain lists hold ids, the others pairs."""
    root = tmp_path / "VOCdevkit/VOC2012"
    for i, name in enumerate(NAMES):
        save(root / f"JPEGImages/{name}.jpg", image(i))
        for j, folder in enumerate(("SegmentationClass", "SegmentationClassAug")):
            palette = np.random.default_rng(7).integers(0, 256, 768).tolist()
            save(root / folder / f"{name}.png", ids(2 * i + j, VALUES), None if j else palette)
    pairs = "".join(f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png\n" for n in NAMES)
    for split in SPLITS:
        write(root, split, f"\ufeff{NAMES[0]}\r\n {NAMES[1]}\n\n{NAMES[0]}\n")
        write(root, f"{split}_aug", pairs)
    return tmp_path


def write(root, split, text):
    path = root / f"ImageSets/Segmentation/{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_sbd(root, train, val, noval=()):
    """SBD's own tree: MATLAB files with the struct GTcls."""
    for seed, name in enumerate([*train, *val]):
        save(root / f"img/{name}.jpg", image(seed))
        (root / "cls").mkdir(exist_ok=True)
        struct = {"Boundaries": np.zeros((20, 1)), "Segmentation": ids(seed, 21),
                  "CategoriesPresent": np.array([[1]])}  # fmt: skip
        scipy.io.savemat(root / f"cls/{name}.mat", {"GTcls": struct}, do_compression=True)
    for split, names in (("train", train), ("val", val), ("train_noval", noval)):
        (root / f"{split}.txt").write_text("\n".join(names))


def read_sbd(path):
    """As torchvision's SBDataset reads it."""
    return scipy.io.loadmat(path)["GTcls"][0]["Segmentation"][0].astype(int)


@pytest.fixture
def sbd(tmp_path):
    root = tmp_path / "benchmark_RELEASE/dataset"
    write_sbd(root, ["2008_000002", "2008_000001"], ["2007_000002"], ["2008_000001"])
    return tmp_path


def ignored(mask, ignore_index):
    return np.where(mask == 255, ignore_index, mask)


# --- VOC


@pytest.mark.parametrize("more", ["", "_aug"])
@pytest.mark.parametrize("split", SPLITS)
def test_feature_voc_labels_equal_pillow(voc, split, more):
    dataset = VOC(str(voc), f"{split}{more}")
    assert [s.name for s in dataset.samples] == NAMES
    assert dataset.problems == []
    for index, sample in enumerate(dataset.samples):
        folder = "SegmentationClassAug" if more else "SegmentationClass"
        expected = read(voc / f"VOCdevkit/VOC2012/{folder}/{sample.name}.png")
        assert set(np.unique(expected)) > {255}
        assert read(sample.label).tolist() == expected.tolist()
        assert_image_equals_pillow(dataset, index)
    assert_labels(dataset, ignored)


def test_feature_voc_list_formats_and_roots(voc):
    root = voc / "VOCdevkit/VOC2012"
    for line in ("2007_000002", "/JPEGImages/2007_000002.jpg",
                 "JPEGImages/2007_000002.jpg\tSegmentationClassAug/2007_000002.png"):  # fmt: skip
        write(root, "train_aug", f"{line}\n")
        for folder in (voc, voc / "VOCdevkit", root):
            (sample,) = VOC(str(folder), "train_aug").samples
            assert sample.image == str(root / "JPEGImages/2007_000002.jpg")
            assert sample.label == str(root / "SegmentationClassAug/2007_000002.png")


def test_feature_voc_test_has_no_labels(voc):
    (voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png").unlink()
    dataset = VOC(str(voc), "test")
    assert dataset.problems == []
    with pytest.raises(DataError, match="has no labels"):
        dataset.load(0)
    assert dataset.load(1).mask.shape == (8, 10)


def test_feature_voc_missing_files_are_problems(voc):
    root = voc / "VOCdevkit/VOC2012"
    (root / "SegmentationClassAug/2007_000002.png").unlink()
    dataset = VOC(str(voc), "val_aug")
    assert [s.name for s in dataset.samples] == NAMES[:1]
    assert "1 of the files that it names do not exist: " in dataset.problems[0]
    assert "SegmentationClassAug/2007_000002.png" in dataset.problems[0]


def test_exception_voc(voc):
    root = voc / "VOCdevkit/VOC2012"
    with pytest.raises(ValueError, match="no 'train-aug'; did you mean 'train_aug'"):
        VOC(str(voc), "train-aug")
    with pytest.raises(DataError, match="expected VOCdevkit/VOC2012/.*: VOCdevkit.*download"):
        VOC(str(voc / "nothing"), "train")
    with pytest.raises(DataError, match=r"expected benchmark_RELEASE/dataset/cls.*VOCdevkit"):
        VOC(str(voc), "sbd_train")
    write(root, "train", "../../../secret")
    with pytest.raises(DataError, match="lies outside the dataset's folder"):
        VOC(str(voc), "train")
    write(root, "train", "2007_000001 1 0")
    with pytest.raises(DataError, match="on the line '2007"):
        VOC(str(voc), "train")
    (root / "SegmentationClassAug").rename(root / "Elsewhere")
    with pytest.raises(DataError, match=r"2 of the files .*SegmentationClassAug are a separate"):
        VOC(str(voc), "val_aug")
    (root / "ImageSets/Segmentation/val_aug.txt").unlink()
    with pytest.raises(DataError, match="separate download.*there are: test, "):
        VOC(str(voc), "val_aug")


def test_feature_voc_constants():
    assert len(VOC.classes) == len(VOC.palette) == 21
    assert tuple(VOC.palette[15]) == (192, 128, 128)  # person, as in the devkit


def test_feature_voc_runs_the_pytorch_segmentation_config(voc):
    train, val = pytorch_segmentation_loaders("VOC", voc, ("train_aug", "val"))
    assert "SegmentationClassAug" in train.source.samples[0].label
    assert len(list(train.epoch(1))) == len(list(val.epoch(1))) == 1


# --- SBD


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["2008_000002", "2008_000001"]),
        ("val", ["2007_000002"]),
        ("train_noval", ["2008_000001"]),
    ],
)
def test_feature_sbd_labels_equal_scipy(sbd, split, names):
    root = sbd / "benchmark_RELEASE/dataset"
    for folder in (sbd, sbd / "benchmark_RELEASE", root):
        dataset = VOC(str(folder), f"sbd_{split}")
        assert [s.name for s in dataset.samples] == names
        for index, name in enumerate(names):
            expected = read_sbd(root / f"cls/{name}.mat")
            assert np.array_equal(label_of(dataset, index), expected)
            assert_image_equals_pillow(dataset, index)


def test_feature_sbd_labels_equal_torchvision(sbd):
    root = sbd / "benchmark_RELEASE/dataset"
    theirs = torchvision.datasets.SBDataset(str(root), "train", "segmentation")
    dataset = VOC(str(sbd), "sbd_train")
    for index in range(len(theirs)):
        assert np.array_equal(label_of(dataset, index), np.asarray(theirs[index][1]))


def test_feature_aug_is_put_together_from_the_originals(voc, sbd):
    """By the definition: SBD and VOC's train, less VOC's val; VOC's masks where it has them."""
    root = voc / "VOCdevkit/VOC2012"
    write(root, "train", NAMES[0])
    write(root, "val", NAMES[1])
    assert "SegmentationClassAug" in VOC(str(voc), "train_aug").samples[0].label
    (root / "SegmentationClassAug").rename(root / "Elsewhere")
    dataset = VOC(str(voc), "train_aug")
    assert [s.name for s in dataset.samples] == [NAMES[0], "2008_000001", "2008_000002"]
    assert "composed of VOC" in dataset.notes[0]
    expected = read(root / f"SegmentationClass/{NAMES[0]}.png")
    assert np.array_equal(label_of(dataset, 0, -1), ignored(expected, -1))
    expected = read_sbd(voc / "benchmark_RELEASE/dataset/cls/2008_000001.mat")
    assert np.array_equal(label_of(dataset, 1, -1), expected)
    both = VOC(str(voc), "trainval_aug")
    assert [s.name for s in both.samples] == [*NAMES, "2008_000001", "2008_000002"]
    assert both.samples[1].label == str(root / f"SegmentationClass/{NAMES[1]}.png")


def test_exception_sbd(sbd, monkeypatch):
    root = sbd / "benchmark_RELEASE/dataset"
    path = root / "cls/2008_000002.mat"
    data = path.read_bytes()
    dataset = VOC(str(sbd), "sbd_train")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"2008_000002\.mat: is not a MATLAB file"):
        dataset.load(0)
    for content, message in (
        ({"GTinst": {"Segmentation": ids(0, 21)}}, r"no GTcls\.Segmentation"),
        ({"GTcls": {"Segmentation": np.zeros((8, 10))}}, "not an .* array"),
        ({"GTcls": {"Segmentation": ids(0, 21, (9, 10))}}, "is 10x9 and its image .* is 10x8"),
    ):
        scipy.io.savemat(path, content)
        with pytest.raises(DataError, match=message):
            dataset.load(0)
    path.unlink()
    assert "1 of the files" in VOC(str(sbd), "sbd_train").problems[0]
    (root / "train.txt").write_text("../../x")
    with pytest.raises(DataError, match=r"expected one id a line, got '../../x'"):
        VOC(str(sbd), "sbd_train")
    (root / "train_noval.txt").unlink()
    with pytest.raises(DataError, match=r"train_noval\.txt: cannot be read"):
        VOC(str(sbd), "sbd_train_noval")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match="pip install scipy"):
        VOC(str(sbd), "sbd_val")


# --- download


def write_small_voc(folder):
    root = folder / "VOCdevkit/VOC2012"
    save(root / "JPEGImages/a.jpg", image())
    save(root / "SegmentationClass/a.png", ids(0, VALUES))
    write(root, "train", "a")
    write(root, "val", "a")


def address_of_voc(monkeypatch, url, md5="0" * 32):
    table = torchvision.datasets.voc.DATASET_YEAR_DICT
    monkeypatch.setitem(table, "2012", {**table["2012"], "url": url, "md5": md5})
    monkeypatch.setenv("no_proxy", "*")


def test_feature_download_through_torchvision(tmp_path, monkeypatch):
    """Its own code, with an archive and a server of this machine's behind the address."""
    write_small_voc(tmp_path / "source")
    archive = tmp_path / "small.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "source/VOCdevkit", "VOCdevkit")
    md5 = torchvision.datasets.utils.calculate_md5(archive)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/small.tar"
        address_of_voc(monkeypatch, url, md5)
        target = tmp_path / "data"
        assert len(VOC(str(target), "train", download=True)) == 1
        assert [p.name for p in target.iterdir()] == ["VOCdevkit"]
        assert [p.name for p in (target / "VOCdevkit").iterdir()] == ["VOC2012"]
        archive.write_bytes(b"something else")
        with pytest.raises(DataError, match=r"small\.tar: could not be downloaded \(.*corrupted"):
            VOC(str(tmp_path / "other"), "train", download=True)
        server.shutdown()
    assert len(VOC(str(target), "val", download=True)) == 1  # it is there: nothing is fetched


def test_exception_download_from_a_silent_server(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address_of_voc(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/small.tar")
        monkeypatch.setattr("dataloaders.voc_download.SILENCE", 0.2)
        with pytest.raises(DataError, match=r"could not be downloaded \(timed out\)"):
            VOC(str(tmp_path), "train", download=True)


def test_feature_download_fetches_what_the_split_needs(tmp_path, monkeypatch):
    calls = []

    def fake_voc(root, *, year, image_set, download):
        calls.append(("voc", year, download))
        write_small_voc(type(tmp_path)(root))

    class FakeSbd(torchvision.datasets.SBDataset):
        def __init__(self, root, *, image_set, mode, download):
            calls.append(("sbd", image_set, download))
            folder = type(tmp_path)(root)
            write_sbd(folder, ["b"], ["a"])
            (folder / "train_noval.txt").unlink()
            (folder / "benchmark.tgz").write_bytes(b"large")

    def fake_url(url, root, filename, md5):
        calls.append(("list", filename, md5))
        (type(tmp_path)(root) / filename).write_text("b\n")

    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", fake_voc)
    monkeypatch.setattr(torchvision.datasets, "SBDataset", FakeSbd)
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", fake_url)
    assert len(VOC(str(tmp_path), "train", download=True)) == 1
    assert calls == [("voc", "2012", True)]
    assert [s.name for s in VOC(str(tmp_path), "train_aug", download=True).samples] == ["b"]
    assert [s.name for s in VOC(str(tmp_path), "sbd_val", download=True).samples] == ["a"]
    assert calls[1:] == [("sbd", "train", True)]
    dataset = VOC(str(tmp_path), "sbd_train_noval", download=True)
    assert [s.name for s in dataset.samples] == ["b"]
    assert calls[2:] == [("list", "train_noval.txt", "79bff800c5f0b1ec6b21080a3c066722")]
    there = {p.name for p in (tmp_path / "benchmark_RELEASE/dataset").iterdir()}
    assert there == {"img", "cls", "train.txt", "val.txt", "train_noval.txt"}
    with pytest.raises(ValueError, match="download: the split 'test'"):
        VOC(str(tmp_path), "test", download=True)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train", r"VOCtrainval_11-May-2012\.tar: could not be downloaded .*unpack it in"),
        ("sbd_train", r"benchmark\.tgz: could not be downloaded .*unpack it in"),
    ],
)
def test_exception_download_without_a_network(tmp_path, monkeypatch, split, words):
    """It is asked for once, and nobody waits for another answer."""
    asked = []

    def closed(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", closed)
    with pytest.raises(DataError, match=words):
        VOC(str(tmp_path), split, download=True)
    assert len(asked) == 1
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert socket.getdefaulttimeout() is None


# --- real files


def test_feature_real_voc_equals_pillow(real_data):
    counts = {"train": 3, "val": 3, "trainval": 6, "train_aug": 4, "val_aug": 3, "trainval_aug": 6}
    for split, count in counts.items():
        dataset = VOC(str(real_data / "voc2012_layout"), split)
        assert (len(dataset), dataset.problems) == (count, [])
        assert_labels(dataset, ignored)
        for index in range(count):
            assert_image_equals_pillow(dataset, index)
