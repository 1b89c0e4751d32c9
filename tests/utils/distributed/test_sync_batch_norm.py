"""SyncBatchNorm on the CPU against torch's BatchNorm over the whole batch, in float64."""

import pytest
import timm.layers
import torch
from torch import nn

from tests.processes import on_processes
from utils.distributed.collectives import all_reduce_sum, rank, world_size
from utils.distributed.sync_batch_norm import CpuSyncBatchNorm, synchronise

CPU = torch.device("cpu")
LAYERS = {
    "plain": lambda: nn.BatchNorm2d(3),
    "not affine": lambda: nn.BatchNorm2d(3, affine=False),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None, eps=1e-2),
    "no statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "timm's with an activation": lambda: timm.layers.BatchNormAct2d(3),
}


def network(kind):
    """Two layers with a convolution between them, with parameters and statistics of their own."""
    torch.manual_seed(0)
    model = nn.Sequential(LAYERS[kind](), nn.Conv2d(3, 3, 3, padding=1), LAYERS[kind]()).double()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5 if "var" in name else -1, 1.5)
    return model


def trained(kind, images):
    """Output, gradients and buffers after two steps on this process's share of a batch."""
    model = synchronise(network(kind), CPU) if world_size() > 1 else network(kind)
    generator = torch.Generator().manual_seed(1)
    batch = 5 + torch.randn(images, 3, 4, 5, generator=generator, dtype=torch.float64)
    factors = torch.randn(batch.shape, generator=generator, dtype=torch.float64)
    mine = slice(rank(), None, world_size())
    own = batch[mine].clone().requires_grad_()
    for _ in range(2):
        own.grad = None
        model.zero_grad()
        output = model(own)
        (output * factors[mine]).square().sum().backward()
    gradients = {name: all_reduce_sum(p.grad.clone()) for name, p in model.named_parameters()}
    return output.detach(), own.grad, gradients, dict(model.state_dict())


def all_layers(images):
    return {kind: trained(kind, images) for kind in LAYERS}


@pytest.mark.parametrize("processes, images", [(2, 5), (3, 2)])
def test_feature_equals_the_statistics_of_the_whole_batch(processes, images, tmp_path):
    expected = all_layers(images)
    found = on_processes(processes, all_layers, images, folder=tmp_path)
    for kind, (output, gradient, gradients, buffers) in expected.items():
        for number, results in enumerate(found):
            own_output, own_gradient, own_gradients, own_buffers = results[kind]
            pairs = {
                "output": (own_output, output[number::processes]),
                "input": (own_gradient, gradient[number::processes]),
                **{name: (own_gradients[name], tensor) for name, tensor in gradients.items()},
                **{name: (own_buffers[name], tensor) for name, tensor in buffers.items()},
            }
            assert own_buffers.keys() == buffers.keys()
            for name, (own, whole) in pairs.items():
                assert own.shape == whole.shape, (kind, name)
                assert torch.allclose(own, whole, rtol=1e-12, atol=1e-12), (kind, name, number)


def one_value():
    layer = CpuSyncBatchNorm(nn.BatchNorm2d(3))
    try:
        layer(torch.zeros(int(rank() == 0), 3, 1, 1))
    except ValueError as error:
        return str(error)


def test_exception_one_value_in_all_processes(tmp_path):
    for message in on_processes(2, one_value, folder=tmp_path):
        assert "more than 1 value per channel" in message


def test_feature_one_process_or_evaluation_is_plain_batch_norm():
    for kind in LAYERS:
        plain, ours = network(kind), synchronise(network(kind), CPU)
        assert any(isinstance(layer, CpuSyncBatchNorm) for layer in ours)
        maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
        for mode in (True, False):
            assert torch.equal(plain.train(mode)(maps), ours.train(mode)(maps))
        for name, tensor in plain.state_dict().items():
            assert torch.equal(tensor, ours.state_dict()[name]), name


def test_feature_bf16_maps_stay_bf16(tmp_path):
    for maps in on_processes(2, bf16_maps, folder=tmp_path):
        assert maps.dtype == torch.bfloat16
        assert maps.isfinite().all()


def bf16_maps():
    return CpuSyncBatchNorm(nn.BatchNorm2d(3))(torch.randn(2, 3, 4, 4).bfloat16()).detach()


def test_feature_parameters_are_the_same_objects():
    model = network("plain")
    before = list(model.parameters())
    assert all(a is b for a, b in zip(before, synchronise(model, CPU).parameters(), strict=True))
