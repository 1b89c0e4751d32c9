"""Accumulation, clipping, moving average, mixed precision, class weights, binary outputs."""

import json
import os
import types

import numpy as np
import pytest
import torch
from torch import nn

import train
from base.micro_batches import micro_batches
from builders.data import build_loaders, build_val_loader
from builders.training import build_training
from dataloaders.shapes import Shapes
from prediction.load_model import restore
from prediction.predictor.network import Predictor
from tests.slow import mark_slow
from tests.training_runs import (
    Constant,
    assert_same,
    checked,
    make_trainer,
    run,
    small_config,
    trained,
)
from utils.checkpoint.save_load import evaluated_weights, load_checkpoint
from utils.config.sections import LossTerm
from utils.drawing.palette import save_image, save_mask
from utils.files.image_io import read_image
from utils.losses.base import SegmentationLoss
from utils.losses.cross_entropy import CrossEntropyLoss2d
from utils.metrics.confusion import SegmentationMetrics
from utils.optim.ema import averaged_copy
from utils.optim.precision import MixedPrecision, tf32_text
from utils.samples.normalize import normalize

CPU = torch.device("cpu")


def first_batch(trainer):
    batch = next(iter(trainer.train_loader.epoch(1)))
    return (*trainer.prepare_batch(batch), batch)


# --- accumulation


def test_feature_parts_of_a_batch():
    for size, most, ends in (
        (8, 2, [2, 4, 6, 8]), (5, 2, [2, 5]), (7, 4, [3, 7]), (15, 8, [7, 15]), (1, 2, [1]),
        (3, 1, [1, 2, 3]),
    ):  # fmt: skip
        assert micro_batches(size, most) == list(map(slice, [0, *ends[:-1]], ends))


def test_feature_accumulated_gradient_is_that_of_the_batch(tmp_path):
    # Rotation leaves more ignored pixels in some images, so that parts differ in them.
    gradients = []
    for steps in (1, 2, 4):
        torch.manual_seed(0)
        model = Convolution()
        trainer = make_trainer(tmp_path, model, accumulation_steps=steps)
        seen = []
        model.register_forward_hook(lambda _m, inputs, _o, seen=seen: seen.append(len(inputs[0])))
        loss, prediction = trainer.train_step(*first_batch(trainer))
        assert seen == [4 // steps] * steps
        assert prediction.shape == (4, 32, 32)
        gradients.append((loss, model.layer.weight.grad.clone()))
    for loss, gradient in gradients[1:]:
        assert loss.item() == pytest.approx(gradients[0][0].item(), rel=1e-6)
        assert torch.allclose(gradient, gradients[0][1], rtol=1e-5, atol=1e-7)


class Convolution(Constant):
    """One convolution without a norm, so that an image does not depend on its neighbours."""

    def __init__(self):
        super().__init__(6)
        self.layer = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, images):
        return self.layer(images) + self.logits.view(1, -1, 1, 1) * 0


def test_exception_accumulation_that_does_not_divide(tmp_path, capsys):
    code, _ = run(tmp_path, small_config(tmp_path, accumulation_steps=3))
    assert code == 2
    error = capsys.readouterr().err
    assert "trainer.accumulation_steps: a batch of 4" in error and "use 2, 4" in error
    assert not (tmp_path / "saved").exists()


