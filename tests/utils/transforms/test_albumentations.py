import hashlib
import inspect
import json
import os
import pickle
import re
import signal
import sys

import numpy as np
import pytest

import train
from tests.conftest import run_code
from tests.training_runs import assert_same, small_config
from tests.training_runs import run as train_run
from tests.utils.transforms.cases import away_from_edges, make_image, make_label
from trainer import Trainer
from utils.checkpoint.save_load import load_checkpoint
from utils.config.errors import ConfigError
from utils.config.file import include_pipelines
from utils.files.data_file import DataError
from utils.transforms.albumentations_pipeline import REFUSED, AlbumentationsPipeline
from utils.transforms.augmentation import Augmentation

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
A = pytest.importorskip("albumentations")


def node(name, p=1.0, **args):
    return {"__class_fullname__": name, "p": p, **args}


def pipeline(*nodes, **args):
    """What a config would hold."""
    return {"__version__": "2.0.8", "transform": node("Compose", transforms=list(nodes), **args)}


def plain(*transforms):
    """What `to_dict` writes, by way of JSON as in a config."""
    return json.loads(json.dumps(A.to_dict(A.Compose(transforms))))


MIXED = [
    A.RandomCrop(height=48, width=48, p=1.0, pad_if_needed=True),
    A.HorizontalFlip(p=0.5),
    A.OneOf([A.Affine(rotate=(-40, 40), p=1.0), A.ElasticTransform(alpha=30, p=1.0)], p=0.8),
    A.CoarseDropout(p=0.5),
]

# Each on its own; what asks for sizes gets them. Those of colour alone are in COLOURS.
GEOMETRY = [
    A.Affine(rotate=(-40, 40), shear=(-9, 9), p=1.0),
    A.CenterCrop(height=90, width=90, pad_if_needed=True, p=1.0), A.CropAndPad(px=(-5, 9), p=1.0),
    A.CropNonEmptyMaskIfExists(height=20, width=20, p=1.0), A.D4(p=1.0),
    A.ElasticTransform(alpha=30, p=1.0), A.GridDistortion(p=1.0), A.GridDropout(fill_mask=0, p=1.0),
    A.LongestMaxSize(max_size=50, p=1.0), A.MaskDropout(fill_mask=0, p=1.0),
    A.OpticalDistortion(p=1.0), A.PadIfNeeded(min_height=90, min_width=99, p=1.0),
    A.Perspective(p=1.0), A.RandomGridShuffle(p=1.0), A.RandomResizedCrop(size=(32, 32), p=1.0),
    A.RandomRotate90(p=1.0), A.RandomScale(p=1.0), A.Rotate(p=1.0), A.SafeRotate(p=1.0),
    A.ShiftScaleRotate(p=1.0), A.ThinPlateSpline(p=1.0), A.Transpose(p=1.0),
    A.XYMasking(num_masks_x=2, mask_x_length=9, fill_mask=0, p=1.0),
]  # fmt: skip
COLOURS = [
    A.RandomBrightnessContrast(p=1.0), A.HueSaturationValue(p=1.0), A.RGBShift(p=1.0),
    A.MedianBlur(p=1.0), A.GaussNoise(p=1.0), A.RandomGamma(p=1.0), A.PixelDropout(p=1.0),
]  # fmt: skip

# What takes area_for_downscale, with what else it needs.
DOWNSCALING = {
    "LongestMaxSize": {"max_size": 20}, "RandomResizedCrop": {"size": [20, 20]}, "RandomScale": {},
    "RandomSizedCrop": {"min_max_height": [40, 60], "size": [20, 20]},
    "Resize": {"height": 20, "width": 20}, "SmallestMaxSize": {"max_size": 20},
}  # fmt: skip


def run(source, seed=0, image=None, label=None, ignore_index=255):
    image = make_image(60, 80) if image is None else image
    label = make_label(60, 80) if label is None else label
    made = source if isinstance(source, AlbumentationsPipeline) else AlbumentationsPipeline(source)
    return made(image, label, np.random.default_rng(seed), ignore_index=ignore_index)


