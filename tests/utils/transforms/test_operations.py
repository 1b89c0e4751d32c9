"""The contract of all operations, and that a new one needs no more than its name."""

import inspect
import re

import numpy as np
import pytest

from builders.data import build_loader
from builders.sections import SECTIONS
from tests.utils.config.test_check_config import check, minimal
from tests.utils.transforms.cases import make_image, make_label
from utils import transforms
from utils.config.build import with_defaults
from utils.config.errors import ConfigError
from utils.config.signatures import signature_of
from utils.transforms.base import (
    GeometryOperation,
    Operation,
    PixelOperation,
    Probability,
    SampleOperation,
    Streams,
    TrainingSample,
)

# The samples of a seed depend on these numbers.
STREAMS = {
    "Scale": None, "Rotate": None, "Crop": None, "Flip": None, "Albumentations": None, "Blur": None,
    "Turns": 0, "ClassCrop": 1, "Mosaic": 2, "CopyPaste": 3, "ColourJitter": 4, "Cutout": 5,
}  # fmt: skip


class TestContract:
    def test_feature_streams(self):
        found = {name: getattr(transforms, name).stream for name in transforms.__all__}
        assert {name: found[name] for name in STREAMS} == STREAMS
        numbers = [number for number in found.values() if number is not None]
        assert len(set(numbers)) == len(numbers)

    @pytest.mark.parametrize("name", transforms.__all__)
    def test_smoke(self, name):
        cls = getattr(transforms, name)
        assert issubclass(cls, (GeometryOperation, SampleOperation)) and inspect.getdoc(cls)
        parameters = inspect.signature(cls).parameters.values()
        documentation = cls.__doc__
        for parameter in parameters:
            assert parameter.kind is parameter.KEYWORD_ONLY, parameter
            assert re.search(rf"^ +{parameter.name}: ", documentation, re.M), parameter
        # Those without a stream of their own draw in turn, so they always take part.
        assert cls().active == (issubclass(cls, GeometryOperation) and cls.stream is None)

    def test_feature_a_setting_means_one_thing(self):
        """Two operations that take the same setting declare it alike."""
        taken = {}
        for name in transforms.__all__:
            for key, parameter in signature_of(getattr(transforms, name)).items():
                assert taken.setdefault(key, parameter) == parameter

    def test_feature_combinations_name_settings(self):
        schema = signature_of(transforms)
        for name in transforms.__all__:
            cls = getattr(transforms, name)
            assert {*cls.requires, *cls.refines} <= {*signature_of(cls)}, name
            assert {*cls.requires.values(), *cls.refines.values()} <= schema.keys(), name

    def test_feature_a_stream_is_the_same_however_many_are_used(self):
        """Truth: NumPy's spawn, all streams at once."""

        def operation(number):
            return type("Numbered", (Operation,), {"stream": number})()

        expected = [rng.random() for rng in np.random.default_rng(3).spawn(6)]
        for numbers in ([5, 0, 2], [2], [0, 1, 4, 5], [3, 3]):
            streams = Streams(np.random.default_rng(3))
            generators = {number: streams.of(operation(number)) for number in numbers}
            for number, rng in generators.items():
                assert rng.random() == expected[number]
            assert streams.of(operation(None)).random() == np.random.default_rng(3).random()

    def test_feature_partners_have_streams_of_their_own(self):
        label = make_label(8, 9)
        image, streams = make_image(8, 9), Streams(np.random.default_rng(0))
        sample = TrainingSample(image, label, streams, (), 255, 0)
        rng = np.random.default_rng(1)
        partners = [sample.partner((sample.image, label), rng, (3, 4)) for _ in range(3)]
        kinds = [type("Numbered", (Operation,), {"stream": n})() for n in (None, 0, 1, 2, 7)]
        drawn = [p.streams.of(kind).random() for p in (sample, *partners) for kind in kinds]
        assert len(set(drawn)) == len(drawn)


class Invert(PixelOperation):
    """Turn the values of 8-bit images over.

    Args:
        invert: Probability of doing so.
    """

    stream = 6

    def __init__(self, *, invert: Probability = 0.0) -> None:
        self.invert = invert

    @property
    def active(self) -> bool:
        return self.invert > 0

    def pixels(self, image, rng, fill):
        return 255 - image if rng.random() < self.invert else image


class Squeeze(GeometryOperation):
    """Halve the width of the image.

    Args:
        squeeze: Do so.
    """

    stream = 7

    def __init__(self, *, squeeze: bool = False) -> None:
        self.squeeze = squeeze

    @property
    def active(self) -> bool:
        return self.squeeze

    def geometry(self, geometry, rng, sample):
        width = geometry.scaled_width // 2
        return geometry._replace(scaled_width=width, width=width)


class TestNewOperation:
    """A class and its name in `__all__` are all that it takes, config keys included."""

    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch):
        monkeypatch.setattr(transforms, "Invert", Invert, raising=False)
        monkeypatch.setattr(transforms, "Squeeze", Squeeze, raising=False)
        names = ["Scale", "Squeeze", *transforms.__all__[1:], "Invert"]
        monkeypatch.setattr(transforms, "__all__", names)

    def config(self, **settings):
        tree = minimal()
        args = tree["train_loader"].setdefault("args", {})
        args |= {"augment": True, "flip": True, "rotate": True, "brightness": 0.3, **settings}
        return check(tree)

    def sample(self, **settings):
        loader = build_loader(self.config(**settings), "train_loader", training=True)
        return loader.samples.sample(1, 2)

    def test_feature_it_is_applied_and_moves_no_other_draw(self):
        plain = self.sample()
        inverted = self.sample(invert=1.0)
        assert np.array_equal(inverted.image, 255 - plain.image)
        assert np.array_equal(inverted.label, plain.label)
        height, width = plain.label.shape
        assert self.sample(squeeze=True).label.shape == (height, width // 2)
        cropped = [self.sample(crop_size=20, mosaic=1.0, squeeze=on) for on in (False, True)]
        assert cropped[0].label.shape == cropped[1].label.shape == (20, 20)
        assert not np.array_equal(cropped[0].label, cropped[1].label)

    def test_feature_its_settings_are_config_keys(self, caplog):
        shown = with_defaults(self.config(), SECTIONS)["train_loader"]["args"]
        assert (shown["invert"], shown["squeeze"]) == (0.0, False)
        self.sample(augment=False, flip=False, rotate=False, brightness=0.0, invert=0.5)
        assert "invert: has no effect" in caplog.text

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"invert": 2}, "train_loader.args.invert: .*2"),
            ({"invret": 0.5}, "train_loader.args.invret: .*did you mean 'invert'"),
            ({"squeeze": 0.5}, "train_loader.args.squeeze: .*0.5"),
        ],
    )
    def test_exception_settings(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            self.config(**settings)
