import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dataloaders
from tests.conftest import ROOT
from tests.utils.transforms.cases import FILL, away_from_edges, difference, make_image, make_label
from utils import transforms
from utils.config.build import split_args
from utils.config.file import parse_config
from utils.config.signatures import signature_of
from utils.files.data_file import DataError
from utils.transforms.augmentation import Augmentation
from utils.transforms.blur import blur
from utils.transforms.class_crops import class_numbers
from utils.transforms.geometry import Geometry
from utils.transforms.warp import warp

TRAINING = {
    "augment": True, "base_size": 64, "crop_size": 64, "flip": True, "rotate": True, "blur": True,
}  # fmt: skip
NAMES = ["sky", "road", "car", "person", "pole", "dog"]
CROPPED = {"augment": True, "base_size": 90, "crop_size": 64}
# Each new operation alone, as it would stand in a config.
NEW = {
    "vertical_flip": {"vertical_flip": True}, "rotate90": {"rotate90": True},
    "brightness": {"brightness": 0.4}, "contrast": {"contrast": 0.4},
    "saturation": {"saturation": 0.4}, "hue": {"hue": 0.2}, "cutout": {"cutout": 3},
    "max_class_ratio": {"max_class_ratio": 0.2}, "rare_classes": {"rare_classes": ["dog", 2]},
    "copy_paste": {"copy_paste": 0.7, "paste_classes": ["car"]}, "mosaic": {"mosaic": 0.7},
}  # fmt: skip
EVERYTHING = {key: value for args in NEW.values() for key, value in args.items()}
# A pipeline of Albumentations.
NOTHING = {"transform": {"__class_fullname__": "NoOp", "p": 1.0}}
COLOURS = {"brightness", "contrast", "saturation", "hue"}


class Partners:
    """Images of one kind; counts what is read."""

    def __init__(self, channels=3, dtype=np.uint8, label_dtype=np.uint8, count=5):
        self.kind, self.count, self.read = (channels, dtype, label_dtype), count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        channels, dtype, label_dtype = self.kind
        label = make_label(70 + 9 * index, 80, dtype=label_dtype, seed=index)
        return make_image(*label.shape, channels, dtype, index), label


def run(args, seed=0, image=None, label=None, partners=None, ignore_index=255, **more):
    image = make_image(90, 120) if image is None else image
    label = make_label(*image.shape[:2]) if label is None else label
    augmentation = Augmentation(**args, class_names=NAMES, channels=image.shape[2])
    return augmentation(
        image, label, np.random.default_rng(seed),
        ignore_index=ignore_index, fill=more.get("fill", 7), partners=partners or Partners(),
    )  # fmt: skip


class TestHardRule:
    """With the operations off that were added later, samples are those of the first version."""

    def test_feature_recorded_draws(self):
        """Truth: what the first version drew, written down then."""
        recorded = [
            (Geometry(436, 582, 380, 380, 2, 3, -5, False), 0.9127555772777217),
            (Geometry(380, 507, 380, 380, 0, 121, 9, True), 0.42332644897257565),
            (Geometry(268, 357, 380, 380, 0, 0, -4, False), 0.7285605268117946),
            (Geometry(188, 251, 380, 380, 0, 0, -6, True), 0.4331269402364738),
        ]
        image, label = make_image(375, 500), make_label(375, 500)
        args = {**TRAINING, "base_size": 400, "crop_size": 380}
        for seed, (geometry, sigma) in enumerate(recorded):
            rng = np.random.default_rng(seed)
            settings = {"ignore_index": 255, "fill": FILL}
            new_image, new_label = Augmentation(**args)(image, label, rng, **settings)
            expected_image, expected_label = warp(image, label, geometry, **settings)
            assert np.array_equal(new_image, blur(expected_image, sigma))
            assert np.array_equal(new_label, expected_label)
            after = np.random.default_rng(seed)
            after.random(6)
            assert rng.random() == after.random()
            assert rng.bit_generator.seed_seq.n_children_spawned == 0

    def test_feature_recorded_images(self):
        """Truth: the first version's crops, flips and padding, which no interpolation changes."""
        image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        label = np.random.default_rng(1).integers(0, 6, (60, 80), dtype=np.uint8)
        digest = hashlib.sha256()
        for seed in range(20):
            for size in (32, 70):
                args = {"augment": True, "crop_size": size, "flip": True}
                pair = run(args, seed, image, label, fill=(1, 2, 3))
                for array in pair:
                    digest.update(array.tobytes())
        expected = "29e690cf05c458e6a3df6e3331b2331ba50835adf608d6689f029849d6c3b8c3"
        assert digest.hexdigest() == expected

    @pytest.mark.parametrize("other", NEW)
    @pytest.mark.parametrize("name", sorted({*transforms.__all__} - {"Albumentations"}))
    def test_feature_no_operation_moves_the_draws_of_another(self, name, other, monkeypatch):
        """The generator that an operation gets is in the same state, whatever else is on."""
        cls = getattr(transforms, name)
        step = next(s for s in ("geometry", "pixels", "apply") if hasattr(cls, s))
        real = getattr(cls, step)
        args = {**TRAINING, **NEW.get(next(iter(signature_of(cls))), {})}

        def first_state(args, seed):
            states = []

            def spy(self, first, *rest):
                rng = next(r for r in (*rest, first) if isinstance(r, np.random.Generator))
                states.append(rng.bit_generator.state)
                return real(self, first, *rest)

            with monkeypatch.context() as patch:
                patch.setattr(cls, step, spy)
                run(args, seed)
            return states[0]  # further ones are of partners

        for seed in range(3):
            assert first_state(args, seed) == first_state({**NEW[other], **args}, seed)