def digest(pair):
    return hashlib.sha256(pair[0].tobytes() + pair[1].tobytes()).hexdigest()


class TestLabels:
    @pytest.mark.parametrize("transform", GEOMETRY, ids=lambda t: type(t).__name__)
    @pytest.mark.parametrize(
        ("channels", "dtype", "label_dtype", "ignored"),
        [(3, np.uint8, np.uint8, 255), (5, np.float32, np.int16, -1)],
    )
    def test_feature_no_label_is_invented(self, transform, channels, dtype, label_dtype, ignored):
        image = (make_image(60, 80, channels, np.float32) / 255).astype(np.float32)
        image = (image * 255).astype(np.uint8) if dtype == np.uint8 else image
        label = 3 + make_label(60, 80, classes=5, block=15, dtype=label_dtype)
        image.flags.writeable = label.flags.writeable = False
        made = AlbumentationsPipeline(plain(transform))
        for seed in range(3):
            new_image, new_label = run(made, seed, image, label, ignored)
            assert new_image.dtype == dtype and new_label.dtype == label_dtype
            assert new_image.shape == (*new_label.shape, channels)
            assert set(np.unique(new_label).tolist()) <= {*range(3, 8), ignored}

    @pytest.mark.parametrize("transform", COLOURS, ids=lambda t: type(t).__name__)
    def test_feature_colours_leave_the_label(self, transform):
        label = make_label(60, 80)
        image, new_label = run(plain(transform), 1, label=label)
        assert np.array_equal(new_label, label) and not np.array_equal(image, make_image(60, 80))

    @pytest.mark.parametrize(
        "transforms", [MIXED[:3], *([t] for t in GEOMETRY)], ids=lambda ts: type(ts[-1]).__name__
    )
    def test_feature_image_and_label_stay_aligned(self, transforms):
        """Truth: every pixel has the colour of its class."""
        colours = np.array([[10, 200, 90], [250, 3, 40], [60, 60, 60], [5, 99, 250]], np.uint8)
        label = make_label(90, 120, classes=4, block=20)
        made = AlbumentationsPipeline(plain(*transforms))
        compared = wrong = 0
        for seed in range(20):
            image, new_label = run(made, seed, colours[label], label)
            for value in range(4):
                inside = away_from_edges(new_label == value)
                wrong += int((np.abs(image[inside].astype(int) - colours[value]) > 2).any(1).sum())
                compared += int(inside.sum())
        # A thin-plate spline folds the image here and there.
        assert compared > 500 and wrong <= 0.002 * compared

    @pytest.mark.parametrize("ignore_index", [255, -1])
    def test_exception_an_invented_label(self, monkeypatch, ignore_index):
        """The net: what averages labels has passed the constructor."""
        module = "utils.transforms.albumentations_pipeline"
        monkeypatch.setattr(f"{module}._Builder._check", lambda *_: None)
        label = np.where(make_label(60, 80, classes=2, block=7) == 0, 3, 9)
        label[:2] = ignore_index
        label = label.astype(np.uint8 if ignore_index == 255 else np.int16)
        for area in ("image", "image_mask"):
            resize = A.Resize(20, 20, area_for_downscale=area, p=1.0)
            made = AlbumentationsPipeline(plain(A.HorizontalFlip(p=1.0), resize))
            if area == "image":
                _, new_label = run(made, 0, None, label, ignore_index)
                assert set(np.unique(new_label)) <= {3, 9, ignore_index}
        with pytest.raises(DataError, match=r"\(HorizontalFlip, Resize\): .*\[\d"):
            run(made, 0, None, label, ignore_index)