def test_exception_parts_of_one_picture_under_batch_norm(tmp_path, capsys):
    tree = small_config(tmp_path, accumulation_steps=4)
    tree["arch"] = {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": False}}
    assert run(tmp_path, tree)[0] == 2
    assert "or fewer trainer.accumulation_steps" in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


# --- clipping


@pytest.mark.parametrize("limit", [1e-3, 1e3])
@pytest.mark.parametrize("amp", [False, "fp16"])
def test_feature_gradients_are_clipped_by_their_norm(tmp_path, limit, amp):
    free = make_trainer(tmp_path, Constant(6))
    clipped = make_trainer(tmp_path, Constant(6), clip_grad_norm=limit)
    for trainer in (free, clipped):
        trainer.precision = MixedPrecision(amp, CPU)  # of fp16 the loss is scaled, not the norm
    before = free.model.logits.detach().clone()
    free.train_step(*first_batch(free))
    clipped.train_step(*first_batch(clipped))
    whole, part = (t.model.logits.detach() - before for t in (free, clipped))
    # The step is the rate (0.1) times the gradient.
    norm = whole.norm() / 0.1
    factor = min(1, limit / norm.item())
    assert torch.allclose(part, whole * factor, atol=5e-7)
    assert clipped.gradient_norm.item() == pytest.approx(norm.item(), rel=1e-5)


# --- moving average


def test_feature_average_follows_its_formula():
    model = nn.Linear(2, 1)
    average = averaged_copy(model, 0.5)
    expected = None
    for step in range(20):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update_parameters(model)
        # The first update copies.
        decay = min(0.5, (1 + step) / (10 + step))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    assert average.module.weight[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_feature_average_is_validated_saved_and_predicts(tmp_path):
    tree = small_config(tmp_path, epochs=2, ema_decay=0.9, monitor="min val_loss")
    tree["optimizer"]["args"]["lr"] = 0.5
    _, folder = run(tmp_path, tree)
    checkpoint = load_checkpoint(folder / "best_model.pth")
    average = evaluated_weights(checkpoint)
    assert average.keys() == checkpoint["state_dict"].keys()
    assert checkpoint["ema"]["n_averaged"] == checkpoint["step"]
    key = next(key for key in average if key.endswith("weight"))
    assert not torch.equal(average[key], checkpoint["state_dict"][key])
    statistics = [key for key in average if "running_" in key]
    assert statistics  # these are the model's own
    assert all(torch.equal(average[k], checkpoint["state_dict"][k]) for k in statistics)
    model, _ = restore(folder / "best_model.pth", "cpu")
    assert torch.equal(model.state_dict()[key], average[key])
    # The metric in the checkpoint is that of the average.
    best = pytest.approx(checkpoint["monitor_best"], rel=1e-6)
    assert validated(folder, tree, average) == best
    assert validated(folder, tree, checkpoint["state_dict"]) != best


def validated(folder, tree, weights):
    config = checked(tree)
    parts = build_training(config, build_loaders(config), CPU)
    parts.model.load_state_dict(weights)
    parts.model.eval()
    loss, source = CrossEntropyLoss2d(), parts.val_loader.source
    values = []
    with torch.no_grad():
        for group in parts.val_loader.epoch(0):
            for batch in group:
                images = normalize(batch.images, source.mean, source.std)
                value = loss(parts.model(images), batch.labels.long()).item()
                values += [value] * len(images)
    return np.mean(values)


# --- mixed precision


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_feature_mixed_precision_trains_in_16_bits(tmp_path, amp):
    tree = small_config(tmp_path)
    tree["amp"] = amp
    folder = trained(tmp_path, tree)
    checkpoint = load_checkpoint(folder / "last.pth")
    assert all(v.dtype != torch.bfloat16 for v in checkpoint["state_dict"].values())
    assert bool(checkpoint["scaler"]) == (amp == "fp16")
    assert f"precision: {amp} " in (folder / "log.txt").read_text()
    _, plain = run(tmp_path, {**tree, "amp": "auto"})
    assert "precision: 32 bits (amp " in (plain / "log.txt").read_text()
    weights = load_checkpoint(plain / "last.pth")["state_dict"]
    key = next(iter(weights))
    assert not torch.equal(weights[key], checkpoint["state_dict"][key])
    assert torch.allclose(weights[key], checkpoint["state_dict"][key], atol=0.05)


@pytest.mark.parametrize(
    ("amp", "dtype", "text", "also"),
    [
        (False, None, "32 bits", ""), ("auto", None, "32 bits", 'amp "auto"'),
        (True, None, "32 bits", "-o amp=bf16"), ("bf16", torch.bfloat16, "bf16", 'amp "bf16"'),
        ("fp16", torch.float16, "fp16", 'amp "fp16"'),
    ],
)  # fmt: skip
def test_feature_the_precision_that_runs_is_said(amp, dtype, text, also):
    assert MixedPrecision(amp, CPU).dtype is dtype
    said = MixedPrecision(amp, CPU).describe()
    assert said.startswith(text)
    assert also in said
    assert (said == "32 bits") == (amp is False)


@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler")
@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_feature_the_precision_of_a_gpu_is_said(monkeypatch, bf16, expected):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: bf16)
    said = MixedPrecision("auto", torch.device("cuda")).describe()
    assert said.startswith(f'{expected} (amp "auto"')
    assert ("no bf16" in said) != bf16


@pytest.mark.parametrize(
    ("capability", "matmul", "expected"),
    [((7, 5), "tf32", ""), ((9, 0), "ieee", "convolutions in TF32"),
     ((8, 0), "tf32", "convolutions and matrix products in TF32")],
)  # fmt: skip
def test_feature_what_a_gpu_rounds_in_32_bits_is_said(monkeypatch, capability, matmul, expected):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: capability)
    settings = types.SimpleNamespace(fp32_precision=matmul)
    monkeypatch.setattr("torch.backends.cuda.matmul", settings)
    assert tf32_text(torch.device("cuda")) == expected
    assert tf32_text(CPU) == ""
    said = MixedPrecision(False, torch.device("cuda")).describe()
    assert said == ", ".join(filter(None, ("32 bits", expected)))


