import json

import numpy as np
import pytest
import torch

import dataloaders
import models
from prediction.load_model import Meta, restore
from tests.models.test_model_golden import GOLDEN, make_weight
from tests.slow import mark_slow
from utils.checkpoint.save_load import CheckpointError
from utils.config.errors import ConfigError

META = {
    "classes": ["sky", "road", "tree"],
    "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.2, 0.2],
    "channels": 3,
    "ignore_index": 11,
    "versions": {"torch": "2"},
}
SMALL = {"type": "UNet", "args": {"base_channels": 4}}
VOC_LOADER = {"type": "VOC", "args": {"data_dir": "nowhere", "split": "train", "batch_size": 2}}


def small_unet(num_classes=3, **settings):
    return models.UNet(num_classes, base_channels=4, **settings)


def save(path, checkpoint):
    torch.save(checkpoint, path)
    return path


@pytest.fixture
def ours(tmp_path):
    """A checkpoint of this program."""
    return {
        "state_dict": small_unet().state_dict(),
        "epoch": 3,
        "config": {"arch": SMALL, "train_loader": {"type": "Folder", "args": {}}},
        "meta": META,
    }


def of_pytorch_segmentation(state_dict, arch, loader=VOC_LOADER):
    """Return what pytorch-segmentation wrote: `module.` keys, a NumPy number, no meta."""
    return {
        "arch": "DataParallel",
        "epoch": 12,
        "state_dict": {f"module.{key}": value for key, value in state_dict.items()},
        "optimizer": {"state": {}, "param_groups": []},
        "monitor_best": np.float64(0.5),
        "config": {"name": "x", "arch": arch, "train_loader": loader, "ignore_index": 255},
    }


def opened(tmp_path, checkpoint, config=None):
    return restore(save(tmp_path / "a.pth", checkpoint), "cpu", config)