class TestAugmentation:
    def test_smoke_signature_is_the_schema_of_the_loader_arguments(self):
        parameters = signature_of(Augmentation, transforms)
        assert {name: parameter.default for name, parameter in parameters.items()} == {
            "augment": False, "val": False, "base_size": None, "crop_size": None,
            "scale": True, "flip": False, "rotate": False, "blur": False,
            "vertical_flip": False, "rotate90": False, "brightness": 0.0, "contrast": 0.0,
            "saturation": 0.0, "hue": 0.0, "cutout": 0, "cutout_size": 0.25,
            "max_class_ratio": None, "rare_classes": None, "rare_share": 0.5, "copy_paste": 0.0,
            "paste_classes": None, "mosaic": 0.0, "albumentations": None,
            "class_names": (), "channels": 3,
        }  # fmt: skip
        with pytest.raises(TypeError, match="flop"):
            Augmentation(flop=True)

    @pytest.mark.parametrize(("dtype", "ignore_index"), [(np.uint8, 255), (np.int16, -1)])
    def test_feature_no_class_outside_the_image(self, dtype, ignore_index):
        """pytorch-segmentation wrote class 0 into a fifth of such labels."""
        image = np.full((48, 64, 3), 200, np.uint8)
        label = np.full((48, 64), 5, dtype)
        augmentation = Augmentation(**TRAINING)
        seen = set()
        for seed in range(200):
            rng = np.random.default_rng(seed)
            settings = {"ignore_index": ignore_index, "fill": 0}
            new_image, new_label = augmentation(image, label, rng, **settings)
            assert new_label.dtype == dtype
            seen |= set(np.unique(new_label).tolist())
            # Away from the edge, a pixel has its class exactly where it has its colour.
            inside = away_from_edges(new_label == 5)
            outside = away_from_edges(new_label != 5)
            assert (new_image[inside] >= 199).all()
            assert (new_image[outside] == 0).all()
        assert seen == {5, ignore_index}