# --- resume with all of it


@pytest.mark.parametrize("amp", mark_slow(["fp16", "bf16", False]))
def test_feature_stopped_and_resumed_is_the_same_bit_for_bit(tmp_path, amp):
    options = {"accumulation_steps": 2, "clip_grad_norm": 1.0, "ema_decay": 0.9}
    tree = small_config(tmp_path, epochs=3, **options)
    tree["amp"] = amp
    tree["loss"] = [
        {"type": "CrossEntropyLoss2d", "args": {"class_weights": "auto"}},
        {"type": "RegionAwareLoss", "weight": 0.5},
    ]
    _, whole = run(tmp_path, tree)
    tree["trainer"]["save_period"] = 1
    _, stopped = run(tmp_path, tree)
    path = stopped / "checkpoint-epoch1.pth"
    (stopped / "last.pth").unlink()
    assert train.main(["--resume", str(path), "--device", "cpu"]) == 0
    one, other = (load_checkpoint(folder / "last.pth") for folder in (whole, stopped))
    for state in (one, other):
        state["config"] = None
    assert_same(one, other)
    assert one["losses"][1]  # a state that moves
    assert one["ema"]["n_averaged"].item() == 9


# --- class weights


def test_feature_auto_class_weights_are_those_of_the_labels(tmp_path, caplog):
    tree = small_config(tmp_path, epochs=1)
    tree["loss"] = {"type": "CrossEntropyLoss2d", "args": {"class_weights": "auto"}}
    _, folder = run(tmp_path, tree)
    weights = load_checkpoint(folder / "last.pth")["meta"]["class_weights"]
    dataset = Shapes(split="train", num_images=10, image_size=32)
    pixels = np.concatenate([dataset.load(i).mask.ravel() for i in range(10)])
    shares = [(pixels == k).sum() / (pixels != 255).sum() for k in range(6)]
    assert weights == [round(float(1 / np.log(1.02 + share)), 2) for share in shares]
    assert "Class weights: ground" in caplog.text
    stored = json.loads((folder / "config.json").read_text())
    assert stored["loss"]["args"]["class_weights"] == "auto"


@pytest.mark.slow
def test_exception_a_process_that_ends_while_labels_are_counted(tmp_path, monkeypatch, caplog):
    tree = small_config(tmp_path)
    tree["train_loader"]["args"]["num_workers"] = 1
    tree["loss"] = {"type": "CrossEntropyLoss2d", "args": {"class_weights": "auto"}}
    load = Shapes.load_mask
    main = os.getpid()
    monkeypatch.setattr(
        Shapes, "load_mask", lambda self, i: load(self, i) if os.getpid() == main else os._exit(1)
    )
    assert run(tmp_path, tree)[0] == 1
    assert "a process that loads images has ended" in caplog.text
    assert not (tmp_path / "saved").exists()


# --- one output channel, thresholds


def two_class_folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(8):
        mask = np.zeros((32, 40), np.uint8)
        y, x = rng.integers(0, 16, 2)
        mask[y : y + 16, x : x + 16] = 1
        image = rng.integers(0, 90, (32, 40, 3)) + 120 * mask[..., None]
        save_image(tmp_path / f"images/{i}.png", image.astype(np.uint8))
        save_mask(tmp_path / f"masks/{i}.png", mask, [(0, 0, 0), (255, 0, 0)])


