"""The audit as a whole: what it finds, in tables, in JSON, by exit code."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

import check
from audit import file_findings
from audit.set_findings import _without_rest
from audit.sheet import choose
from base.base_dataloader import LoaderOptions
from dataloaders.shapes import Shapes
from inspection import label_findings
from inspection.facts import ImageFacts, MaskFacts, SampleFacts
from inspection.label_maps import propose
from inspection.split import Split
from tests import audit_sets
from tests.conftest import ROOT
from utils.transforms.augmentation import Augmentation


@pytest.fixture(scope="module")
def clean_set(tmp_path_factory):
    """A clean dataset, made once; tests copy it."""
    folder = tmp_path_factory.mktemp("clean")
    audit_sets.make_clean(folder)
    return folder


@pytest.fixture
def dataset(clean_set, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(clean_set, folder)
    (folder / "config.json").write_text(json.dumps(audit_sets.config_of(folder)))
    return folder


def run(folder, tree=None, *flags, step=False):
    """Exit code and JSON of the program on a dataset."""
    tree = audit_sets.config_of(folder) if tree is None else tree
    (folder / "config.json").write_text(json.dumps(tree))
    out = folder / "out.json"
    arguments = ["-c", str(folder / "config.json"), "--json", str(out), "--workers", "1",
                 "--cache", str(folder / "cache"), "-d", "cpu", *flags]  # fmt: skip
    code = check.main([*arguments, *([] if step else ["--no-step"])])
    return code, json.loads(out.read_text())


def run_with(folder, *makers, step=False):
    """What the program says of a dataset with these faults."""
    tree = audit_sets.config_of(folder)
    for maker in makers:
        maker(folder, tree)
    return run(folder, tree, step=step)


def set_both(tree, **args):
    for section in ("train_loader", "val_loader"):
        audit_sets.set_args(tree, section, **args)


def kinds(report, severity=None):
    return [f["kind"] for f in report["findings"] if severity in (None, f["severity"])]


def split_of(facts, count):
    shapes = Shapes("train", num_images=count)
    options = LoaderOptions(batch_size=1)
    return Split("train", "train_loader", shapes, Augmentation(), options, range(count), facts)


def test_feature_a_clean_set_is_clean(dataset, capsys):
    code, report = run(dataset, step=True)
    out = capsys.readouterr().out
    assert (code, report["clean"], report["findings"]) == (0, True, [])
    assert "No findings." in out
    assert report["splits"]["train"]["pictures"] == audit_sets.TRAIN
    assert not (dataset / "saved").exists()


def unknown_section(folder, tree):
    tree["wandb"] = {"project": "x"}


@pytest.mark.parametrize(
    ("maker", "codes"),
    [(lambda *_: None, (0, 0)), (audit_sets.exif_orientation, (0, 2)), (unknown_section, (0, 2)),
     (audit_sets.empty_file, (2, 2))],
)  # fmt: skip
def test_feature_warnings_alone_do_not_stop(dataset, maker, codes):
    tree = audit_sets.config_of(dataset)
    maker(dataset, tree)
    assert (run(dataset, tree)[0], run(dataset, tree, "--strict")[0]) == codes


# What else a fault brings with it, beside its own finding.
COMPANIONS = {
    "binary_mask": {"class-without-pixels"},
    "exif_orientation": set(),
    "sixteen_bit_ids": {"class-without-pixels"},
    "colours_for_ids": {"class-without-pixels"},
    "jpeg_mask": set(),
    "constant_band": {"mean-std"},
    "class_without_pixels": set(),
    "batch_size": set(),
}


@pytest.mark.parametrize("maker", audit_sets.MAKERS, ids=lambda maker: maker.__name__)
def test_feature_each_fault_is_found_and_nothing_else(dataset, maker, capsys):
    code, report = run_with(dataset, maker, step=maker in audit_sets.NEED_STEP)
    kind = audit_sets.kind_of(maker)
    assert code == (2 if kinds(report, "error") else 0)
    assert {kind} <= set(kinds(report)) <= {kind, *COMPANIONS.get(maker.__name__, set())}
    finding = next(f for f in report["findings"] if f["kind"] == kind)
    assert finding["message"] and finding["fix"]
    assert f"[{kind}]" in capsys.readouterr().out


PASTED = (audit_sets.sixteen_bit_ids, audit_sets.palette_colours, audit_sets.grey_colours,
          audit_sets.three_greys, audit_sets.binary_mask, audit_sets.mean_std)  # fmt: skip


@pytest.mark.parametrize("maker", PASTED, ids=lambda maker: maker.__name__)
def test_feature_pasted_lines_cure(dataset, maker, capsys):
    """The printed text itself goes into the config; the findings are gone."""
    tree = audit_sets.config_of(dataset)
    maker(dataset, tree)
    assert run(dataset, tree, "--strict")[0] == 2
    text = capsys.readouterr().out.split("Lines to paste")[1]
    for block in text.split("\ninto ")[1:]:
        heading, _, rest = block.partition(":\n")
        entries = json.loads("{" + rest.split("\n\n")[0] + "}")
        if heading == "the config itself":
            tree.update(entries)
            continue
        for path in heading.split(" and "):
            section, _, last = path.rpartition(".")
            assert last == "args"
            tree[section]["args"].update(entries)
    code, report = run(dataset, tree)
    assert (code, set(kinds(report)) - {"mixed-masks"}) == (0, set())
    weights = tree["loss"]["args"]["class_weights"]
    assert report["paste"]["loss.args"]["class_weights"] == weights
    assert len(weights) == len(tree["train_loader"]["args"]["classes"])


def test_feature_binary_masks_are_given_their_label_map(dataset):
    _, report = run_with(dataset, audit_sets.binary_mask)
    assert report["paste"]["train_loader.args"]["label_map"] == {"0": 0, "255": 1}


def test_feature_figures_equal_a_naive_loop(dataset):
    """Independent: Pillow and NumPy, a pixel array of everything at once."""
    _, report = run(dataset)
    train = report["splits"]["train"]
    images = np.stack([np.array(Image.open(p).convert("RGB"), np.float64)
                         for p in sorted((dataset / "images/train").iterdir())])  # fmt: skip
    masks = np.stack([np.array(Image.open(p)) for p in sorted((dataset / "masks/train").iterdir())])
    flat = images.reshape(-1, 3) / 255
    for channel, band in enumerate(train["bands"]):
        assert band["mean"] == pytest.approx(flat[:, channel].mean(), abs=1e-12)
        assert band["std"] == pytest.approx(flat[:, channel].std(), abs=1e-12)
        assert (band["low"], band["high"]) == (flat[:, channel].min(), flat[:, channel].max())
    counted = (masks < 3).sum()
    for number, totals in enumerate(train["classes"]):
        assert totals["pixels"] == (masks == number).sum()
        assert totals["share"] == pytest.approx((masks == number).sum() / counted)
        assert totals["pictures"] == (masks == number).any(axis=(1, 2)).sum()
    assert train["ignored_pixels"] == (masks == 255).sum()
    assert train["mask_values"] == {str(v): int((masks == v).sum()) for v in (0, 1, 2, 255)}
    shares = [totals["share"] for totals in train["classes"]]
    weights = [round(float(1 / np.log(1.02 + share)), 2) for share in shares]
    assert report["paste"]["loss.args"]["class_weights"] == weights


def test_feature_json_has_its_keys(dataset):
    _, report = run(dataset, step=True)
    assert sorted(report) == [
        "clean", "findings", "format", "name", "paste", "program", "splits", "step",
    ]  # fmt: skip
    assert report["format"] == 1 and report["program"] == "check.py"
    assert sorted(report["splits"]) == ["train", "val"]
    assert sorted(report["splits"]["train"]) == [
        "bands", "classes", "ignored_pixels", "mask_encodings", "mask_values", "picture_encodings",
        "pictures", "sizes", "usable",
    ]  # fmt: skip
    assert report["splits"]["val"]["sizes"]["median"] == [48, 40]
    assert report["splits"]["val"]["picture_encodings"] == {"PNG RGB": 4}
    step = report["step"]
    assert step["images"] == [4, 3, 32, 32] and step["logits"] == [4, 3, 32, 32]
    assert step["steps"] == 3 and step["epochs"] == 1 and step["frozen"] == step["forgotten"] == 0
    assert sum(group["parameters"] for group in step["groups"]) == step["parameters"]
    assert step["epoch_seconds"] == pytest.approx(3 * (step["step_seconds"] + step["load_seconds"]))


def test_feature_findings_name_every_file(dataset):
    for path in (dataset / "masks/train").iterdir():
        path.write_bytes(b"")
    _, report = run(dataset)
    finding = next(f for f in report["findings"] if f["kind"] == "empty-file")
    assert len(finding["files"]) == audit_sets.TRAIN
    assert finding["severity"] == "error" and finding["split"] == "train"


def test_feature_exif_says_which_way_the_mask_fits(dataset):
    _, report = run_with(dataset, audit_sets.exif_orientation)
    (what,) = report["findings"][0]["files"].values()
    assert what.endswith("size of the stored image")


def test_feature_a_size_that_tells_is_no_doubt_and_names_the_rule(dataset):
    audit_sets.turned_image(dataset, 6)
    assert run(dataset)[1]["findings"] == []  # the mask was drawn on the stored pixels
    audit_sets.change_mask(dataset, np.rot90)
    findings = {f["kind"]: f for f in run(dataset)[1]["findings"]}
    (what,) = findings["exif-orientation"]["files"].values()
    assert what.endswith("fits the rotated image")
    assert '"exif": "apply"' in findings["size-mismatch"]["fix"]
    assert "export" not in findings["size-mismatch"]["fix"]


def test_feature_the_batch_size_that_is_proposed_leaves_none_over():
    for images in range(3, 200):
        for batch in (2, 3, 8, 16):
            size = _without_rest(images, batch)
            assert size > 1 and images % size != 1, (images, batch)


def test_feature_the_held_back_share_is_the_validation(dataset):
    tree = audit_sets.config_of(dataset)
    del tree["val_loader"]
    audit_sets.set_args(tree, val_split=0.25, batch_size=3)
    code, report = run(dataset, tree)
    assert (code, report["splits"]["train"]["pictures"]) == (0, 9)
    assert report["splits"]["val"]["pictures"] == 3


def test_feature_pretrained_weights_keep_imagenets_statistics(dataset):
    """ImageNet's mean and std are far from these images', and right for weights from there."""
    tree = audit_sets.config_of(dataset)
    set_both(tree, mean=None, std=None)
    assert kinds(run(dataset, tree)[1]) == ["mean-std"]
    tree["arch"] = {"type": "FCN", "args": {"pretrained": True}}
    code, report = run(dataset, tree)
    assert code == 0 and "mean" not in report["paste"]["train_loader.args"]


def test_feature_an_image_of_another_number_of_bands_is_found():
    """Independent of any reader: facts as a dataset of rasters would give them."""
    facts = [SampleFacts(str(n), [str(n)], ImageFacts(channels=n, width=1, height=1))
             for n in (3, 3, 4)]  # fmt: skip
    (finding,) = file_findings.find(split_of(facts, 3))
    assert finding.kind == "different-bands" and finding.files == {"4": "4 bands"}


def test_feature_training_that_skips_bad_samples_is_tried(dataset):
    tree = audit_sets.config_of(dataset)
    audit_sets.unreadable(dataset, tree)
    assert run(dataset, tree, step=True)[1]["step"] is None
    audit_sets.set_args(tree, on_bad_sample="skip")
    code, report = run(dataset, tree, step=True)
    assert (code, kinds(report)) == (2, ["unreadable"])
    assert report["step"]["steps"] == 3


def test_feature_test_images_are_audited(dataset):
    tree = audit_sets.config_of(dataset)
    tree["test_loader"] = tree["val_loader"]
    code, report = run(dataset, tree)
    assert code == 0 and report["splits"]["test"] == report["splits"]["val"]
    audit_sets.leak(dataset, tree)
    _, report = run(dataset, tree)
    assert [(f["kind"], f["split"]) for f in report["findings"]] == [("leak", "val"),
                                                                     ("leak", "test")]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["-o", "arch.type=Unett"], "did you mean 'UNet'"),
        (["-c", "nowhere.json"], "nowhere.json"),
        (["--workers", "0"], "--workers 0: expected 1 or more"),
        (["--no-step", "--json", "images"], "--json images: cannot be written"),
        (["--no-step", "--sheet", "config.json"], "--sheet config.json: cannot be written"),
        (["-d", "a toaster"], "a toaster"),
    ],
)
def test_exception_mistakes_are_one_message(dataset, flags, text, capsys, monkeypatch):
    """Before an image is read."""
    monkeypatch.chdir(dataset)
    monkeypatch.setattr("audit.scan.scan", None)
    monkeypatch.setattr("audit.read.scan", None)
    assert check.main(["-c", str(dataset / "config.json"), *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and text in err


def test_exception_every_dataset_that_is_missing_is_named(dataset, capsys):
    tree = audit_sets.config_of(dataset)
    for section in ("train_loader", "val_loader"):
        audit_sets.set_args(tree, section, data_dir=str(dataset / f"no_{section}"))
    (dataset / "config.json").write_text(json.dumps(tree))
    assert check.main(["-c", str(dataset / "config.json")]) == 2
    err = capsys.readouterr().err
    assert "no_train_loader" in err and "no_val_loader" in err


@pytest.mark.slow
def test_feature_the_default_config_is_clean_as_a_program(tmp_path):
    overrides = {
        "train_loader.args.num_images": 32, "val_loader.args.num_images": 16,
        "train_loader.args.num_workers": 0, "val_loader.args.num_workers": 0,
    }  # fmt: skip
    flags = [flag for key, value in overrides.items() for flag in ("-o", f"{key}={value}")]
    result = subprocess.run(
        [sys.executable, str(ROOT / "check.py"), "-c", str(ROOT / "config.json"), "-d", "cpu",
         "--sheet", "--json", "out/check.json", *flags],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "No findings." in result.stdout and "One step on cpu" in result.stdout
    assert json.loads((tmp_path / "out/check.json").read_text())["clean"]
    sheets = sorted(p.name for p in (tmp_path / "saved/check/UNet_Shapes").iterdir())
    assert sheets == ["contact_sheet.html", "contact_sheet.png"]
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["cache", "check"]


def program(*flags, **settings):
    command = [sys.executable, str(ROOT / "check.py"), "-c", "config.json", *flags]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **settings}
    return subprocess.run(command, **settings)


@pytest.mark.slow
def test_feature_a_broken_set_exits_with_two_as_a_program(dataset):
    audit_sets.unreadable(dataset, {})
    result = program("--workers", "2", cwd=dataset)
    assert result.returncode == 2
    assert "train00.png" in result.stdout and "Traceback" not in result.stderr
    assert "No step could be taken" in result.stdout


@pytest.mark.slow
def test_feature_whoever_has_seen_enough_may_stop_reading(dataset):
    """As `check.py | head -1` does: a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    result = program("--no-step", cwd=dataset, stdout=writing)
    os.close(writing)
    assert "Traceback" not in result.stderr and "Broken" not in result.stderr
    assert result.returncode == 141


