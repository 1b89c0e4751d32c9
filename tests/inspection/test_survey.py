"""inspection/survey.py: what a training is told of its data in the first seconds."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.batches import MixedSizesError
from dataloaders.folder import Folder
from inspection import look
from tests.utils.files.test_exif import config, noise, save
from utils.files.data_file import DataError
from utils.transforms.augmentation import Augmentation

RAMP = [level for value in range(256) for level in (value, value, value)]


def objects(n):
    """A mask of an object, 1, on a background, 0; another one each time."""
    mask = np.zeros((16, 16), np.uint8)
    mask[2 : 9 + n % 4, 3:12] = 1
    return mask


def grey(ids, path):
    Image.fromarray(ids).save(f"{path}.png")


def palette(ids, path):
    image = Image.fromarray(ids, mode="P")
    image.putpalette(RAMP)
    image.save(f"{path}.png")


def gif(ids, path):
    Image.fromarray(ids).convert("1").save(f"{path}.gif")


def rgb(ids, path):
    Image.fromarray(np.dstack([ids] * 3)).save(f"{path}.png")


def rgba(ids, path):
    Image.fromarray(np.dstack([np.zeros((16, 16, 3), np.uint8), ids])).save(f"{path}.png")


def grey_alpha(ids, path):
    pixels = np.dstack([np.zeros((16, 16, 1), np.uint8), ids])
    Image.fromarray(pixels, mode="LA").save(f"{path}.png")


def one_bit(ids, path):
    Image.fromarray(ids).convert("1").save(f"{path}.png")


def widen(root, *numbers):
    """Make these images and masks 17 pixels wide."""
    for n in numbers:
        save(root / f"images/{n}.png", noise(16, 17, n))
        grey(np.pad(objects(n), ((0, 0), (0, 1))), root / f"masks/{n}")


def with_ignored_row():
    """A mask of 0, 1 and 255: beside 1, 255 is what is ignored, as in VOC."""
    mask = objects(0)
    mask[0] = 255
    return mask


def make(root, write=grey, values=(0, 255), count=6, split=""):
    """Images, and masks whose background and object have these values."""
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for n in range(count):
        save(root / "images" / split / f"{n}.png", noise(16, 16, n))
        write(np.array(values, np.uint8)[objects(n)], root / "masks" / split / f"{n}")
    return root


def start(root, capsys, changes=(), **args):
    """Run train.py; returns its exit code, what it printed, and its error stream."""
    tree = {**config(root, **{"classes": ["ground", "car"], **args}), **dict(changes)}
    (root / "config.json").write_text(json.dumps(tree))
    code = train.main(["-c", str(root / "config.json")])
    return (code, *capsys.readouterr())


def refused(root, capsys, changes=(), **args):
    """The error of a training that begins nothing."""
    code, _, error = start(root, capsys, changes, **args)
    assert code == 2
    assert not (root / "saved").exists()
    return error


# --- masks of 0 and 255


@pytest.mark.parametrize("write", [grey, palette, gif])
@pytest.mark.parametrize("values", [(0, 255), (255, 0)])
def test_exception_black_and_white_masks(tmp_path, capsys, write, values):
    error = refused(make(tmp_path, write, values), capsys)
    assert '"label_map": {"0": 0, "255": 1}    if 255 is "car"' in error
    assert '"label_map": {"0": 1, "255": 0}    if 0 is "car"' in error


@pytest.mark.parametrize(
    "changes",
    [{"binary": True}, {"loss": {"type": "CrossEntropyLoss2d", "args": {"class_weights": "auto"}}}],
)
def test_exception_whatever_reads_the_masks(tmp_path, capsys, changes):
    assert '"label_map"' in refused(make(tmp_path), capsys, changes)


def test_exception_more_classes_and_the_rate_search(tmp_path, capsys):
    error = refused(make(tmp_path), capsys, classes=["ground", "car", "bus"])
    assert '"ignore_index": 255' in error
    code = train.main(["-c", str(tmp_path / "config.json"), "--find-lr", "10"])
    assert code == 2
    assert '"label_map"' in capsys.readouterr().err


def test_exception_only_the_validation_masks(tmp_path, capsys):
    make(tmp_path, values=(0, 1), split="train")
    make(tmp_path, values=(0, 255), split="val")
    args = {"data_dir": str(tmp_path), "classes": 2, "batch_size": 2, "num_workers": 0}
    changes = {
        f"{split}_loader": {"type": "Folder", "args": {**args, "split": split}}
        for split in ("train", "val")
    }
    error = refused(tmp_path, capsys, changes)
    assert "add to val_loader.args" in error
    assert "masks/val/" in error


@pytest.mark.parametrize("write", [rgba, grey_alpha])
def test_exception_an_object_in_the_transparency(tmp_path, capsys, write):
    error = refused(make(tmp_path, write), capsys)
    assert "alpha extract" in error and "masks/" in error


@pytest.mark.parametrize(("write", "values", "label_map"), [
    (rgb, (0, 1), {"0,0,0": 0, "1,1,1": 1}),
    (rgb, (0, 255), {"0,0,0": 0, "255,255,255": 1}),
    (rgb, (50, 200), {"50,50,50": 0, "200,200,200": 1}),
    (grey, (3, 7), {"3": 0, "7": 1}),
])  # fmt: skip
def test_exception_other_values_have_their_map(tmp_path, capsys, write, values, label_map):
    error = refused(make(tmp_path, write, values), capsys)
    assert f'"label_map": {json.dumps(label_map)}' in error
    code, _, error = start(tmp_path, capsys, label_map=label_map)
    assert (code, error) == (0, "")


def test_feature_what_the_message_says_trains(tmp_path, capsys):
    code, out, error = start(make(tmp_path), capsys, label_map={"0": 0, "255": 1})
    assert (code, error) == (0, "")
    assert "one class labelled" not in out


def test_feature_masks_of_one_bit_have_the_map_that_reads_them(tmp_path, capsys):
    map_of_bytes = {"0": 0, "255": 1}
    error = refused(make(tmp_path, one_bit), capsys, label_map=map_of_bytes)
    assert '"label_map": {"0": 0, "1": 1, "255": 1}' in error
    grey(np.array([0, 255], np.uint8)[objects(0)], tmp_path / "masks/0")  # one of eight bits
    code, _, error = start(tmp_path, capsys, label_map=map_of_bytes | {"1": 1})
    assert (code, error) == (0, "")


def test_feature_an_ignored_value_that_is_named_is_believed(tmp_path, capsys):
    code, out, error = start(make(tmp_path), capsys, ignore_index=255)
    assert code == 0
    assert error.count("1 of 2 classes have no labelled pixel: car") == 2  # train and val
    assert out.count("Mean_IoU (one class labelled) ") == 2  # of the epoch, of the best model


def test_feature_beside_one_white_is_ignored(tmp_path, capsys):
    """Only some masks hold 1."""
    make(tmp_path)
    for n in (0, 3):
        grey(with_ignored_row(), tmp_path / f"masks/{n}")
    code, _, error = start(tmp_path, capsys)
    assert code == 0
    assert "label_map" not in error


def test_feature_one_more_value_anywhere_settles_it(tmp_path, capsys, monkeypatch):
    """A sample looks like 0 and 255; the rest is read before anything is refused."""
    monkeypatch.setattr(look, "MAX_MASKS", 2)
    make(tmp_path, count=9)
    order = np.random.default_rng(0).permutation(9)
    grey(with_ignored_row(), tmp_path / f"masks/{order[-1]}")
    tree = config(tmp_path, val_split=None)
    tree["trainer"] |= {"val": False, "monitor": "off"}
    (tmp_path / "c.json").write_text(json.dumps(tree))
    assert train.main(["-c", str(tmp_path / "c.json")]) == 0
    grey(objects(0) * 255, tmp_path / f"masks/{order[-1]}")
    assert train.main(["-c", str(tmp_path / "c.json")]) == 2


# --- classes without a labelled pixel


def test_feature_absent_classes_are_named(tmp_path, capsys):
    names = ["ground", "car", "bus", "tram"]
    code, out, error = start(make(tmp_path, values=(0, 1)), capsys, classes=names)
    assert code == 0
    for split in ("train", "val"):
        assert f"{split}: 2 of 4 classes have no labelled pixel: bus, tram" in error
    assert "one class labelled" not in out


def test_feature_absent_classes_of_many_masks_are_named_after_an_epoch(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(look, "MAX_MASKS", 2)
    make(tmp_path, values=(0, 1), count=9)
    code, out, error = start(tmp_path, capsys, classes=["ground", "car", "bus"])
    assert code == 0
    assert error.count("have no labelled pixel: bus") == 2
    assert "one class labelled" not in out


def test_feature_evaluation_names_them(tmp_path, capsys):
    import evaluate

    make(tmp_path)
    start(tmp_path, capsys, ignore_index=255)
    best = next((tmp_path / "saved").rglob("best_model.pth"))
    assert evaluate.main(["--model", str(best), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "val: 1 of 2 classes have no labelled pixel: car" in out
    assert "mean IoU (one class labelled)" in out


# --- what else is read


def test_feature_a_slow_look_is_kept_until_a_file_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(look, "WORTH_KEEPING", -1)
    make(tmp_path, values=(0, 1))
    assert start(tmp_path, capsys)[0] == 0
    kept = {path: path.stat().st_mtime_ns for path in Path("saved/cache").glob("survey-*")}
    assert len(kept) == 2
    monkeypatch.setattr(look, "_read", None)  # nothing is read again
    assert start(tmp_path, capsys)[0] == 0
    monkeypatch.undo()
    grey(objects(0) * 9, tmp_path / "masks/0")
    monkeypatch.chdir(tmp_path)
    code, _, error = start(tmp_path, capsys)
    assert code == 2 and "masks/0.png" in error
    for path in kept:
        path.write_bytes(b"nonsense")
    grey(objects(0), tmp_path / "masks/0")
    assert start(tmp_path, capsys)[0] == 0


def test_exception_a_broken_mask_is_found_at_once(tmp_path, capsys):
    make(tmp_path, values=(0, 1))
    (tmp_path / "masks/4.png").write_bytes((tmp_path / "masks/4.png").read_bytes()[:-20])
    assert "masks/4.png" in refused(tmp_path, capsys)
    assert start(tmp_path, capsys, on_bad_sample="skip")[0] == 0


@pytest.mark.parametrize("length", [0, 20])
def test_exception_images_without_a_header_are_found_at_once(tmp_path, capsys, length):
    make(tmp_path, values=(0, 1))
    for n in range(4):
        path = tmp_path / f"images/{n}.png"
        path.write_bytes(path.read_bytes()[:length])
    assert re.search(r"images/[0-3]\.png.*more cannot be read", refused(tmp_path, capsys))


# --- sizes in a batch


@pytest.mark.parametrize("args", [
    {}, {"crop_size": 8}, {"augment": True, "flip": True}, {"augment": True, "base_size": 20},
])  # fmt: skip
def test_exception_sizes_that_no_batch_holds(tmp_path, capsys, args):
    widen(make(tmp_path, values=(0, 1)), *range(1, 6))
    error = refused(tmp_path, capsys, **args)
    assert "16x16" in error and "17x16" in error and "images/" in error
    assert '"crop_size": 16 ' in error  # the shortest side


@pytest.mark.parametrize("args", [
    {"augment": True, "crop_size": 8}, {"batch_size": 1},
])  # fmt: skip
def test_feature_sizes_that_a_batch_holds(tmp_path, capsys, args):
    widen(make(tmp_path, values=(0, 1)), 1)
    tree = config(tmp_path, **args)
    tree["arch"]["args"]["freeze_bn"] = True  # a batch of one
    (tmp_path / "c.json").write_text(json.dumps(tree))
    assert train.main(["-c", str(tmp_path / "c.json")]) == 0, capsys.readouterr().err


def test_exception_a_pipeline_without_a_crop(tmp_path, capsys):
    albumentations = pytest.importorskip("albumentations")
    widen(make(tmp_path, values=(0, 1)), *range(1, 6))
    flip, crop = albumentations.HorizontalFlip(), albumentations.RandomCrop(16, 16, p=1)
    trees = [albumentations.Compose(steps).to_dict() for steps in ([flip], [flip, crop])]
    error = refused(tmp_path, capsys, augment=True, albumentations=trees[0])
    assert "after albumentations" in error and "RandomCrop of 16x16" in error
    assert start(tmp_path, capsys, augment=True, albumentations=trees[1])[0] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_exception_late_sizes_name_their_files_through_a_loader(tmp_path, workers):
    widen(make(tmp_path, values=(0, 1), count=2), 1)
    loader = BaseDataLoader(
        Folder(classes=2, data_dir=str(tmp_path), images="images", masks="masks"),
        Augmentation(),
        LoaderOptions(batch_size=2, num_workers=workers),
        seed=0,
        ignore_index=255,
        training=True,
    )
    files = [re.escape(str(tmp_path / f"images/{n}.png")) for n in range(2)]
    with pytest.raises(DataError, match=rf"16x16 \({files[0]}\).*17x16 \({files[1]}\)"):
        list(loader.epoch(1))


def test_feature_late_sizes_name_their_files():
    error = MixedSizesError({(9, 8): 4, (8, 8): 2, (10, 8): 1})
    assert "8x8 (a.png) and 9x8 (b.png)" in error.describe({2: "a.png", 4: "b.png"})


def test_exception_classes_in_another_order_are_shown():
    from base.compatibility import check_same
    from tests.inspection.test_labels import Masks

    masks = [np.zeros((2, 2), np.uint8)]
    train, val = Masks(masks, classes=2), Masks(masks, classes=2)
    val.classes = val.classes[::-1]
    with pytest.raises(ValueError, match="class 0 is 'class 0' in .* and 'class 1' in "):
        check_same(train, val)


# --- one class


@pytest.mark.parametrize("classes", [["car"], 1])
def test_exception_one_class(tmp_path, capsys, classes):
    assert '"classes": ["background", ' in refused(make(tmp_path), capsys, classes=classes)


@pytest.mark.parametrize("label_map", [{"0": 1, "255": 1}, {"0": -1, "255": 0}, {"0": -1}])
def test_exception_a_map_with_one_class(tmp_path, label_map):
    make(tmp_path)
    with pytest.raises(ValueError, match="label_map"):
        Folder(classes=2, data_dir=str(tmp_path), label_map=label_map)


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_exception_images_and_masks_exchanged(tmp_path, capsys, extension):
    make(tmp_path, values=(0, 1))
    for n in range(6):
        (tmp_path / f"images/{n}.png").unlink()
        save(tmp_path / f"images/{n}.{extension}", noise(16, 16, n))
    error = refused(tmp_path, capsys, images="masks", masks="images")
    assert "exchanged? " in error and "masks/0.png holds 2 values" in error
    grey(objects(0) * 9, tmp_path / "masks/0")
    assert "exchanged" not in refused(tmp_path, capsys)


def test_feature_what_is_kept_knows_every_mask_that_was_read(tmp_path, monkeypatch, capsys):
    """Where all masks are read, also those whose heads are not."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("MAX_HEADS", 2), ("MAX_MASKS", 1), ("WORTH_KEEPING", -1)):
        monkeypatch.setattr(look, name, value)
    make(tmp_path, count=9)
    assert start(tmp_path, capsys)[0] == 2
    for n in np.random.default_rng(0).permutation(9)[-3:]:
        grey(with_ignored_row(), tmp_path / f"masks/{n}")
    assert start(tmp_path, capsys)[0] == 0