class TestMeta:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"classes": ()}, "there are no classes"),
            ({"palette": ((0, 0, 0),)}, "1 colours for 2 classes"),
            ({"palette": ((0, 0, 0), (0, 0, 256))}, r"not in 0\.\.255"),
            ({"mean": (0.5,)}, "1 means and 3 standard deviations for 3 channels"),
            ({"std": (1.0, 0.0, 1.0)}, "not positive"),
        ],
    )
    def test_exception(self, change, message):
        plain = {"classes": ("a", "b"), "palette": ((0, 0, 0), (1, 1, 1))}
        plain |= {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
        Meta(**plain)
        with pytest.raises(ValueError, match=message):
            Meta(**{**plain, **change})


class TestOurs:
    def test_smoke(self, ours, tmp_path):
        model, meta = opened(tmp_path, ours)
        assert isinstance(model, models.UNet)
        assert not model.training
        assert meta == Meta(
            classes=("sky", "road", "tree"),
            palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
            mean=(0.4, 0.5, 0.6),
            std=(0.2, 0.2, 0.2),
            channels=3,
            ignore_index=11,
        )
        for key, value in model.state_dict().items():
            assert torch.equal(value, ours["state_dict"][key])

    def test_feature_other_channels(self, ours, tmp_path):
        ours["state_dict"] = small_unet(in_channels=4).state_dict()
        ours["meta"] = {**META, "channels": 4, "mean": [0.0] * 4, "std": [1.0] * 4}
        model, _ = opened(tmp_path, ours)
        assert model.in_channels == 4

    def test_feature_nothing_is_downloaded(self, tmp_path, monkeypatch):
        weights = models.PSPNet(3, backbone="resnet18", pretrained=False).state_dict()

        def refuse(*_, **__):
            raise AssertionError("asked the network")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
        for pretrained in (True, str(tmp_path / "gone.pth")):
            arch = {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": pretrained}}
            checkpoint = {"state_dict": weights, "config": {"arch": arch}, "meta": META}
            opened(tmp_path, checkpoint)

    def test_feature_config_beside_it(self, ours, tmp_path, caplog):
        path = save(tmp_path / "a.pth", ours)
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"arch": SMALL}))
        restore(path, "cpu", config)
        assert caplog.text == ""
        config.write_text(json.dumps({"arch": {"type": "PSPNet"}}))
        model, _ = restore(path, "cpu", config)
        assert isinstance(model, models.UNet)
        assert "the model is the one that" in caplog.text
        assert f"arch of {config} is not used" in caplog.text

    @pytest.mark.parametrize("value", ["text", 7, {}, {"classes": "abc"}, {**META, "mean": ["a"]}])
    def test_exception_damaged_meta(self, ours, tmp_path, value):
        ours["meta"] = value
        with pytest.raises(CheckpointError, match=r"a\.pth.*(meta|classes)"):
            opened(tmp_path, ours)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            *(
                ({"arch": arch}, r"a\.pth: the section arch of its config")
                for arch in (None, 5, "UNet", {"args": {}}, {"type": 3}, {**SMALL, "args": []})
            ),
            ([1], "its config is damaged"),
            ({"arch": {**SMALL, "type": "Unet"}}, r"model 'Unet', .* did you mean 'UNet'\?"),
            *(
                ({"arch": {**SMALL, "args": {"base_channels": value}}}, "its model cannot be built")
                for value in (3, "many")
            ),
        ],
    )
    def test_exception_damaged_config(self, ours, tmp_path, config, message):
        ours["config"] = config
        with pytest.raises(CheckpointError, match=message):
            opened(tmp_path, ours)

    def test_exception_unknown_model(self, ours, tmp_path):
        # In the package, but not a model that a config can name.
        ours["config"]["arch"] = {"type": "resnet", "args": {}}
        with pytest.raises(CheckpointError) as caught:
            opened(tmp_path, ours)
        for name in models.__all__:
            assert name in str(caught.value) or "did you mean" in str(caught.value)

    def test_exception_weights_do_not_fit(self, ours, tmp_path):
        weights = ours["state_dict"]
        first, second, *_ = weights
        renamed = {("x." + k if k == first else k): v for k, v in weights.items()}
        renamed[second] = torch.zeros(9, 9)
        ours["state_dict"] = renamed
        with pytest.raises(CheckpointError) as caught:
            opened(tmp_path, ours)
        text = str(caught.value)
        assert "do not fit UNet with 3 classes" in text
        assert f"1 missing ({first})" in text
        assert f"1 unexpected (x.{first})" in text
        assert f"1 of another shape ({second} is 9x9, not" in text

    def test_exception_names_few_keys(self, ours, tmp_path):
        ours["config"]["arch"] = {"type": "UNet", "args": {"base_channels": 8}}
        with pytest.raises(CheckpointError) as caught:
            opened(tmp_path, ours)
        assert len(str(caught.value)) < 600
        assert ", ...)" in str(caught.value)

    def test_exception_unreadable(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"none\.pth"):
            restore(tmp_path / "none.pth", "cpu")
        (tmp_path / "text.pth").write_text("not a checkpoint")
        with pytest.raises(CheckpointError, match=r"text\.pth"):
            restore(tmp_path / "text.pth", "cpu")