@pytest.mark.parametrize("threshold", [None, 0.25, "search"])
def test_feature_one_channel_for_two_classes(tmp_path, threshold):
    two_class_folder(tmp_path)
    tree = small_config(tmp_path, epochs=3)
    tree["train_loader"] = {
        "type": "Folder",
        "args": {
            "images": str(tmp_path / "images"), "masks": str(tmp_path / "masks"),
            "classes": ["ground", "box"], "batch_size": 2, "num_workers": 0, "val_split": 0.5,
        },
    }  # fmt: skip
    del tree["val_loader"]
    tree |= {"binary": True, "threshold": threshold, "loss": "BCE_DiceLoss"}
    folder = trained(tmp_path, tree)
    checkpoint = load_checkpoint(folder / "best_model.pth")
    model, meta = restore(folder / "best_model.pth", "cpu")
    assert model.num_classes == 1
    assert meta.binary
    if threshold != "search":
        assert meta.threshold == threshold
    # Predictions are those that the metric of the training was computed from.
    predictor = Predictor(model, meta.mean, meta.std, "cpu", mode="whole", threshold=meta.threshold)
    loader = build_val_loader(checked(tree))
    metrics = SegmentationMetrics(2, 255)
    for index in loader.batches.indices.tolist():
        image, label = loader.samples.pair(index)
        ids = predictor.predict(image)
        assert predictor.predict_logits(image).shape == (2, *label.shape)
        metrics.update(torch.from_numpy(ids)[None], torch.from_numpy(label)[None])
    assert metrics.compute()["Mean_IoU"] == checkpoint["monitor_best"]
    assert read_image(str(tmp_path / "images/0.png")).shape == (32, 40, 3)


def test_exception_binary_of_six_classes(tmp_path, capsys):
    tree = small_config(tmp_path)
    tree |= {"binary": True, "threshold": "search"}
    assert run(tmp_path, tree)[0] == 2
    error = capsys.readouterr().err
    assert "binary: needs two classes, but there are 6; remove it" in error
    assert "threshold: needs two classes" in error
    tree = {**small_config(tmp_path, val=False, monitor="off"), "threshold": "search"}
    assert run(tmp_path, tree)[0] == 2
    assert 'threshold: "search" needs a validation' in capsys.readouterr().err


def test_feature_state_moves_with_the_first_output_in_training_only(tmp_path):
    class Watched(SegmentationLoss):
        def value(self, logits, labels, valid):
            seen.append(self.training)
            return logits.sum() * 0

    seen: list[bool] = []
    losses = [(Watched(), LossTerm("Watched"))]
    trainer = make_trainer(tmp_path, Constant(6, auxiliary=2), losses)
    trainer.network.train()
    trainer.train_step(*first_batch(trainer))
    assert seen == [True, False, False]
    seen.clear()
    trainer.validate(1)
    assert seen
    assert not any(seen)


# --- what a resumed run takes from its config


def resumed(tmp_path, tree, *overrides):
    """`last.pth` of a run of one epoch that was resumed for two more with other settings."""
    _, folder = run(tmp_path, {**tree, "trainer": {**tree["trainer"], "epochs": 1}})
    flags = [word for text in ("trainer.epochs=3", *overrides) for word in ("-o", text)]
    code = train.main(["--resume", str(folder / "last.pth"), "--device", "cpu", *flags])
    assert code == 0
    return load_checkpoint(folder / "last.pth")


@pytest.mark.parametrize("schedule", [None, {"type": "Poly"}])
def test_feature_changed_settings_of_the_optimizer_count_on_resume(tmp_path, schedule):
    tree = small_config(tmp_path)
    tree["lr_scheduler"] = schedule
    overrides = ("optimizer.args.lr=0.001", "optimizer.args.weight_decay=0.5")
    state = resumed(tmp_path, tree, *overrides)
    (group,) = state["optimizer"]["param_groups"]
    assert group["weight_decay"] == 0.5
    assert group["momentum"] == 0.9
    assert group.get("initial_lr", group["lr"]) == 0.001
    assert group["lr"] <= 0.001
    assert state["optimizer"]["state"]  # the momentum so far is kept