class TestSeeding:
    def test_feature_a_function_of_the_generator(self):
        made, other = AlbumentationsPipeline(plain(*MIXED)), AlbumentationsPipeline(plain(*MIXED))
        first = [digest(run(made, seed)) for seed in range(6)]
        assert len(set(first)) == 6
        # Another object, another order, other global generators, and a copy as a worker gets it.
        np.random.seed(5)
        assert [digest(run(other, seed)) for seed in reversed(range(6))] == first[::-1]
        copy = pickle.loads(pickle.dumps(made))
        assert [digest(run(copy, seed)) for seed in range(6)] == first

    @pytest.mark.slow
    def test_feature_another_process(self):
        code = (
            "import hashlib, json, sys, numpy as np\n"
            "from utils.transforms.albumentations_pipeline import AlbumentationsPipeline\n"
            "made = AlbumentationsPipeline(json.loads(sys.argv[1]))\n"
            "image = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)\n"
            "pair = made(image, image[..., 0] % 7, np.random.default_rng(3), ignore_index=255)\n"
            "print(hashlib.sha256(pair[0].tobytes() + pair[1].tobytes()).hexdigest())"
        )
        source = plain(*MIXED)
        result = run_code(code, json.dumps(source))
        image = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
        assert result.stdout.strip() == digest(run(source, 3, image, image[..., 0] % 7))

    def test_feature_transforms_draw_apart(self):
        """Two transforms of one kind do not do the same: with one seed each they would."""
        made = AlbumentationsPipeline(plain(A.HorizontalFlip(p=0.5), A.HorizontalFlip(p=0.5)))
        image = make_image(60, 80)
        flipped = [not np.array_equal(run(made, seed)[0], image) for seed in range(60)]
        assert 15 < sum(flipped) < 45


class TestSources:
    def test_feature_equals_albumentations(self):
        """Truth: the library's own flip and turn."""
        image, label = run(plain(A.VerticalFlip(p=1.0), A.Transpose(p=1.0)))
        assert np.array_equal(image, make_image(60, 80)[::-1].transpose(1, 0, 2))
        assert np.array_equal(label, make_label(60, 80)[::-1].T)

    @pytest.mark.parametrize("data_format", ["json", "yaml"])
    def test_feature_saved_files(self, data_format, tmp_path):
        path = tmp_path / f"pipeline.{data_format}"
        A.save(A.Compose(MIXED), path, data_format=data_format)
        for seed in range(3):
            assert digest(run(str(path), seed)) == digest(run(plain(*MIXED), seed))

    def test_feature_what_to_dict_writes_is_taken(self):
        """Some constructors do not take all that their own `to_dict` writes."""
        selective = node("SelectiveChannelTransform", channels=[0, 2], transforms=[node("Blur")])
        some = node("SomeOf", n=1, replace=False, transforms=[node("HorizontalFlip", 0.5)])
        AlbumentationsPipeline(pipeline(selective, some))

    def test_feature_one_transform_alone(self):
        image, _ = run({"transform": node("HorizontalFlip")})
        assert np.array_equal(image, make_image(60, 80)[:, ::-1])

    def test_smoke_in_the_augmentation(self):
        augmentation = Augmentation(augment=True, albumentations=plain(*MIXED))
        image, label = make_image(60, 80), make_label(60, 80)
        rng, settings = np.random.default_rng(1), {"ignore_index": 255, "fill": 0}
        new_image, new_label = augmentation(image, label, rng, **settings)
        expected = run(plain(*MIXED), 1)
        assert np.array_equal(new_image, expected[0]) and np.array_equal(new_label, expected[1])
        off = Augmentation(albumentations=plain(*MIXED))
        assert off(image, label, np.random.default_rng(1), ignore_index=255, fill=0)[0] is image


