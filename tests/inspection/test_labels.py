"""What the audit proposes for masks whose values mean nothing: right, or nothing at all."""

import collections

import numpy as np
import pytest

from audit.advice import lines_to_paste
from base.base_dataloader import LoaderOptions
from base.base_dataset import BaseDataset
from inspection.facts import ImageFacts, SampleFacts, describe_mask
from inspection.label_findings import find, find_undecided_white
from inspection.label_maps import propose
from inspection.split import Split
from utils.drawing.palette import voc_palette
from utils.samples.class_weights import class_weights
from utils.samples.pairing import Sample
from utils.transforms.augmentation import Augmentation

VOC_COLOURS = np.array(voc_palette(256), np.uint8)


class Masks(BaseDataset):
    """Masks of one's own, with the arguments of `Folder` that matter here."""

    def __init__(self, masks, *, classes=3, label_map=None, palette=None, ignore_index=None):
        self.classes = [f"class {n}" for n in range(classes)]
        self.palette = voc_palette(classes) if palette is None else palette
        self.colour_map = None if palette is None else {c: n for n, c in enumerate(palette)}
        self.label_map = label_map
        self.void = None if ignore_index is None else [ignore_index]
        super().__init__([Sample(f"p{n}", f"p{n}.png", f"m{n}.png") for n in range(len(masks))])


def split_of(masks, name="train", **args):
    dataset = Masks(masks, **args)
    indices = range(len(masks))
    split = Split(name, f"{name}_loader", dataset, Augmentation(), LoaderOptions(1), indices)
    facts = [
        SampleFacts(sample.name, list(sample.files), ImageFacts(width=40, height=30, channels=3),
                    describe_mask(mask, None, split.label_map), sample.label)
        for sample, mask in zip(dataset.samples, masks, strict=True)
    ]  # fmt: skip
    return Split(name, split.section, dataset, Augmentation(), LoaderOptions(1), indices, facts)


def class_masks(classes, number=12):
    """True classes, class 1 less frequent than the last, none at all in the first mask."""
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.1, 0.3][:classes]) / sum([0.6, 0.1, 0.3][:classes])
    masks = [rng.choice(classes, (30, 40), p=shares).astype(np.uint8) for _ in range(number)]
    masks[0][:] = 0
    return masks


def read(mask, label_map):
    """A naive reading, pixel by pixel, as `Folder` says: colours alone make grey a colour."""
    if mask.ndim == 2 and all("," in key for key in label_map):
        mask = np.stack([mask] * 3, -1)
    rows = mask.reshape(mask.shape[0] * mask.shape[1], -1).tolist()
    labels = [label_map[",".join(map(str, value))] for value in rows]
    return np.array(labels).reshape(mask.shape[:2])


