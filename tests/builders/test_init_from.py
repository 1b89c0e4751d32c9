"""Starting from the weights of another training."""

import copy
import re

import pytest
import torch
import torchvision
from safetensors.torch import save_file

import models
import train
from builders.init_from import Start, init_from, load_start
from tests.models.test_models import CASES, K, as_params, build
from tests.training_runs import run, small_config
from utils.checkpoint.class_rows import match_classes
from utils.checkpoint.save_load import CheckpointError, load_checkpoint, save_checkpoint

OWN_CASES = [case for case in CASES if not case.startswith("SMP/")]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def classifier_keys(model):
    inside = {id(module) for module in model.classifier_modules()}
    prefixes = tuple(f"{key}." for key, m in model.named_modules() if id(m) in inside)
    return {key for key in model.state_dict() if key.startswith(prefixes)}


@pytest.mark.parametrize("case", as_params(OWN_CASES))
def test_feature_other_classes(case):
    """The truth is the source's own logits: those of a class stay its own, wherever it goes."""
    source, model = build(case, num_classes=K + 2), build(case)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    table = init_from(model, Start(copy.deepcopy(source.state_dict())))
    left = classifier_keys(model)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in left else source.state_dict()[key]), key
    assert f"the classifier is new: {K} classes, {K + 2} in the file" in table

    # What was the small model is the source now. No weight of its classifier may be forgotten, so
    # that each gets values that matter.
    for key, value in model.state_dict().items():
        if key in left and value.is_floating_point():
            value.uniform_(0.1, 0.3)
    names = ("new", "C", "a", "other", "b")
    first = [module.state_dict() for module in source.classifier_modules()]
    first = [{key: value.clone() for key, value in state.items()} for state in first]
    table = init_from(source, Start(copy.deepcopy(model.state_dict()), ["a", "b", "c"]), names)
    assert "rows of 3 of 5 classes, by name" in table
    assert "from the file: C, a, b; new rows: new, other" in table.splitlines()[-1]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = model.eval()(images)[0], source.eval()(images)[0]
    torch.testing.assert_close(found[[1, 2, 4]], expected[[2, 0, 1]], rtol=1e-4, atol=1e-5)
    for module, state in zip(source.classifier_modules(), first, strict=True):
        if isinstance(module, torch.nn.Conv2d):  # else not the last one before the logits
            new = torch.tensor([0, 3])
            assert torch.equal(module.weight[new], state["weight"][new])


def start_of(source, folder, classes=None):
    """What `load_start` gives for a checkpoint of a model."""
    meta = {} if classes is None else {"meta": {"classes": classes}}
    save_checkpoint({"state_dict": source.state_dict(), **meta}, folder / "best.pth")
    return load_start(folder / "best.pth")


def test_feature_same_classes_load_whole(tmp_path, caplog):
    source, model = build("UNet"), build("UNet")
    table = init_from(model, start_of(source, tmp_path, ["a", "b", "c"]), ("a", "b", "c"))
    assert "classifier" not in table and "by name" not in table and not caplog.records
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


@pytest.mark.parametrize("case", ["UNet", "GCN/deconv", "FCN8", "ENet"])
def test_feature_another_order(case, tmp_path):
    source, model = build(case), build(case)
    table = init_from(model, start_of(source, tmp_path, ["a", "b", "c"]), ("b", "c", "a"))
    assert "rows of 3 of 3 classes, by name" in table
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = source.eval()(images)[0], model.eval()(images)[0]
    torch.testing.assert_close(found, expected[[1, 2, 0]], rtol=1e-4, atol=1e-5)


def test_feature_fewer_classes(tmp_path):
    """By hand: the rows of the last convolution."""
    source, model = build("UNet", num_classes=5), build("UNet", num_classes=2)
    names = ["sky", "Road ", "car", "tree", "hut"]
    table = init_from(model, start_of(source, tmp_path, names), ("hut", "road"))
    assert torch.equal(model.final_conv.weight, source.final_conv.weight[[4, 1]])
    assert torch.equal(model.final_conv.bias, source.final_conv.bias[[4, 1]])
    assert "without a row here: sky, car, tree" in table