class TestMistakes:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ({}, r'expected \{"transform": ...\}'),
            ({"transform": 3}, r'expected \{"transform": ...\}'),
            (pipeline(), r"transform \(Compose\): \"transforms\" has to be a list"),
            (pipeline(3), r"transforms\.0: expected .*, not 3"),
            (pipeline(node("HorizontalFlp")), "no transform 'HorizontalFlp'; did you mean 'Horiz"),
            (pipeline(node("DualTransform")), "no transform 'DualTransform'"),
            (pipeline(node("os.system")), "no transform 'os.system'"),
            (pipeline(node("HorizontalFlip", p=2)), r"\(HorizontalFlip\): p: Input should be less"),
            (pipeline(node("HorizontalFlip", q=2)), r"\(HorizontalFlip\): takes no 'q'"),
            (pipeline(node("Affine", scael=1)), r"\(Affine\): takes no 'scael'; did you mean 'sc"),
            (pipeline(node("SafeRotate", rotate=[1, 2])), r"\(SafeRotate\): takes no 'rotate'"),
            (pipeline(node("RandomCrop", height=9)), r"\(RandomCrop\): width: Field required"),
            (pipeline({"__class_fullname__": "Blur"}), r"\(Blur\): \"p\" is missing"),
            (pipeline(node("Blur"), sead=1), r"\(Compose\): takes no 'sead'"),
            (pipeline(node("Blur"), mask_interpolation=1), "takes no 'mask_interpolation'"),
            (pipeline(node("Blur"), additional_targets={"mask": "image"}), "additional_targets"),
            (pipeline(node("Blur"), bbox_params={"format": "coco"}), "bbox_params cannot be used"),
            (pipeline(node("Resize", height=9, width=9, mask_interpolation=1)), "would invent lab"),
            *((pipeline(node(name, area_for_downscale="image_mask", **args)),
               rf"\({name}\): area_for_downscale \"image_mask\" would average labels; use")
              for name, args in DOWNSCALING.items()),
            (pipeline(node("Morphological")), "Morphological cannot be used"),
            (pipeline(node("PixelDropout", mask_drop_value=0)), "mask_drop_value"),
            (pipeline(node("Mosaic")), "needs mosaic_metadata"),
            (pipeline(node("Pad3D", padding=1)), "needs volumes"),
            (pipeline(node("SelectiveChannelTransform", transforms=[node("HorizontalFlip")])),
             "SelectiveChannelTransform"),
            (pipeline(node("OneOf", transforms=[node("Blur", p=0)])), r"\(OneOf\): float division"),
            ("nothing.json", "nothing.json: no such file"),
        ],
    )  # fmt: skip
    def test_exception_with_the_name(self, source, message):
        with pytest.raises(ValueError, match=message):
            AlbumentationsPipeline(source)

    def test_feature_downscaling_of_images_alone(self):
        for name, args in DOWNSCALING.items():
            source = pipeline(node(name, area_for_downscale="image", **args))
            assert set(np.unique(run(source)[1])) <= set(np.unique(make_label(60, 80)))

    @pytest.mark.parametrize("name", REFUSED)
    @pytest.mark.parametrize("prefix", ["", "albumentations.some.module."])
    def test_exception_refused(self, name, prefix):
        with pytest.raises(ValueError, match=f"{name} cannot be used: "):
            AlbumentationsPipeline(pipeline(node(prefix + name)))

    def test_exception_all_at_once(self):
        bad = pipeline(node("Nope"), node("OneOf", transforms=[node("Normalize"), node("Blr")]))
        with pytest.raises(ConfigError) as caught:
            AlbumentationsPipeline(bad)
        assert len(caught.value.problems) == 3

    def test_exception_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "albumentations", None)
        with pytest.raises(ValueError, match=r"not installed; pip install albumentations==2\.0\.8"):
            AlbumentationsPipeline(plain(A.HorizontalFlip(p=1.0)))

    def test_exception_another_version(self, monkeypatch):
        monkeypatch.delattr(A.core.composition.BaseCompose, "set_random_state")
        with pytest.raises(ValueError, match="cannot be seeded .*pip install"):
            AlbumentationsPipeline(pipeline(node("Blur")))

    def test_exception_images(self):
        with pytest.raises(DataError, match="uint8 or float32, not uint16"):
            run(pipeline(node("HorizontalFlip")), image=make_image(60, 80, 3, np.uint16))
        large = make_image(60, 80, 2, np.float32)
        with pytest.raises(DataError, match="float images to 0..1"):
            run(pipeline(node("RandomBrightnessContrast")), image=large)
        assert np.array_equal(run(pipeline(node("VerticalFlip")), image=large)[0], large[::-1])
        with pytest.raises(DataError, match=r"uint8, and is .*3\), uint8"):
            run(pipeline(node("ToRGB")), image=make_image(60, 80, 1))
        with pytest.raises(DataError, match="albumentations: .*[Cc]rop"):
            run(pipeline(node("RandomCrop", height=99, width=99)))


