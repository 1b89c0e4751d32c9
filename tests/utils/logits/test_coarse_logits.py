"""Logits that are upsampled a tile at a time, against those that are upsampled at once."""

import functools
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import trainer
from tests import training_runs
from tests.models.test_models import CASES, as_params, build
from utils.config.sections import LossTerm
from utils.logits import coarse_logits
from utils.logits.coarse_logits import CoarseLogits, heads_of
from utils.losses.cross_entropy import CrossEntropyLoss2d
from utils.losses.dice import DiceLoss

# Coarse size, canvas and size of an image: whole and other factors, cut, equal, smaller, one pixel
SIZES = [
    ((3, 4), None, (12, 16)), ((4, 3), None, (29, 23)), ((3, 2), (24, 16), (21, 11)),
    ((5, 7), None, (5, 7)), ((9, 8), None, (7, 3)), ((1, 1), None, (6, 5)), ((2, 3), None, (1, 1)),
]  # fmt: skip
# Models that end with an upsampling, by the name of their case
UPSAMPLE = {
    "DeepLab", "DeepLab/mobilenet_v2", "DeepLabV3", "FCN", "PSPDenseNet", "PSPNet", "PSPNet/timm",
    "SMP/PAN", "SMP/Segformer", "SMP/UPerNet", "UperNet", "UperNet/timm",
}  # fmt: skip
every_size = pytest.mark.parametrize(("coarse", "canvas", "size"), SIZES)
both_ways = pytest.mark.parametrize("align_corners", [False, True])


@pytest.fixture(params=[1, 60, 2**20])
def tile(request, monkeypatch):
    """Tiles of one pixel, of a few, and of the whole image."""
    monkeypatch.setattr(coarse_logits, "TILE", request.param)
    monkeypatch.setattr(coarse_logits, "MAX_TILES", 10**6)