def test_feature_other_names_begin_anew(tmp_path, caplog):
    """Road's weights are not building's."""
    source, model = build("UNet"), build("UNet")
    before = model.final_conv.weight.clone()
    table = init_from(model, start_of(source, tmp_path, ["a", "b", "c"]), ("x", "y", "z"))
    assert torch.equal(model.final_conv.weight, before)
    assert torch.equal(model.start_conv[0].weight, source.start_conv[0].weight)
    assert "init_from: no class" in caplog.text and "a, b, c" in caplog.text
    assert "the classifier is new: other classes" in table


@pytest.mark.parametrize("names", [None, ["class 0", "class 1", "class 2"], ["a", "b"], [1, 2, 3]])
def test_feature_names_that_are_not_known(names, tmp_path):
    source, model = build("UNet"), build("UNet")
    table = init_from(model, start_of(source, tmp_path, names), ("x", "y", "z"))
    assert torch.equal(model.final_conv.weight, source.final_conv.weight)
    assert "names of the file's classes are not known" in table.splitlines()[-1]


@pytest.mark.parametrize(
    ("names", "num_classes", "is_loaded"),
    [(["bg", "obj"], 1, True), (["obj", "bg"], 1, False), (["a", "b"], 1, False),
     (["bg", "obj"], 2, False)],
)  # fmt: skip
def test_feature_one_channel_for_two_classes(names, num_classes, is_loaded, tmp_path):
    """Its row is the second class's against the first, and nothing else's."""
    source, model = build("UNet", num_classes=num_classes), build("UNet", num_classes=1)
    init_from(model, start_of(source, tmp_path, names), ("bg", "obj"))
    assert torch.equal(model.final_conv.weight, source.final_conv.weight[:1]) == is_loaded


def test_feature_auxiliary_heads_too(tmp_path):
    source, model = (build("PSPNet", num_classes=n) for n in (K, K + 1))
    init_from(model, start_of(source, tmp_path, ["a", "b", "c"]), ("c", "x", "b", "a"))
    heads = list(zip(model.classifier_modules(), source.classifier_modules(), strict=True))
    assert len(heads) == 2
    for ours, theirs in heads:
        assert torch.equal(ours.weight[[0, 2, 3]], theirs.weight[[2, 1, 0]])


def test_exception_a_feature_that_grows_with_the_classes(tmp_path):
    """Twice the classes and twice the features are another model, whatever the names."""
    source = build("UNet", num_classes=8, base_channels=8)
    model = build("UNet", num_classes=4, base_channels=4)
    with pytest.raises(CheckpointError, match="of another shape"):
        init_from(model, start_of(source, tmp_path, list("abcdefgh")), tuple("hgfe"))


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (["a", "b"], ["b", "a"], [1, 0]),
        (["Car", "car"], ["car", "Car"], [1, 0]),
        (["CAR"], ["Car", "car"], [None]),
        (["Car", "CAR"], ["car"], [None, None]),
        ([" sky"], ["x", "SKY "], [1]),
        (["a", "a", "b"], ["b", "a", "a"], [1, 2, 0]),
        (["a", "a"], ["a"], [None, None]),
    ],
)
def test_feature_namesakes(ours, theirs, expected):
    assert match_classes(ours, theirs) == expected


def test_feature_table(tmp_path):
    """Every tensor but the counters of BatchNorm is in one row."""
    source, model = build("PSPNet", num_classes=5), build("PSPNet")
    table = init_from(model, start_of(source, tmp_path))
    rows = [line.split() for line in table.splitlines()[2:]]
    names = [row[0] for row in rows]
    assert {"initial", "layer4", "master_branch", "master_branch.1", "auxiliary_branch.4"} == (
        set(names) - {"layer1", "layer2", "layer3", "auxiliary_branch"}
    )
    counted = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    assert sum(int(row[1]) for row in rows) == len(counted)
    assert sum(int(row[2]) for row in rows) == len(counted) - 4
    row = rows[names.index("layer1")]
    assert row[1:3] == ["20", "20"]