@pytest.mark.parametrize("override", ["optimizer.args.lr=0.001", "lr_scheduler.args.gamma=0.5"])
def test_exception_settings_that_a_schedule_of_torch_keeps(tmp_path, capsys, override):
    tree = small_config(tmp_path, epochs=1)
    tree["lr_scheduler"] = {"type": "StepLR", "args": {"step_size": 1}}
    _, folder = run(tmp_path, tree)
    flags = ["--resume", str(folder / "last.pth"), "-o", "trainer.epochs=2", "-o", override]
    assert train.main([*flags, "--device", "cpu"]) == 2
    assert "StepLR keeps the settings of its checkpoint" in capsys.readouterr().err


def test_feature_another_optimizer_starts_anew(tmp_path, caplog):
    tree = small_config(tmp_path)
    tree["lr_scheduler"] = None
    tree["optimizer"] = {"type": "Adam", "args": {"lr": 0.001}}
    override = 'optimizer={"type":"SGD","args":{"lr":0.1,"momentum":0.9}}'
    state = resumed(tmp_path, tree, override)
    assert "the optimizer starts anew: it was Adam and is SGD" in caplog.text
    assert state["optimizer"]["param_groups"][0]["momentum"] == 0.9


def test_feature_another_yardstick_is_said(tmp_path, caplog):
    resumed(tmp_path, small_config(tmp_path), "trainer.ema_decay=0.9")
    assert "trainer.ema_decay was None and is 0.9: the best score so far" in caplog.text


def test_feature_losses_without_their_state_begin_anew(tmp_path, caplog):
    override = 'loss=["CrossEntropyLoss2d","RegionAwareLoss"]'
    resumed(tmp_path, small_config(tmp_path), override)
    assert "RegionAwareLoss begins anew" in caplog.text
    caplog.clear()
    tree = small_config(tmp_path)
    tree["loss"] = "RegionAwareLoss"
    resumed(tmp_path, tree, "loss=CrossEntropyLoss2d")
    assert "begins anew" not in caplog.text


# --- settings that would do nothing


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("amp=BF16", "amp: \"BF16\" is not a choice; did you mean 'bf16'?"),
        ("threshold=serach", "threshold: \"serach\" is not a choice; did you mean 'search'?"),
        ('loss={"type":"DiceLoss","args":{"class_weights":"Auto"}}',
         "class_weights: \"Auto\" is not a choice; did you mean 'auto'?"),
        ('loss={"type":"DiceLoss","weight":0}', "every weight is 0"),
        ('loss={"type":"DiceLoss","args":{"class_weights":[0,0,0,0,0,0]}}',
         "class_weights: every weight is 0"),
        ('loss={"type":"TverskyLoss","args":{"alpha":0,"beta":0}}', "it and beta are both 0"),
        ('loss=["DiceLoss",{"type":"DiceLoss","args":{"class_weights":[1,2]}}]',
         "loss.1.args.class_weights: 2 class weights for 6 classes"),
        ("optimizer.args.foreach=true", "cannot be `True` together"),
        ("optimizer.args.differentiable=true", "the program sets this itself"),
    ],
)  # fmt: skip
def test_exception_settings(tmp_path, capsys, override, words):
    tree = small_config(tmp_path)
    tree["optimizer"]["args"]["fused"] = True
    assert run(tmp_path, tree, "-o", override)[0] == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


def test_feature_fp16_says_what_it_left_out(tmp_path, caplog, recwarn):
    tree = small_config(tmp_path, epochs=1)
    tree["amp"] = "fp16"
    tree["loss"] = {"type": "CrossEntropyLoss2d", "weight": 100}
    assert run(tmp_path, tree)[0] == 0
    assert "their gradients overflowed" in caplog.text
    assert not [w for w in recwarn if "optimizer.step()" in str(w.message)]


def test_feature_a_small_validation_picture_does_not_end_rmi(tmp_path, capsys):
    tree = small_config(tmp_path, epochs=1)
    tree["loss"] = {"type": "RMILoss", "args": {"downsampling": 8}}
    tree["val_loader"]["args"]["image_size"] = 16
    assert run(tmp_path, tree)[0] == 0
    tree["loss"]["args"]["downsampling"] = 20
    assert run(tmp_path, tree)[0] == 2
    assert "loss.args.downsampling: images of 32x32 pixels" in (capsys.readouterr().err)