@pytest.mark.slow
def test_feature_names_that_cannot_be_shown_are_no_obstacle(dataset):
    """A name in Latin-1, Chinese classes, and a terminal that knows ASCII alone."""
    for kind in ("images", "masks"):
        folder = os.fsencode(dataset / kind / "train")
        os.rename(folder + b"/train00.png", folder + b"/stra\xdfe.png")
    tree = audit_sets.config_of(dataset)
    set_both(tree, classes=["\u80cc\u666f", "\u9053\u8def", "car"])
    path = dataset / os.fsdecode(b"masks/train/stra\xdfe.png")
    path.write_bytes(b"")
    (dataset / "config.json").write_text(json.dumps(tree))
    result = program("--no-step", "--json", "out.json", "--sheet", "sheet", cwd=dataset,
                     env={**os.environ, "PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "stra?e.png" in result.stdout
    report = json.loads((dataset / "out.json").read_text())
    (file,) = report["findings"][0]["files"]
    assert os.path.samefile(file, path)
    page = (dataset / "sheet/contact_sheet.html").read_bytes()
    assert b"stra\xdfe" in page and "\u9053\u8def".encode() in page


@pytest.mark.slow
def test_feature_json_goes_to_the_standard_output(dataset):
    result = program("--no-step", "--json", "-", cwd=dataset)
    assert json.loads(result.stdout)["clean"] and "No findings." in result.stderr


def test_feature_lines_to_paste_keep_their_letters(dataset, capsys):
    tree = audit_sets.config_of(dataset)
    set_both(tree, classes=["Stra\u00dfe", "\u9053\u8def", "car"])
    run(dataset, tree)
    assert '"classes": ["Stra\u00dfe", "\u9053\u8def", "car"]' in capsys.readouterr().out


def test_feature_what_is_held_back_has_no_partners_of_its_own(dataset):
    tree = audit_sets.config_of(dataset)
    del tree["val_loader"]
    audit_sets.set_args(tree, val_split=0.25, batch_size=3)
    (dataset / "masks/train/train00.png").unlink()
    (dataset / "images/train/train01.png").unlink()
    _, report = run(dataset, tree)
    assert [kind for kind in kinds(report) if kind.endswith("partner")] == [
        "missing-partner", "extra-partner",
    ]  # fmt: skip


def test_feature_a_step_that_fails_for_another_reason_is_told(dataset):
    """A damaged file is named once; a wrong model beside a damaged validation image too."""
    tree = audit_sets.config_of(dataset)
    audit_sets.unreadable(dataset, tree)
    assert "step" not in kinds(run(dataset, tree, step=True)[1])
    audit_sets.set_args(tree, on_bad_sample="skip")
    audit_sets.step(dataset, tree)
    _, report = run(dataset, tree, step=True)
    assert {"step", "unreadable"} == set(kinds(report))


def test_feature_bands_without_statistics_are_measured(dataset):
    """Independent: NumPy over all training images; what is pasted makes the config clean."""
    rng = np.random.default_rng(0)
    pixels = {}
    for split, shift in (("train", 500), ("val", 540)):
        stack = []
        for path in sorted((dataset / "images" / split).iterdir()):
            stack.append(rng.integers(shift, shift + 2000, (40, 48, 4)).astype(np.uint16))
            path.unlink()
            tifffile.imwrite(path.with_suffix(".tif"), stack[-1], photometric="minisblack",
                             planarconfig="contig")  # fmt: skip
        pixels[split] = np.stack(stack).reshape(-1, 4).astype(np.float64)
    tree = audit_sets.config_of(dataset)
    set_both(tree, mean=None, std=None)
    code, report = run(dataset, tree, step=True)
    assert (code, kinds(report)) == (2, ["mean-std", "mean-std"])
    assert [f["split"] for f in report["findings"]] == ["train", "val"]
    assert report["step"]["images"] == [4, 4, 32, 32]
    for section in ("train_loader", "val_loader"):
        pasted = report["paste"][f"{section}.args"]
        np.testing.assert_allclose(pasted["mean"], pixels["train"].mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(pasted["std"], pixels["train"].std(axis=0), rtol=1e-4)
        tree[section]["args"].update(pasted)
    assert run(dataset, tree, step=True)[0] == 0


def test_feature_masks_of_one_file_are_named_with_their_images():
    """As where one JSON file holds the outlines of all images."""
    image = ImageFacts(channels=3, width=9, height=9)
    good = MaskFacts(width=9, height=9, labels={0: 81})
    masks = [good, MaskFacts(error="all.json: annotation 7 is broken"), good,
             MaskFacts(error="all.json: annotation 9 is broken")]  # fmt: skip
    facts = [SampleFacts(f"p{n}", [f"p{n}.jpg", "all.json", "extra.png"], image, mask, "all.json")
             for n, mask in enumerate(masks)]  # fmt: skip
    split = split_of(facts, 4)
    (finding,) = file_findings.find(split)
    assert finding.files == {"all.json: p1.jpg": "annotation 7 is broken",
                             "all.json: p3.jpg": "annotation 9 is broken"}  # fmt: skip
    flagged = [place for _, place, messages in choose([split], [finding]) if messages]
    assert flagged == [1, 3]


def test_feature_the_mask_is_named_where_more_files_are_read():
    """As where a second mask says what is in front: the last file is not the mask."""
    mask = MaskFacts(width=9, height=9, values={"0": 80, "77": 1}, unknown=["77"], labels={0: 80})
    image = ImageFacts(channels=3, width=9, height=9)
    facts = [SampleFacts("p", ["p.jpg", "p_mask.png", "p_front.png"], image, mask, "p_mask.png")]
    split = split_of(facts, 1)
    (finding,) = label_findings.find(split, propose([split])["train"])
    assert list(finding.files) == ["p_mask.png"]