@pytest.mark.parametrize(
    ("key", "prefix", "num_classes"),
    [
        ("state_dict", "module.", 21),  # pytorch-segmentation: DataParallel, and no meta
        ("state_dict", "model.", K),  # Lightning
        ("state_dict", "_orig_mod.", K),  # torch.compile
        ("state_dict", "module._orig_mod.", K),
        ("model", "", K),  # torchvision's training script
    ],
)
def test_feature_checkpoints_of_other_programs(key, prefix, num_classes, tmp_path):
    source, model = build("UNet", num_classes=num_classes), build("UNet")
    weights = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    torch.save({"arch": "DataParallel", "epoch": 3, key: weights}, tmp_path / "a.pth")
    init_from(model, load_start(tmp_path / "a.pth"))
    name = "final_conv.weight" if num_classes == K else "down2.down_conv.0.weight"
    assert torch.equal(model.state_dict()[name], source.state_dict()[name])


@pytest.mark.parametrize("channels", [1, 5])
def test_feature_other_channels(channels, tmp_path):
    source, model = build("UNet"), build("UNet", in_channels=channels)
    table = init_from(model, start_of(source, tmp_path))
    assert f"first layer adapted to {channels} channels" in table
    if channels == 1:
        grey = torch.randn(1, 1, 20, 20)
        adapted, expected = model.start_conv[0](grey), source.start_conv[0](grey.repeat(1, 3, 1, 1))
        torch.testing.assert_close(adapted, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.state_dict()["final_conv.weight"], source.final_conv.weight)


def test_exception_another_model(tmp_path):
    model = build("UNet")
    before = model.state_dict()["final_conv.weight"].clone()
    for other, message in (
        (build("PSPNet"), "init_from: the weights are not of this UNet: .* missing .*unexpected"),
        (build("UNet", base_channels=8), "of another shape .start_conv.0.weight is 4x3x3x3"),
    ):
        with pytest.raises(CheckpointError, match=message):
            init_from(model, start_of(other, tmp_path))
    assert torch.equal(model.state_dict()["final_conv.weight"], before)
    with pytest.raises(CheckpointError, match="init_from: .*none.pth: no such file"):
        load_start(tmp_path / "none.pth")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "auxiliary"), [("fcn_resnet50", True), ("deeplabv3_resnet50", False)]
)
def test_feature_torchvision(name, auxiliary, tmp_path):
    """Source: torchvision's network with random weights."""
    theirs = getattr(torchvision.models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=K, aux_loss=auxiliary
    ).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    cls = models.FCN if name.startswith("fcn") else models.DeepLabV3
    model = cls(K, pretrained=False).eval()
    table = init_from(model, load_start(tmp_path / "weights.pth"))
    assert bool(re.search(r"auxiliary\w* .*not in the file", table)) != auxiliary
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images)["out"], rtol=1e-4, atol=1e-5)
    other = cls(K + 1, pretrained=False)
    table = init_from(other, load_start(tmp_path / "weights.pth"))
    assert f"the classifier is new: {K + 1} classes, {K} in the file" in table


def test_feature_safetensors_of_smp(tmp_path):
    """How the library's `save_pretrained` writes a model."""
    import segmentation_models_pytorch as library

    theirs = library.Linknet("resnet18", encoder_weights=None, classes=K).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    model = models.SMP(K, architecture="Linknet", encoder_name="resnet18", encoder_weights=None)
    init_from(model, load_start(tmp_path / "model.safetensors"))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), theirs(images), rtol=1e-4, atol=1e-5)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="broken.safetensors: cannot be read"):
        load_start(tmp_path / "broken.safetensors")


