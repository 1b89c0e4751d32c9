"""The audit on real datasets: encodings, statistics and exit codes."""

import json

import pytest

import check
from tests.conftest import ROOT


@pytest.fixture
def facts():
    """Figures that another program has worked out, where they are at hand."""

    def read(folder):
        path = folder.parent / "facts" / "stats.json"
        if not path.exists():
            pytest.skip("no statistics to compare with")
        return json.loads(path.read_text())

    return read


def audit(tmp_path, tree, *flags):
    (tmp_path / "config.json").write_text(json.dumps(tree))
    out = tmp_path / "out.json"
    code = check.main(["-c", str(tmp_path / "config.json"), "--no-step", "--json", str(out),
                       "--cache", str(tmp_path / "cache"), *flags])  # fmt: skip
    return code, json.loads(out.read_text())


def tree_of(train, val):
    return {
        "name": "real", "n_gpu": 0, "arch": {"type": "UNet"}, "train_loader": train,
        "val_loader": val, "optimizer": {"type": "Adam"}, "loss": "CrossEntropyLoss2d",
        "trainer": {"epochs": 1},
    }  # fmt: skip


def loader(kind, **args):
    return {"type": kind, "args": {"batch_size": 2, "num_workers": 0, **args}}


def raster(folder, bands, statistics):
    found = [loader("Folder", data_dir=str(folder / split), images=bands, masks="masks",
                    classes=["not_water", "water"], mean=statistics["mean"],
                    std=statistics["std"])
             for split in ("train", "val")]  # fmt: skip
    return tree_of(*found)


@pytest.mark.slow
def test_feature_camvid_is_clean_and_has_its_statistics(real_data, facts, tmp_path):
    expected = facts(real_data)["camvid train (RGB 0..1)"]
    folder = str(real_data / "camvid")
    out = tmp_path / "out.json"
    code = check.main(["-c", str(ROOT / "configs/unet_camvid.json"), "--no-step",
                       "-o", f"train_loader.args.data_dir={folder}",
                       "-o", f"val_loader.args.data_dir={folder}",
                       "--json", str(out), "--cache", str(tmp_path)])  # fmt: skip
    report = json.loads(out.read_text())
    train = report["splits"]["train"]
    assert code == 0 and train["pictures"] == 367
    assert train["picture_encodings"] == {"JPEG RGB": 367}
    assert train["mask_encodings"] == {"PNG grey": 367}
    # Those numbers need not be of the JPEGs that the images have become since.
    for band, mean, std in zip(train["bands"], expected["mean"], expected["std"], strict=True):
        assert band["mean"] == pytest.approx(mean, abs=1e-3)
        assert band["std"] == pytest.approx(std, abs=1e-3)
    # The config's own weights were worked out by another program from the same masks.
    weights = report["paste"]["loss.args"]["class_weights"]
    expected_weights = [5.6, 4.3, 33.6, 3.3, 15.5, 8.7, 31.5, 32.0, 12.8, 38.0, 43.9]
    assert weights == pytest.approx(expected_weights, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bands", "key", "encoding"),
    [
        ("s2", "sen1floods11 S2 chip (13 bands raw)", "TIFF 16-bit 13 bands"),
        ("s1", "sen1floods11 S1 chip (VV VH dB)", "TIFF float 2 bands"),
    ],
)
def test_feature_rasters_have_their_statistics(real_data, facts, tmp_path, bands, key, encoding):
    expected = facts(real_data)[key]
    folder = real_data / "sen1floods11_tiles"
    code, report = audit(tmp_path, raster(folder, bands, expected))
    train = report["splits"]["train"]
    assert (code, train["picture_encodings"]) == (0, {encoding: 12})
    for band, mean, std in zip(train["bands"], expected["mean"], expected["std"], strict=True):
        assert (band["mean"], band["std"]) == (pytest.approx(mean, abs=1e-4),
                                               pytest.approx(std, abs=1e-4))  # fmt: skip


@pytest.mark.slow
def test_feature_carparts_is_clean(real_data, facts, tmp_path):
    sets = [loader("CarParts", data_dir=str(real_data / "carparts"), split=split)
            for split in ("train", "valid")]  # fmt: skip
    code, report = audit(tmp_path, tree_of(*sets))
    assert (code, report["findings"]) == (0, [])
    splits = report["splits"]
    assert [splits[name]["pictures"] for name in ("train", "val")] == [340, 60]
    # The statistics at hand are those of both splits together.
    expected = facts(real_data)["carparts training (RGB 0..1)"]
    for channel in range(3):
        means = [splits[name]["bands"][channel]["mean"] for name in ("train", "val")]
        assert (340 * means[0] + 60 * means[1]) / 400 == pytest.approx(
            expected["mean"][channel], abs=2e-3
        )


def test_feature_voc_is_palette_and_its_leak_is_found(real_data, tmp_path):
    """The small copy has one of its validation images in the extended training list."""
    folder = str(real_data / "voc2012_layout")
    sets = [loader("VOC", data_dir=folder, split=split) for split in ("train_aug", "val")]
    code, report = audit(tmp_path, tree_of(*sets))
    assert report["splits"]["val"]["mask_encodings"] == {"PNG palette": 3}
    assert report["splits"]["train"]["mask_encodings"] == {"PNG grey": 4}
    leak = next(f for f in report["findings"] if f["kind"] == "leak")
    assert code == 2 and [name.rsplit("/", 1)[1] for name in leak["files"]] == ["2007_900001.jpg"]


@pytest.mark.slow
def test_feature_cocostuff_shows_its_classes(real_data, tmp_path):
    """182 classes, masks as pixel maps and as .mat files: the same images, the same labels."""
    big = [loader("COCO", data_dir=str(real_data / "cocostuff164k_layout"), split=f"{split}2017")
           for split in ("train", "val")]  # fmt: skip
    small = [loader("COCO", data_dir=str(real_data / "cocostuff10k_layout"), split=split,
                    partition="CocoStuff10k") for split in ("train", "test")]  # fmt: skip
    reports = [audit(tmp_path, tree_of(*sets))[1] for sets in (big, small)]
    totals = [report["splits"]["train"]["classes"] for report in reports]
    assert totals[0] == totals[1]
    assert reports[1]["splits"]["train"]["mask_encodings"] == {".mat": 13}
    flags = ["--sheet", str(tmp_path / "sheet")]
    audit(tmp_path, tree_of(*big), *flags)
    page = (tmp_path / "sheet/contact_sheet.html").read_text()
    for name in (c["name"] for c in totals[0] if c["pixels"]):
        assert page.count(f"<span>{name} <small>") >= 2, name  # in the legend and below an image
