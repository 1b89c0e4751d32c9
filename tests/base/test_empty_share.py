"""Models on processes of which one has no image of a last, small batch."""

import pytest
import torch

from tests.models.test_models import as_tuple, build, total_of
from tests.processes import on_processes
from utils.distributed.collectives import all_reduce_sum, rank, world_size
from utils.distributed.sync_batch_norm import dummy_forward, synchronise

# One of each way to build a network; attention only libraries have.
KINDS = (
    "DeepLab_DUC_HDC", "ENet", "PSPDenseNet", "SegNet", "UNet", "SMP/DPT", "SMP/Segformer",
)  # fmt: skip


def trained(cases):
    """The gradients of the first process's two images, in double precision, of each model."""
    found = {}
    for case in cases:
        torch.manual_seed(0)
        model = build(case).double().train()
        for layer in model.modules():
            if "Drop" in type(layer).__name__:  # other units in each process
                layer.eval()
        if world_size() > 1:
            synchronise(model, torch.device("cpu"))
        size = max(64, model.min_size)
        images = torch.rand(2, 3, size, size, dtype=torch.float64)
        with dummy_forward(rank() == 1):
            outputs = as_tuple(model(images if rank() == 0 else images[:1]))
            total_of(tuple(logits[: 2 - 2 * rank()] for logits in outputs)).backward()
        found[case] = {
            name: all_reduce_sum(torch.zeros_like(p) if p.grad is None else p.grad.clone())
            for name, p in model.named_parameters()
        } | {name: b.clone() for name, b in model.named_buffers()}
    return found


@pytest.mark.slow
def test_feature_a_process_without_a_picture(tmp_path):
    """Gradients and statistics are those of one process."""
    expected = trained(KINDS)
    for results in on_processes(2, trained, KINDS, folder=tmp_path):
        for case, tensors in expected.items():
            # A shift in front of another normalisation has a gradient of rounding alone.
            largest = max(tensor.abs().max().item() for tensor in tensors.values())
            for name, tensor in tensors.items():
                close = torch.allclose(results[case][name], tensor, rtol=1e-6, atol=1e-9 * largest)
                assert close, (case, name)
