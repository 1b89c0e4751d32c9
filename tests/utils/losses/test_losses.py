"""What every loss promises. Their values have a file for each family."""

import inspect

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.loss_cases import CLASS_WEIGHTS, OTHER_VALUES, case, make
from utils import losses

NAMES = losses.__all__

# What torch.use_deterministic_algorithms(True) refuses on CUDA, of what a loss might use:
# https://pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
REFUSED_ON_CUDA = {
    "nll_loss2d_forward", "nll_loss2d_backward", "adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "max_unpool2d", "histc",
    "kthvalue", "median", "grid_sampler_2d_backward", "reflection_pad2d_backward", "ctc_loss",
    "fractional_max_pool2d_backward", "upsample_bicubic2d_backward", "_cdist_backward",
    "put_", "resize_", "bincount",
}  # fmt: skip


@pytest.mark.parametrize("ignore_index", [255, -1, -100, 1])
@pytest.mark.parametrize("name", NAMES)
def test_feature_ignored_pixels_change_nothing(name, ignore_index):
    logits, labels = case(ignore_index)
    loss = make(name, ignore_index=ignore_index)
    ignored = (labels == ignore_index).unsqueeze(1)
    other = torch.where(ignored, logits * -50 + 3, logits).requires_grad_()
    value = loss(other, labels)
    assert value.item() == pytest.approx(loss(logits, labels).item(), abs=1e-12)
    value.backward()
    assert (other.grad[ignored.expand_as(other)] == 0).all()
    assert other.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_feature_all_ignored_is_zero(name):
    logits, labels = case()
    logits.requires_grad_()
    for loss in (make(name), make(name, class_weights=CLASS_WEIGHTS), make(name).train()):
        logits.grad = None
        value = loss(logits, torch.full_like(labels, 255))
        (value * 1e3).backward()  # as with a weight in the config
        assert value.item() == 0
        assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_feature_one_picture_all_ignored_counts_as_absent(name):
    logits, labels = case()
    labels[1] = 255
    loss = make(name)
    other = loss(torch.stack([logits[0], -logits[1]]), labels).item()
    assert loss(logits, labels).item() == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_feature_arguments_are_left_alone(name):
    logits, labels = case()
    before = logits.clone(), labels.clone()
    make(name).train()(logits, labels)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_double_precision(name, weights):
    logits, labels = case()
    loss = make(name, class_weights=weights)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits, fast_mode=True)


@pytest.mark.parametrize("size", [0.0, 1.0, 80.0, 1e4])
@pytest.mark.parametrize("name", NAMES)
def test_feature_extremes_are_finite(name, size):
    logits, labels = case(dtype=torch.float32)
    right = torch.nn.functional.one_hot(labels.where(labels != 255, 0), 4).movedim(-1, 1) * 2.0 - 1
    for kind in (logits.sign(), right, -right):
        extreme = (kind * size).requires_grad_()
        value = make(name)(extreme, labels)
        value.backward()
        assert value.isfinite()
        assert extreme.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_feature_bf16_is_close(name):
    logits, labels = case(dtype=torch.float32)
    logits = logits.bfloat16()
    loss = make(name)
    expected = loss(logits.float(), labels).item()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits.requires_grad_(), labels)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == expected
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_feature_every_argument_changes_the_result(name):
    arguments = inspect.signature(getattr(losses, name)).parameters.keys()
    others = OTHER_VALUES.get(name, {})
    assert others.keys() == arguments - {"class_weights", "ignore_index"}
    logits, labels = case()
    labels[labels == 3] = 0  # a class does not occur
    foreground = labels == 1
    usual = make(name)(logits, labels, foreground).item()
    for argument, value in {**others, "class_weights": CLASS_WEIGHTS}.items():
        other = make(name, **{argument: value})(logits, labels, foreground).item()
        assert abs(other - usual) > 1e-6, argument
    labels = labels.where(labels != 255, 1)
    values = [make(name, ignore_index=ignored)(logits, labels).item() for ignored in (255, 1)]
    assert abs(values[0] - values[1]) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_feature_one_channel_is_the_pair_of_zero_and_it(name):
    _, labels = case(classes=2)
    single = case(classes=1)[0]
    pair = torch.cat([torch.zeros_like(single), single], 1)
    loss = make(name, class_weights=[0.5, 2.0])
    assert loss(single, labels).item() == pytest.approx(loss(pair, labels).item(), abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), single.requires_grad_())


@pytest.mark.parametrize("name", NAMES)
def test_feature_deterministic_on_cuda(name):
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.add(function.overloadpacket.__name__)
            if function.overloadpacket.__name__ == "cumsum":
                assert not args[0].is_floating_point()
            return function(*args, **(kwargs or {}))

    seen = set()
    logits, labels = case(dtype=torch.float32)
    loss = make(name, class_weights=CLASS_WEIGHTS).train()
    with Watch():
        loss(logits.requires_grad_(), labels).backward()
    assert not seen & REFUSED_ON_CUDA
    assert seen


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_feature_same_on_cuda_twice(name):
    torch.use_deterministic_algorithms(True)
    try:
        logits, labels = case(dtype=torch.float32)
        grads = []
        for _ in range(2):
            leaf = logits.cuda().requires_grad_()
            value = make(name).cuda()(leaf, labels.cuda())
            value.backward()
            grads.append(leaf.grad)
        assert torch.equal(*grads)
        assert value.item() == pytest.approx(make(name)(logits, labels).item(), rel=1e-4)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", NAMES)
def test_exception_of_every_loss(name):
    logits, labels = case()
    with pytest.raises(ValueError, match="2 class weights for 4 classes"):
        getattr(losses, name)(class_weights=[1.0, 1.0])(logits, labels)
    with pytest.raises(ValueError, match="class_weights: .*-1.0"):
        getattr(losses, name)(class_weights=[1.0, -1.0])
    with pytest.raises(ValueError, match="class_weights"):
        getattr(losses, name)(class_weights="auto")
    with pytest.raises(ValueError, match=r"expected \(B, K, H, W\)"):
        getattr(losses, name)()(logits, labels[:, :-1])