class TestPytorchSegmentation:
    @pytest.mark.parametrize("name", mark_slow(["UNet", "PSPNet", "UperNet", "PSPDenseNet"]))
    def test_feature_golden_logits(self, name, tmp_path):
        """Source: pytorch-segmentation itself, run once on weights made by recipe."""
        golden = json.loads((GOLDEN / f"{name}.json").read_text())
        weights = {k: torch.from_numpy(make_weight(k, s)) for k, s in golden["state_dict"].items()}
        # Its UperNet and PSPDenseNet have one convolution under several names.
        shared = {
            "FPN.smooth_conv.0.": "FPN.smooth_conv.2.",
            "FPN.smooth_conv.1.": "FPN.smooth_conv.2.",
            "block0.3.": "block0.6.",
            "block0.4.": "block0.7.",
        }
        for key in weights:
            for prefix, last in shared.items():
                if key.startswith(prefix):
                    weights[key] = weights[key.replace(prefix, last)]
        arch = {"type": golden["class"], "args": {**golden["args"], "freeze_bn": False}}
        path = save(tmp_path / "best_model.pth", of_pytorch_segmentation(weights, arch))
        model, meta = restore(path, "cpu")
        path.unlink()
        assert meta.classes == tuple(dataloaders.VOC.classes)
        assert meta.mean == tuple(dataloaders.VOC.mean)
        rng = np.random.default_rng(golden["input_seed"])
        images = rng.normal(0, 1, (1, 3, *golden["input_hw"])).astype(np.float32)
        with torch.no_grad():
            logits = model(torch.from_numpy(images))[:, :, ::8, ::8].numpy()
        truth = np.load(GOLDEN / f"{name}.npz")["logits"]
        assert np.linalg.norm(logits - truth) / np.linalg.norm(truth) < 1e-4

    def test_feature_strange_arguments(self, tmp_path, caplog):
        arch = {"type": "UNet", "args": {"base_channels": 4, "use_aux": True, "pretrained": True}}
        weights = small_unet(21).state_dict()
        opened(tmp_path, of_pytorch_segmentation(weights, arch))
        assert "UNet takes no use_aux: ignored" in caplog.text
        assert "pretrained" not in caplog.text

    @pytest.mark.parametrize("classes", [3, ["a", "b", "c"]])
    def test_feature_folder_tells_its_classes(self, tmp_path, classes):
        loader = {"type": "Folder", "args": {"classes": classes, "mean": [0.1, 0.2, 0.3]}}
        checkpoint = of_pytorch_segmentation(small_unet().state_dict(), SMALL, loader)
        _, meta = opened(tmp_path, checkpoint)
        assert len(meta.classes) == len(meta.palette) == 3
        assert meta.mean == (0.1, 0.2, 0.3)

    def test_feature_config_names_the_dataset(self, tmp_path):
        """The way to open a checkpoint of a dataset that is not known."""
        moon = {"type": "Moon", "args": {}}
        checkpoint = of_pytorch_segmentation(small_unet().state_dict(), SMALL, moon)
        path = save(tmp_path / "a.pth", checkpoint)
        with pytest.raises(CheckpointError, match="trained on 'Moon', which .*; choose"):
            restore(path, "cpu")
        config = tmp_path / "config.json"
        loader = {"type": "Folder", "args": {"classes": ["a", "b", "c"]}}
        config.write_text(json.dumps({"train_loader": loader}))
        assert restore(path, "cpu", config)[1].classes == ("a", "b", "c")

    def test_exception_number_of_classes(self, tmp_path):
        path = save(tmp_path / "a.pth", of_pytorch_segmentation(small_unet(5).state_dict(), SMALL))
        with pytest.raises(CheckpointError, match="is of 5 classes, but the dataset has 21"):
            restore(path, "cpu")

    def test_exception_dataset_without_classes(self, tmp_path):
        loader = {"type": "Folder", "args": {}}
        checkpoint = of_pytorch_segmentation(small_unet().state_dict(), SMALL, loader)
        with pytest.raises(CheckpointError, match="Folder, which has no classes of its own"):
            opened(tmp_path, checkpoint)


class TestBareWeights:
    @pytest.fixture
    def path(self, tmp_path):
        return save(tmp_path / "weights.pth", small_unet(21).state_dict())

    def test_smoke(self, path, tmp_path):
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"arch": SMALL, "train_loader": VOC_LOADER}))
        model, meta = restore(path, "cpu", config)
        assert len(meta.classes) == model.num_classes == 21

    def test_exception_no_config(self, path):
        with pytest.raises(CheckpointError, match=r"add --config"):
            restore(path, "cpu")

    def test_exception_incomplete_config(self, path, tmp_path):
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"arch": SMALL}))
        with pytest.raises(CheckpointError, match="does not name its classes"):
            restore(path, "cpu", config)
        config.write_text("{")
        with pytest.raises(ConfigError, match=r"config\.json"):
            restore(path, "cpu", config)