def test_feature_a_resumed_run_keeps_its_pipeline(tmp_path, monkeypatch):
    """Truth: a run that was not interrupted, bit for bit, though the file has changed since."""
    path = tmp_path / "pipeline.json"
    path.write_text(json.dumps(plain(A.Rotate(p=1.0), A.CoarseDropout(p=0.5))))

    def tree(folder):
        tree = small_config(tmp_path / folder, epochs=2)
        args = tree["train_loader"]["args"]
        del args["flip"], args["rotate"]
        args.update(num_images=6, albumentations=str(path))
        (tmp_path / folder).mkdir(exist_ok=True)
        return tree

    def killed(self, epoch):
        if epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return train_epoch(self, epoch)

    _, whole = train_run(tmp_path / "whole", tree("whole"))
    train_epoch = Trainer.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", killed)
        code, folder = train_run(tmp_path / "cut", tree("cut"))
    assert code == 130
    # The same file, so the same config.
    loader = load_checkpoint(folder / "last.pth")["config"]["train_loader"]
    assert "albumentations" in loader["args"]
    path.write_text(json.dumps(plain(A.VerticalFlip(p=1.0))))
    code, _ = train_run(tmp_path / "cut", tree("cut"), "--resume", "auto")
    assert code == 2  # --config names another pipeline now
    path.unlink()
    assert train.main(["--resume", str(folder), "--device", "cpu"]) == 0
    one, other = load_checkpoint(whole / "last.pth"), load_checkpoint(folder / "last.pth")
    stored = json.loads((folder / "config.json").read_text())
    assert one["config"]["train_loader"] == other["config"]["train_loader"]
    assert stored["train_loader"] == one["config"]["train_loader"]
    del one["config"], other["config"]
    assert_same(one, other)


def test_feature_files_become_part_of_the_tree(tmp_path):
    path = tmp_path / "pipeline.yaml"
    A.save(A.Compose(MIXED), path, data_format="yaml")
    args = {"batch_size": 2, "albumentations": str(path)}
    tree = {
        "name": "x",
        "train_loader": {"type": "VOC", "args": args},
        "val_loader": {"type": "VOC", "args": {"albumentations": {"transform": 1}}},
        "test_loader": {"type": "VOC", "args": args},
    }
    before = json.dumps(tree)
    result = include_pipelines(tree)
    assert result["test_loader"] == result["train_loader"]
    assert result["train_loader"]["args"] == {"batch_size": 2, "albumentations": plain(*MIXED)}
    assert json.dumps(tree) == before and result["val_loader"] == tree["val_loader"]
    assert include_pipelines(result) == result
    for odd in ({}, {"train_loader": 3}, {"train_loader": {"args": [1]}}, {"train_loader": {}}):
        assert include_pipelines(odd) == odd
    args["albumentations"] = str(tmp_path / "pipelin.yaml")
    with pytest.raises(ConfigError, match="no such file; did you mean 'pipeline.yaml'"):
        include_pipelines(tree)


def test_feature_the_library_is_imported_only_where_it_is_needed():
    code = "import sys, utils.transforms.augmentation; print('albumentations' in sys.modules)"
    result = run_code(code)
    assert result.stdout.strip() == "False", result.stderr