ENCODINGS = {
    "grey as RGB": (3, lambda mask, n: np.stack([mask] * 3, -1)),
    "0, 128, 255": (3, lambda mask, n: np.array([0, 128, 255], np.uint8)[mask]),
    "0, 128, 255 as RGB": (3, lambda mask, n: np.array([[g] * 3 for g in (0, 128, 255)],
                                                       np.uint8)[mask]),
    "0 and 255": (2, lambda mask, n: mask * np.uint8(255)),
    "0 and 255 as RGB": (2, lambda mask, n: np.stack([mask * np.uint8(255)] * 3, -1)),
    "0 and 65535": (2, lambda mask, n: mask.astype(np.uint16) * 65535),
    "from 1": (3, lambda mask, n: mask + np.uint8(1)),
    "other ids": (3, lambda mask, n: np.array([7, 11, 26], np.uint8)[mask]),
    "times 257": (3, lambda mask, n: mask.astype(np.uint16) * 257),
    "times 256": (3, lambda mask, n: mask.astype(np.uint16) * 256),
    "VOC colours": (3, lambda mask, n: VOC_COLOURS[mask]),
    "VOC colours in some": (3, lambda mask, n: VOC_COLOURS[mask] if n % 2 else mask),
    "grey as RGB in some": (3, lambda mask, n: np.stack([mask] * 3, -1) if n % 2 else mask),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
def test_feature_the_map_gives_back_the_classes(name):
    """Independent: what was encoded, read by a naive loop; and weights from the true classes."""
    classes, encode = ENCODINGS[name]
    true = class_masks(classes)
    masks = [encode(mask, n) for n, mask in enumerate(true)]
    split = split_of(masks, classes=classes)
    proposal = propose([split])["train"]
    assert proposal.label_map is not None and proposal.settled
    for mask, expected in zip(masks, true, strict=True):
        np.testing.assert_array_equal(read(mask, proposal.label_map), expected)
    counts = np.bincount(np.concatenate([mask.ravel() for mask in true]), minlength=classes)
    assert pasted_weights(split) == class_weights(counts.tolist())


def pasted_weights(split):
    from builders.sections import SECTIONS
    from utils.config.check import check_config

    config = check_config(
        {"name": "n", "arch": {"type": "UNet"}, "optimizer": {"type": "SGD"},
         "train_loader": {"type": "Shapes", "args": {"batch_size": 1, "split": "train"}},
         "loss": {"type": "CrossEntropyLoss2d"},
         "trainer": {"epochs": 1, "val": False, "monitor": "off"}},
        SECTIONS, "test", (), ())  # fmt: skip
    paste = lines_to_paste(config, {"train": split}, propose([split]))
    return paste.get("loss.args", {}).get("class_weights")


def with_values(masks, *values):
    """Ones of the first mask anew: a row for each value."""
    masks[1] = masks[1].copy()
    for row, value in enumerate(values):
        masks[1][row] = value
    return masks


def one_pixel(masks, value):
    masks[1][3, 3] = value
    return masks


def speckled(masks):
    """Many values between the labels, as smoothing leaves them."""
    masks[2] = masks[2] * 80 + np.arange(40, dtype=np.uint8)
    return masks


COLOURS = np.array([[10, 20, 30], [200, 20, 30], [90, 90, 10]], np.uint8)
UNCLEAR = {
    "colours of one's own": (3, lambda: [COLOURS[mask] for mask in class_masks(3)]),
    "palette in part": (3, lambda: [VOC_COLOURS[mask + (mask == 2)] for mask in class_masks(3)]),
    "one pixel of 7": (3, lambda: one_pixel(class_masks(2), 7)),
    "one pixel of 7, one class": (2, lambda: one_pixel([m * 0 for m in class_masks(2)], 7)),
    "a gap": (3, lambda: with_values([mask * 2 for mask in class_masks(2)], 9)),
    "more ids than classes": (3, lambda: with_values(class_masks(3), 40, 41)),
    "smoothed": (3, lambda: speckled([mask * np.uint8(120) for mask in class_masks(3)])),
    "colours, and one smoothed": (3, lambda: [
        mask if n == 2 else VOC_COLOURS[mask] for n, mask in enumerate(speckled(class_masks(3)))
    ]),
    "0 and 255 in some": (2, lambda: [m * np.uint8(255 if n % 2 else 1)
                                      for n, m in enumerate(class_masks(2))]),
    "a class stretched away": (3, lambda: [mask.astype(np.uint16) * 257
                                           for mask in class_masks(2)]),
    "black and white of three": (3, lambda: [np.stack([mask * np.uint8(255)] * 3, -1)
                                             for mask in class_masks(2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_feature_what_is_not_clear_is_not_pasted(name):
    classes, make = UNCLEAR[name]
    split = split_of(make(), classes=classes)
    proposal = propose([split])["train"]
    assert proposal.label_map is None
    assert list(find(split, proposal))


def test_feature_no_map_is_named_beside_smoothed_masks():
    """An odd value of another mask may be of the same making."""
    split = split_of(one_pixel(speckled(class_masks(3)), 90))
    findings = list(find(split, propose([split])["train"]))
    assert [finding.kind for finding in findings] == ["blended-mask", "unknown-ids"]
    assert not any("label_map" in finding.fix for finding in findings)
    assert pasted_weights(split) is None


def test_feature_masks_in_order_need_no_map():
    split = split_of([np.where(m == 2, 255, m).astype(np.uint8) for m in class_masks(3)])
    proposal = propose([split])["train"]
    assert proposal.label_map is None and proposal.settled
    assert list(find(split, proposal)) == []


def test_feature_colours_come_with_counts_to_fill_in():
    masks = [COLOURS[mask] for mask in class_masks(3)]
    split = split_of(masks)
    (finding,) = find(split, propose([split])["train"])
    counts = collections.Counter(map(tuple, np.concatenate(masks).reshape(-1, 3).tolist()))
    for colour, pixels in counts.items():
        assert f'"{",".join(map(str, colour))}": ? ({pixels} pixels)' in finding.fix
    assert pasted_weights(split) is None  # they wait until it is known what is what


def test_feature_a_stray_pixel_is_ignored_in_the_advice_alone():
    split = split_of(one_pixel(class_masks(2), 7), classes=3)
    (finding,) = find(split, propose([split])["train"])
    assert finding.kind == "unknown-ids" and list(finding.files) == ["m1.png"]
    assert '{"0": 0, "1": 1, "2": 2, "7": -1, "255": -1}' in finding.fix
    assert pasted_weights(split)[2] == 50.5


def test_feature_ids_and_colours_are_two_findings():
    masks = class_masks(3)
    masks[1][0, 0] = 254
    masks[4] = COLOURS[masks[4]]
    split = split_of(masks)
    ids, colours = find(split, propose([split])["train"])
    assert (ids.kind, list(ids.files)) == ("unknown-ids", ["m1.png"])
    assert (colours.kind, list(colours.files)) == ("colours-for-ids", ["m4.png"])
    assert '"254": -1' in ids.fix and '"10,20,30": ?' in colours.fix


def test_feature_a_palette_is_what_a_person_has_said():
    """Ids beside it are read by other rules than those of a map."""
    masks = [COLOURS[m] if n % 2 else np.array([0, 128, 255], np.uint8)[m]
             for n, m in enumerate(class_masks(3))]  # fmt: skip
    palette = [tuple(colour) for colour in COLOURS.tolist()]
    split = split_of(masks, palette=palette)
    proposal = propose([split])["train"]
    (finding,) = find(split, proposal)
    assert proposal.label_map is None and "label_map" not in finding.fix
    masks = [COLOURS[m] for m in class_masks(3)]
    masks[1][0] = 9
    split = split_of(masks, palette=palette)
    (finding,) = find(split, propose([split])["train"])
    assert finding.kind == "unknown-colours" and '"9,9,9": -1' in finding.fix
    assert '"200,20,30": 1' in finding.fix and '"0": 0' not in finding.fix


def test_feature_binary_masks_are_named_where_only_some_are():
    masks = [m * np.uint8(255 if n in (2, 5) else 1) for n, m in enumerate(class_masks(2))]
    split = split_of(masks, classes=2)
    (finding,) = find(split, propose([split])["train"])
    assert (finding.kind, list(finding.files)) == ("binary-mask", ["m2.png", "m5.png"])
    assert pasted_weights(split) is None
    masks[1][0, 0] = 255  # beside 1, it can only be what does not count
    split = split_of(masks, classes=2)
    assert list(find(split, propose([split])["train"])) == []


def test_feature_the_splits_of_one_rule_have_one_map():
    """A validation in which a class is absent must not be read by another rule."""
    greys = np.array([0, 128, 255], np.uint8)
    train = split_of([greys[mask] for mask in class_masks(3)])
    val = split_of([greys[mask] for mask in class_masks(2)], "val")
    other = split_of([mask + np.uint8(1) for mask in class_masks(2)], "test", classes=2)
    made = propose([train, val, other])
    assert made["train"] == made["val"] and made["val"].label_map == {"0": 0, "128": 1, "255": 2}
    assert made["test"].label_map == {"1": 0, "2": 1}


def test_feature_ids_that_a_config_ignores_are_known():
    masks = class_masks(3)
    masks[1][0] = 99
    assert propose([split_of(masks, ignore_index=99)])["train"].settled
    assert not propose([split_of(masks)])["train"].settled


def test_feature_what_a_training_refuses_is_an_error():
    """`check.py && train.py` stops at the first."""
    masks = [mask * np.uint8(255) for mask in class_masks(2)]
    for classes in (2, 3):
        split = split_of(masks, classes=classes)
        (finding,) = find_undecided_white([split])
        assert (finding.severity, finding.kind) == ("error", "binary-mask")
        assert '{"0": 0, "255": 1}' in finding.fix and "train_loader.args" in finding.fix
        assert list(find(split, propose([split])["train"])) == []
    named = split_of(masks, classes=2, ignore_index=255)
    assert list(find_undecided_white([named])) == []
    assert list(find(named, propose([named])["train"])) == []
    masks[1][0, 0] = 1
    with_one = split_of(masks, "val", classes=2)
    assert list(find_undecided_white([split, with_one])) == []


def test_feature_one_is_white_only_where_no_mask_holds_both():
    black_and_white = {0: 0, 255: 1}
    masks = [np.array([[0, 1]], np.uint8), np.array([[0, 255]], np.uint8)]
    split = split_of(masks, label_map=black_and_white)
    assert propose([split])["train"].label_map == {"0": 0, "1": 1, "255": 1}
    split = split_of([*masks, np.array([[0, 1, 255]], np.uint8)], label_map=black_and_white)
    assert propose([split])["train"].label_map is None


def test_feature_white_that_is_named_as_ignored_gets_no_map():
    masks = [np.array([[0, 255]], np.uint8)] * 3
    assert propose([split_of(masks, classes=2)])["train"].label_map == {"0": 0, "255": 1}
    assert propose([split_of(masks, classes=2, ignore_index=255)])["train"].label_map is None
