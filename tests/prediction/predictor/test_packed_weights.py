"""Convolutions with packed weights give what torch's own give, and leave the model as it is."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

import models
from prediction.predictor.network import Predictor
from prediction.predictor.packed_weights import PackedWeights, is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="needs oneDNN")


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=2, dilation=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 40, (1, 5), stride=(1, 2), padding=(0, 2)),
    ).eval()  # fmt: skip


def packed_in(weights, model):
    with weights.used():
        return {name for name, module in model.named_modules() if "forward" in vars(module)}


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 3, 40, 57), (3, 3, 9, 8), (1, 3, 1, 1), (0, 3, 8, 8)])
@pytest.mark.parametrize("amp", [False, True])
def test_feature_the_same_scores(layout, shape, amp):
    """Source: torch's own convolutions."""
    model = network()
    weights = PackedWeights(model)
    assert packed_in(weights, model) == {"0", "2", "5", "6"}  # not the depthwise one
    images = torch.randn(shape).to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        expected = model(images)
        with weights.used():
            got = model(images)
    assert got.dtype == expected.dtype
    # In half precision each of the layers may round to the other neighbour.
    tolerance = {"rtol": 0.02, "atol": 0.02} if amp else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(got, expected, **tolerance)


@torch.no_grad()
def test_feature_changed_weights_are_packed_again():
    model, images = network(), torch.randn(1, 3, 20, 20)
    weights = PackedWeights(model)
    with weights.used():
        before = model(images)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.mul_(1.5)
    model.load_state_dict(other.state_dict())
    with weights.used():
        after = model(images)
    assert (after - before).abs().max() > 0.1
    torch.testing.assert_close(after, model(images), rtol=1e-5, atol=1e-5)


def test_feature_the_model_stays_as_it_is():
    model = network()
    names, weights = set(model.state_dict()), PackedWeights(model)
    with torch.inference_mode(), weights.used():
        model(torch.randn(1, 3, 20, 20))
    assert set(model.state_dict()) == names and not packed_in(PackedWeights(nn.ReLU()), model)
    copy.deepcopy(model)
    with weights.used():  # and gradients flow
        model(torch.randn(1, 3, 20, 20)).sum().backward()
    assert model[0].weight.grad is not None


def test_feature_an_error_and_threads_leave_nothing_behind():
    model = network()
    weights = PackedWeights(model)
    with pytest.raises(ZeroDivisionError), weights.used():
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())
    barrier, failures = threading.Barrier(4), []
    images = torch.randn(1, 3, 24, 24)
    with torch.inference_mode():
        expected = model(images)

    def work():
        barrier.wait()
        try:
            for _ in range(30):
                with torch.inference_mode(), weights.used():
                    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and not packed_in(PackedWeights(nn.ReLU()), model)


class Own(nn.Conv2d):
    def forward(self, images):
        return 2 * super().forward(images)


def test_edge_other_convolutions_stay_as_they_are():
    with torch.inference_mode():
        frozen = nn.Conv2d(32, 64, 3)
    model = nn.Sequential(
        frozen, Own(32, 64, 3), nn.Conv2d(32, 64, 3, padding="same"),
        nn.Conv2d(32, 64, 3, padding=1, padding_mode="reflect"), nn.Conv2d(32, 64, 3).double(),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(32, 64, 3)), nn.Conv2d(3, 4, 3),
    )  # fmt: skip
    assert packed_in(PackedWeights(model), model) == set()


@pytest.mark.parametrize("mode", ["whole", "multiscale", "sliding"])
def test_feature_a_predictor_says_the_same(mode, monkeypatch):
    """Source: the same predictor without packed weights."""
    torch.manual_seed(0)
    model = models.PSPNet(4, backbone="resnet18", pretrained=False)
    image = np.random.default_rng(0).integers(0, 256, (75, 91, 3), dtype=np.uint8)
    logits = Predictor(model, [0.5] * 3, [0.25] * 3, "cpu", mode=mode).predict_logits(image)
    monkeypatch.setattr("prediction.predictor.packed_weights.is_available", lambda: False)
    plain = Predictor(model, [0.5] * 3, [0.25] * 3, "cpu", mode=mode).predict_logits(image)
    assert not torch.equal(logits, plain)  # so the other way was taken
    torch.testing.assert_close(logits, plain, rtol=1e-3, atol=1e-3)