# What version 1.4 wrote -> what 2.0.8 takes for it, by its documentation.
RENAMED = [
    ("RandomResizedCrop", {"height": 32, "width": 24}, {"size": [32, 24]}),
    ("RandomSizedCrop", {"min_max_height": [9, 20], "height": 8, "width": 9}, {"size": [8, 9]}),
    ("GaussNoise", {"var_limit": [10.0, 50.0]}, {"std_range": [0.0124, 0.0277]}),
    ("CoarseDropout", {"max_holes": 8, "min_holes": 2, "max_height": 9, "min_height": None,
                       "max_width": 7, "min_width": 3, "fill_value": 0, "mask_fill_value": None},
     {"num_holes_range": [2, 8], "hole_height_range": [9, 9], "hole_width_range": [3, 7],
      "fill": 0}),
    ("ImageCompression", {"quality_lower": 50, "quality_upper": 90}, {"quality_range": [50, 90]}),
    ("Downscale", {"scale_min": 0.2, "scale_max": 0.5}, {"scale_range": [0.2, 0.5]}),
    ("ShiftScaleRotate", {"value": [1, 2, 3], "mask_value": 255},
     {"fill": [1, 2, 3], "fill_mask": 255}),
    ("Affine", {"cval": 7, "cval_mask": 0, "mode": 0},
     {"fill": 7, "fill_mask": 0, "border_mode": 0}),
    ("Perspective", {"pad_mode": 0, "pad_val": 5}, {"border_mode": 0, "fill": 5}),
    ("GridDropout", {"unit_size_min": 2, "unit_size_max": 4, "fill_value": 0},
     {"unit_size_range": [2, 4], "fill": 0}),
    ("Solarize", {"threshold": 51}, {"threshold_range": [0.2, 0.2]}),
    ("RandomFog", {"fog_coef_lower": 0.1, "fog_coef_upper": 0.3}, {"fog_coef_range": [0.1, 0.3]}),
    ("PadIfNeeded", {"min_height": 9, "min_width": 9, "value": 0}, {"fill": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new"), RENAMED, ids=[case[0] for case in RENAMED])
def test_exception_arguments_of_version_1(name, old, new):
    """The message has each new argument as it is to be written, and the library takes that."""
    source = pipeline(node(name, **old))
    source["__version__"] = "1.4.3"
    message = message_of(source)
    assert "1.4.3" in message and "Albumentations 2" in message
    assert f"transform (Compose).transforms.0 ({name})" in message
    taken = inspect.signature(getattr(A, name)).parameters
    for key, value in new.items():
        assert f"{json.dumps(key)}: {json.dumps(value)}" in message
    for key in set(old) - set(taken):
        assert repr(key) in message
    assert len(message.splitlines()) == 2 + len(new) + sum(v is None for k, v in old.items()
                                                          if k.startswith("mask"))  # fmt: skip
    kept = {key: value for key, value in old.items() if key in taken}
    AlbumentationsPipeline(pipeline(node(name, **kept, **new)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (node("HorizontalFlip", always_apply=False), "'always_apply' .*; remove it"),
        (node("HorizontalFlip", always_apply=True), "'always_apply' .*\"p\": 1"),
        (node("ElasticTransform", alpha_affine=9), "'alpha_affine' .*Affine"),
        (node("Cutout", num_holes=3), "no Cutout; use CoarseDropout with .num_holes_range"),
        (node("Flip"), "no Flip; use SquareSymmetry"),
        (node("albumentations.imgaug.transforms.IAAPerspective"), "use Perspective"),
        (node("GaussNoise", var_limit="much"), "'var_limit' is called 'std_range'"),
        (node("Rotate", limits=9), "takes no 'limits'; did you mean 'limit'"),
    ],
)
def test_exception_what_version_2_has_not(wrong, words):
    assert re.search(words, message_of(pipeline(wrong)))


def message_of(source):
    with pytest.raises(ConfigError) as caught:
        AlbumentationsPipeline(source)
    return str(caught.value)