def draw(coarse, canvas, size, align_corners, classes=4, dtype=torch.float64):
    """Coarse logits with a gradient, and labels, a third of them ignored."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, classes, *coarse, generator=generator, dtype=dtype)
    labels = torch.randint(0, max(classes, 2), (2, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    return CoarseLogits(values.requires_grad_(), size, align_corners, canvas), labels


def both(loss, logits, labels):
    """Value and gradient of the loss of coarse and of upsampled logits."""
    found = []
    for given in (logits, logits.full()):
        logits.values.grad = None
        value = loss(given, labels)
        (3 * value).backward()
        found += [(value.detach(), logits.values.grad)]
    return found


@every_size
@both_ways
def test_feature_equals_upsampling_at_once(tile, coarse, canvas, size, align_corners):
    logits, labels = draw(coarse, canvas, size, align_corners)
    assert logits.shape == logits.full().shape == (2, 4, *size)
    expected = F.interpolate(
        logits.values, canvas or size, mode="bilinear", align_corners=align_corners
    )[:, :, : size[0], : size[1]]
    assert torch.equal(logits.full(), expected)
    assert torch.equal(logits.argmax(), expected.argmax(1))
    (value, gradient), plain = both(CrossEntropyLoss2d(), logits, labels)
    torch.testing.assert_close(value, plain[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, plain[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [1, 2, 150])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_feature_every_argument(tile, classes, smoothing, weighted):
    logits, labels = draw((3, 4), None, (9, 13), False, classes)
    weights = torch.linspace(0, 2, max(classes, 2)).tolist() if weighted else None
    loss = CrossEntropyLoss2d(weights, label_smoothing=smoothing)
    for one, other in zip(*both(loss, logits, labels), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    (value, gradient), _ = both(loss, logits, torch.full_like(labels, 255))
    assert value == 0 and (gradient == 0).all()


@both_ways
def test_feature_single_precision(align_corners):
    logits, labels = draw((17, 17), None, (129, 129), align_corners, 150, torch.float32)
    for one, other in zip(*both(CrossEntropyLoss2d(), logits, labels), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_feature_bf16_is_upsampled_in_32_bits():
    logits, labels = draw((3, 4), None, (24, 32), False, dtype=torch.float32)
    rough = logits._replace(values=logits.values.detach().bfloat16().requires_grad_())
    loss = CrossEntropyLoss2d()
    with torch.autocast("cpu", torch.bfloat16):
        value, ids = loss(rough, labels), rough.argmax()
    value.backward()
    exact = rough._replace(values=rough.values.detach().float())
    assert value.dtype == torch.float32
    assert value.item() == loss(exact, labels).item()
    assert torch.equal(ids, exact.argmax())
    assert rough.values.grad.dtype == torch.bfloat16


def test_feature_without_gradient():
    logits, labels = draw((3, 4), None, (24, 32), False)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            value = CrossEntropyLoss2d()(logits._replace(values=logits.values * 1), labels)
        assert value.item() == CrossEntropyLoss2d()(logits, labels).item()
        assert not value.requires_grad


def test_feature_other_losses_get_all_logits():
    logits, labels = draw((3, 4), None, (24, 32), False)
    assert torch.equal(DiceLoss()(logits, labels), DiceLoss()(logits.full(), labels))


def test_exception_labels_of_another_size():
    logits, labels = draw((3, 4), None, (24, 32), False)
    with pytest.raises(ValueError, match=r"logits \(2, 4, 24, 32\) and labels \(2, 24, 31\)"):
        CrossEntropyLoss2d()(logits, labels[..., 1:])


def test_cardinality_tiles():
    """They cover every pixel once, and there are at most about `MAX_TILES`."""
    logits = CoarseLogits(torch.zeros(16, 150, 65, 65), (513, 510), False)
    tiles = [tile.pixels[1:] for tile in coarse_logits._tiles(logits)]
    covered = torch.zeros(513, 510)
    for pixels in tiles:
        covered[pixels] += 1
    assert (covered == 1).all()
    assert coarse_logits.MAX_TILES <= len(tiles) <= 1.3 * coarse_logits.MAX_TILES


# What it is for


class Live(TorchDispatchMode):
    """Counts the bytes of what operations make, as long as it lives."""

    def __init__(self):
        super().__init__()
        self.sizes = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        known = {id_of(x) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and id_of(tensor) not in known | set(self.sizes):
                storage = tensor.untyped_storage()
                self.sizes[id_of(tensor)] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, id_of(tensor), None)
        self.peak = max(self.peak, sum(self.sizes.values()))
        return result


def id_of(tensor):
    return tensor.untyped_storage()._cdata


def peak_bytes(work):
    with Live() as live:
        work()
    return live.peak


def test_feature_a_third_of_the_memory():
    logits, labels = draw((33, 33), None, (225, 257), False, 75, torch.float32)
    loss = CrossEntropyLoss2d()
    whole = 4 * 2 * 75 * 225 * 257
    plain = peak_bytes(lambda: loss(logits.full(), labels).backward())
    assert plain >= 3 * whole  # the logits, their log-softmax, its gradient
    assert peak_bytes(lambda: loss(logits, labels).backward()) <= plain / 3
    assert peak_bytes(logits.argmax) <= whole / 3


# Models


@pytest.mark.parametrize("case", as_params(CASES))
def test_feature_models_leave_the_upsampling_out(case):
    model, images = build(case), torch.randn(2, 3, 33, 47)
    found = []
    for coarse in (False, True):
        model.coarse_logits_in_training = coarse
        torch.manual_seed(0)  # of the dropout
        found.append(heads_of(model.train()(images)))
    plain, outputs = found
    assert {isinstance(logits, CoarseLogits) for logits in outputs} == {case in UPSAMPLE}
    for logits, expected in zip(outputs, plain, strict=True):
        full = logits.full() if isinstance(logits, CoarseLogits) else logits
        assert torch.equal(full, expected)
    with torch.no_grad():
        assert isinstance(model.eval()(images), torch.Tensor)


@pytest.mark.slow
def test_feature_models_compile_as_one_graph():
    model, images = build("PSPNet").train(), torch.randn(2, 3, 33, 47)
    model.coarse_logits_in_training = True
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert [type(logits) for logits in compiled(images)] == [CoarseLogits] * 2


# Training


def step(tmp_path, monkeypatch, coarse):
    """The gradients of a training step, by name, its loss and its predictions."""
    monkeypatch.setattr(trainer, "MIN_CLASSES", 6 if coarse else 7)
    torch.manual_seed(0)
    model = build("FCN", num_classes=6, use_aux=True)
    loop = training_runs.make_trainer(tmp_path, model.train())
    assert model.coarse_logits_in_training is coarse
    batch = next(iter(loop.train_loader.epoch(1)))
    loss, predictions = loop.train_step(*loop.prepare_batch(batch), batch)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {**gradients, "loss": loss, "predictions": predictions}


def test_feature_a_training_step_is_the_same(tmp_path, monkeypatch):
    expected, found = (step(tmp_path, monkeypatch, coarse) for coarse in (False, True))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-6)


def test_feature_used_where_it_helps(tmp_path, monkeypatch):
    model = build("FCN", num_classes=6)

    def uses(*losses):
        terms = [(loss, LossTerm(type(loss).__name__)) for loss in losses]
        training_runs.make_trainer(tmp_path, model, terms)
        return model.coarse_logits_in_training

    assert not uses(CrossEntropyLoss2d())  # few classes
    monkeypatch.setattr(trainer, "MIN_CLASSES", 6)
    assert uses(CrossEntropyLoss2d(), CrossEntropyLoss2d())
    assert not uses(CrossEntropyLoss2d(), DiceLoss())
    several = functools.partial(trainer.Trainer, n_gpu=2)
    monkeypatch.setattr(training_runs, "Trainer", several)
    assert not uses(CrossEntropyLoss2d())


@pytest.mark.gpu
def test_feature_same_on_cuda_twice():
    torch.use_deterministic_algorithms(True)
    try:
        logits, labels = draw((17, 17), None, (129, 129), False, 150, torch.float32)
        found = []
        for _ in range(2):
            leaf = logits.values.detach().cuda().requires_grad_()
            value = CrossEntropyLoss2d().cuda()(logits._replace(values=leaf), labels.cuda())
            value.backward()
            found.append(leaf.grad)
        assert torch.equal(*found)
        torch.testing.assert_close(value.cpu(), CrossEntropyLoss2d()(logits, labels))
    finally:
        torch.use_deterministic_algorithms(False)