@pytest.mark.slow
def test_exception_another_kernel_is_not_another_number_of_classes(tmp_path):
    """GCN's decoder is all classifier, and still has to be the same."""
    start = start_of(build("GCN", num_filters=7), tmp_path)
    for classes in (K, K + 1):
        with pytest.raises(CheckpointError, match="of another shape"):
            init_from(build("GCN", num_classes=classes), start)
    start = start_of(build("GCN/deconv", backbone="resnet50", num_classes=K + 1), tmp_path)
    with pytest.raises(CheckpointError, match="unexpected"):
        init_from(build("GCN"), start)


def test_exception_strange_weights(tmp_path):
    weights = build("UNet").state_dict()
    torch.save({"state_dict": {**weights, "final_conv.weight": 3}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_start(tmp_path / "a.pth")
    torch.save({"state_dict": {**weights, "final_conv.bias": torch.zeros(())}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="of another shape"):
        init_from(build("UNet"), load_start(tmp_path / "a.pth"))


def test_exception_two_weights_for_one_place(tmp_path):
    """The legacy UperNet has one convolution where the new one has three."""
    args = CASES["UperNet"]
    new, legacy = (build("UperNet", legacy_fpn=flag) for flag in (False, True))
    start = start_of(new, tmp_path)
    with pytest.raises(CheckpointError, match="leave out the legacy argument"):
        init_from(legacy, start)
    assert models.UperNet.args_for(args, start.weights)["legacy_fpn"] is False
    old = legacy.state_dict()
    assert models.UperNet.args_for(args, old)["legacy_fpn"] is True
    assert models.UperNet.args_for({**args, "legacy_fpn": True}, start.weights)["legacy_fpn"]
    init_from(build("UperNet", legacy_fpn=True), start_of(legacy, tmp_path))


def test_exception_names_the_other_model(tmp_path):
    checkpoint = {"state_dict": build("ENet").state_dict(), "config": {"arch": {"type": "ENet"}}}
    save_checkpoint(checkpoint, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match="not of this UNet, but of the model ENet"):
        init_from(build("UNet"), load_start(tmp_path / "best.pth"))


def test_feature_a_run_starts_from_another(tmp_path, capsys):
    """A rate of 0 shows whose weights a run began with."""
    tree = small_config(tmp_path, epochs=1)
    code, first = run(tmp_path, tree)
    assert code == 0
    tree["name"] = "second"
    tree["init_from"] = str(first / "last.pth")
    tree["optimizer"]["args"]["lr"] = 0.0
    tree["lr_scheduler"] = None
    assert run(tmp_path, tree)[0] == 0
    out = capsys.readouterr().out
    assert f"Weights of {first / 'last.pth'}:" in out and "final_conv" in out
    (second,) = (tmp_path / "saved" / "second").glob("*/last.pth")
    weights = load_checkpoint(first / "last.pth")["state_dict"]
    result = load_checkpoint(second)
    for key, value in result["state_dict"].items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(value, weights[key])
    assert result["epoch"] == 1  # the epochs, the optimizer and the best score begin anew

    tree["init_from"] = str(tmp_path / "none.pth")
    tree["name"] = "third"
    assert run(tmp_path, tree)[0] == 2
    assert f"init_from: {tmp_path / 'none.pth'}: no such file" in capsys.readouterr().err
    assert not (tmp_path / "saved" / "third").exists()


@pytest.mark.slow
def test_feature_weights_are_not_fetched_twice(tmp_path):
    """To go on with a run, or to start from one, takes nothing but its checkpoint."""
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    tree = small_config(tmp_path, epochs=1)
    tree["arch"] = {
        "type": "PSPNet",
        "args": {"backbone": "resnet18", "pretrained": str(tmp_path / "resnet18.pth")},
    }
    tree["train_loader"]["args"]["num_images"] = 4
    code, folder = run(tmp_path, tree)
    assert code == 0
    (tmp_path / "resnet18.pth").unlink()
    assert run(tmp_path, tree)[0] == 2  # anew it needs the file
    more = ("--resume", str(folder), "-o", "trainer.epochs=2")
    assert train.main(["--device", "cpu", *more]) == 0
    tree["init_from"] = str(folder / "last.pth")
    tree["name"] = "second"
    assert run(tmp_path, tree)[0] == 0