class TestNewOperations:
    @pytest.mark.parametrize("name", NEW)
    def test_feature_image_and_label_stay_aligned(self, name):
        """Truth: every pixel has the colour of its class, in this image and in the partners.

        Colours are changed here with their class, so they are compared with each other.
        """
        colours = np.random.default_rng(1).permutation(256)[: 6 * 3].reshape(6, 3).astype(np.uint8)

        class Coloured(Partners):
            def __getitem__(self, index):
                _, label = super().__getitem__(index)
                return colours[label], label

        label = make_label(90, 120, block=15)
        if name == "copy_paste":  # no seam between two parts of one class
            label[label == 2] = 1
        args = {**CROPPED, "flip": True, "rotate": True, **NEW[name]}
        compared = 0
        for seed in range(12):
            sample = {"image": colours[label], "label": label, "fill": (3, 3, 3)}
            image, new_label = run(args, seed, partners=Coloured(), **sample)
            assert set(np.unique(new_label).tolist()) <= {*range(6), 255}
            for value in range(6):
                inside = away_from_edges(new_label == value)
                pixels = image[inside].astype(int)
                if name == "cutout":
                    pixels = pixels[(pixels != 3).any(axis=1)]
                if len(pixels):
                    expected = colours[value] if name not in COLOURS else np.median(pixels, 0)
                    # One level: bilinear weights are rounded; colours spread it.
                    assert np.abs(pixels - expected).max() <= (4 if name in COLOURS else 1)
                    compared += len(pixels)
        assert compared > 1000

    @pytest.mark.parametrize("name", NEW)
    def test_feature_it_does_something(self, name):
        pairs = [(run(CROPPED, s), run({**CROPPED, **NEW[name]}, s)) for s in range(8)]
        assert any(not np.array_equal(a[0], b[0]) for a, b in pairs)

    @pytest.mark.parametrize("args", [TRAINING, *NEW.values()])
    def test_feature_a_function_of_the_generator(self, args):
        args = {**CROPPED, **args}
        first, again = ([run(args, seed) for seed in range(20)] for _ in range(2))
        for one, other in zip(first, again, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert len({image.tobytes() for image, _ in first}) == 20

    @pytest.mark.parametrize("name", sorted(NEW.keys() - COLOURS))
    @pytest.mark.parametrize("channels", [1, 2, 4, 13])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
    def test_cardinality_channels_and_types(self, name, channels, dtype):
        image, label = make_image(90, 120, channels, dtype), make_label(90, 120, dtype=np.int16)
        partners = Partners(channels, dtype, np.int16)
        for seed in range(3):
            args = {**CROPPED, **NEW[name]}
            new_image, new_label = run(args, seed, image, label, partners, ignore_index=-1)
            assert new_image.shape == (64, 64, channels) and new_label.shape == (64, 64)
            assert new_image.dtype == dtype and new_label.dtype == np.int16
            assert set(np.unique(new_label).tolist()) <= {-1, *range(6)}

    def test_feature_arguments_stay_as_they_were(self):
        class ReadOnly(Partners):
            def __getitem__(self, index):
                pair = super().__getitem__(index)
                for array in pair:
                    array.flags.writeable = False
                return pair

        image, label = make_image(60, 80), make_label(60, 80)
        image.flags.writeable = label.flags.writeable = False
        for seed in range(10):
            run({**TRAINING, **EVERYTHING}, seed, image, label, ReadOnly())
            run({"augment": True, "cutout": 3, "hue": 0.2}, seed, image, label)

    def test_feature_nothing_without_augment(self):
        image, label = make_image(60, 80), make_label(60, 80)
        everything = {**TRAINING, **EVERYTHING, "crop_size": 20}
        pair = run({**everything, "augment": False}, 0, image, label)
        assert pair[0] is image and pair[1] is label
        ours = run({**everything, "val": True}, 0, image, label)
        theirs = run({"val": True, "crop_size": 20}, 0, image, label)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def test_feature_turned_images_keep_their_size(self):
        """Without crop_size a quarter turn swaps the sides, and copy_paste follows it."""
        args = {"augment": True, "rotate90": True, "copy_paste": 1.0, "paste_classes": [2]}
        shapes = {run(args, seed)[0].shape for seed in range(12)}
        assert shapes == {(90, 120, 3), (120, 90, 3)}

    def test_feature_mosaic_shows_four_images(self):
        """Truth: the images are plain, each of another value, so they can be counted."""

        class Plain(Partners):
            def __getitem__(self, index):
                return np.full((90, 90, 3), 50 + index, np.uint8), np.full((90, 90), 1, np.uint8)

        image, label = np.full((90, 90, 3), 200, np.uint8), np.zeros((90, 90), np.uint8)
        for seed in range(20):
            args = {"augment": True, "crop_size": 40, "mosaic": 1.0}
            new_image, new_label = run(args, seed, image, label, Plain(count=50))
            values = set(np.unique(new_image).tolist())
            # Two of three partners may be the same image.
            assert 200 in values and 2 <= len(values) <= 4
            assert np.array_equal(new_label == 0, new_image[..., 0] == 200)
        assert 255 in run({"augment": True, "crop_size": 300, "mosaic": 1.0})[1]  # in the gaps

    def test_feature_paste_looks_at_few_partners(self):
        partners = Partners(count=40)
        args = {"augment": True, "copy_paste": 1.0, "paste_classes": [77]}
        image, label = make_image(60, 80), make_label(60, 80)
        augmentation = Augmentation(**args)
        rng = np.random.default_rng(0)
        new = augmentation(image, label, rng, ignore_index=255, fill=0, partners=partners)
        assert len(partners.read) == 4 and np.array_equal(new[1], label)

    def test_exception_a_broken_partner_is_not_hidden(self):
        class Broken(Partners):
            def __getitem__(self, index):
                raise DataError("b.png: is cut off")

        with pytest.raises(DataError, match=r"b\.png: is cut off"):
            run({**CROPPED, "mosaic": 1.0}, partners=Broken())

    @pytest.mark.parametrize("args", [{"mosaic": 1.0}, {"copy_paste": 1.0, "paste_classes": [1]}])
    def test_exception_partners(self, args):
        image, label = make_image(60, 80), make_label(60, 80)
        with pytest.raises(DataError, match="there are none"):
            augmentation, rng = Augmentation(**CROPPED, **args), np.random.default_rng(0)
            augmentation(image, label, rng, ignore_index=255, fill=0)
        with pytest.raises(DataError, match="3 channels of type uint8, another .* 4 of type uint8"):
            run({**CROPPED, **args}, partners=Partners(channels=4))

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"mosaic": 0.5}, "mosaic: needs crop_size"),
            ({"mosaic": 0.5, "crop_size": 1}, "crop_size of at least 2"),
            ({"rare_classes": ["dog"]}, "rare_classes: needs crop_size"),
            ({"max_class_ratio": 0.5}, "max_class_ratio: needs crop_size"),
            ({"copy_paste": 0.5}, "copy_paste: .*paste_classes"),
            ({"paste_classes": ["dog"]}, "paste_classes: needs copy_paste"),
            ({"hue": 0.1, "channels": 13}, "hue: .*13 channels"),
            ({"contrast": 0.1, "hue": 0.1, "channels": 1}, "contrast, hue: .* 1 channel;"),
            (
                {"albumentations": {}, "crop_size": 9, "hue": 0.1},
                "albumentations: .*crop_size, hue",
            ),
        ],
    )
    @pytest.mark.parametrize("augment", [False, True])
    def test_exception_contradictions(self, args, message, augment):
        with pytest.raises(ValueError, match=message):
            Augmentation(**{"class_names": NAMES, "augment": augment, **args})

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"mosaic": 0.5, "brightness": 0.1, "base_size": 20, "crop_size": 9, "flip": True},
             'base_size, crop_size, flip, mosaic, brightness: have no effect without "augment"'),
            ({"cutout_size": 0.1}, 'cutout_size: has no effect without "augment": true'),
            ({"albumentations": NOTHING}, 'albumentations: has no effect without "augment": true'),
            ({"val": True, "augment": True, "crop_size": 9, "flip": True, "rare_share": 0.1},
             'augment, flip, rare_share: have no effect beside "val": true'),
            ({"augment": True, "cutout_size": 0.1}, "cutout_size: has no effect without cutout"),
            ({"augment": True, "cutout_size": 0.1, "rare_share": 0, "hue": 0.1},
             "rare_share, cutout_size: have no effect without rare_classes and cutout"),
            ({"augment": True, "rare_share": 0.1, "max_class_ratio": 0.5, "crop_size": 9},
             "rare_share: has no effect without rare_classes"),
            ({"augment": True, "albumentations": NOTHING, "cutout_size": 0.1}, "cutout_size: has"),
        ],
    )  # fmt: skip
    def test_feature_warns_of_what_has_no_effect(self, args, message, caplog):
        if "albumentations" in args:
            pytest.importorskip("albumentations")
        Augmentation(class_names=NAMES, **args)
        (record,) = caplog.records
        assert record.levelname == "WARNING" and record.getMessage().startswith(message)

    @pytest.mark.parametrize(
        "args",
        [
            {}, {"scale": False}, {"val": True}, {"val": True, "crop_size": 24},
            {"val": True, "base_size": 20, "crop_size": 9}, {"augment": True},
            {"augment": True, "base_size": 40}, {"augment": True, "base_size": 40, "scale": False},
            {"augment": True, "crop_size": 24}, {"augment": True, "flip": True},
            {"augment": True, "rotate": True}, {"augment": True, "blur": True}, TRAINING,
            {**CROPPED, "cutout": 2, "cutout_size": 0.1},
            {**CROPPED, "rare_classes": ["dog"], "rare_share": 0.1},
            *({**CROPPED, **args} for args in NEW.values()),
        ],
    )  # fmt: skip
    def test_smoke_without_a_warning(self, args, caplog):
        image, label = run(args, image=make_image(33, 47))
        assert image.shape[:2] == label.shape
        assert image.dtype == np.uint8 and label.dtype == np.uint8
        assert not caplog.records

    @pytest.mark.parametrize(
        "path",
        [ROOT / "config.json", ROOT / "tests/ancestor_config.jsonc", *ROOT.glob("configs/*.json")],
        ids=lambda path: path.name,
    )
    def test_feature_no_warning_for_the_configs_that_come_along(self, path, caplog):
        tree = parse_config(path)
        for section in tree.keys() & {"train_loader", "val_loader", "test_loader"}:
            args = tree[section]["args"]
            names = args.get("classes") or getattr(dataloaders, tree[section]["type"]).classes
            switches, settings = split_args(args, Augmentation, transforms)
            Augmentation(class_names=names, **switches, **settings)
        assert not caplog.records

    def test_exception_colours_of_other_types(self):
        with pytest.raises(DataError, match="hue: .*uint16"):
            run({"augment": True, "hue": 0.1}, image=make_image(20, 20, 3, np.uint16))

    def test_feature_class_numbers(self):
        assert class_numbers(["dog", 2, "dog"], NAMES, "x") == (5, 2)
        assert class_numbers([7], (), "x") == (7,)
        assert class_numbers(None, NAMES, "x") == ()

    @pytest.mark.parametrize(
        ("classes", "names", "message"),
        [
            (["dgo"], NAMES, "x: there is no class named 'dgo'; did you mean 'dog'"),
            (["whale"], NAMES, "'whale'; choose from sky, road"),
            (["dog"], (), "'dog'; give its number"),
            ([6], NAMES, r"x: 6 is no class \(0\.\.5\)"),
            ([-1], (), "-1 is no class"),
        ],
    )
    def test_exception_class_numbers(self, classes, names, message):
        with pytest.raises(ValueError, match=message):
            class_numbers(classes, names, "x")

    def test_feature_real_images(self, real_data):
        """The label, carried along as a fourth channel, stays the label."""
        folder = real_data / "camvid"
        files = sorted((folder / "train").iterdir())[:60:12]

        class Files(Partners):
            def __getitem__(self, index):
                image = cv2.imread(str(files[index]))
                label = cv2.imread(str(folder / "trainannot" / f"{files[index].stem}.png"), -1)
                # The class in a channel of the image itself.
                return np.dstack([image, label * 20]), np.where(label == 11, 255, label)

        partners = Files(count=len(files))
        image, label = partners[0]
        args = {"augment": True, "base_size": 480, "crop_size": 320, "flip": True, "rotate": True,
                "rotate90": True, "vertical_flip": True, "max_class_ratio": 0.5,
                "rare_classes": [9, 10], "copy_paste": 0.5, "mosaic": 0.5}  # fmt: skip
        for seed in range(8):
            new_image, new_label = Augmentation(**args)(
                image, label, np.random.default_rng(seed),
                ignore_index=255, fill=0, partners=partners,
            )  # fmt: skip
            for value in np.unique(new_label[new_label != 255]):
                inside = away_from_edges(new_label == value)
                near = difference(new_image[inside][:, 3], np.float64(20 * int(value))) <= 1
                # All but the outlines of what was pasted over its own class.
                assert not near.size or near.mean() > 0.998


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    crop_size=st.integers(2, 50),
    names=st.sets(st.sampled_from(sorted(NEW)), min_size=1),
    seed=st.integers(0, 2**32),
)
def test_feature_any_size_and_combination(height, width, crop_size, names, seed):
    """Right size, and no label that was not there."""
    args = {key: value for name in names for key, value in NEW[name].items()}
    args = {"augment": True, "flip": True, "rotate": True, "crop_size": crop_size, **args}
    image = make_image(height, width)
    label = np.full((height, width), 4, np.uint8)

    class Small(Partners):
        def __getitem__(self, index):
            return make_image(3 + index, 9), np.full((3 + index, 9), 2, np.uint8)

    new_image, new_label = run(args, seed, image, label, Small())
    assert new_image.shape == (crop_size, crop_size, 3)
    assert set(np.unique(new_label).tolist()) <= {2, 4, 255}
