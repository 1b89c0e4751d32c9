"""The operators that a file of `torch.export` may call: mathematics, and nothing else."""

import operator
from collections.abc import Callable
from typing import Any

import torch

# Of torch.ops.aten: what networks are made of. None reads a file, as `aten::from_file` does.
_ATEN_NAMES = """
__and__ __or__ _adaptive_avg_pool2d _assert_scalar _assert_tensor_metadata
_native_batch_norm_legit_no_training _softmax _to_copy _unsafe_view abs adaptive_avg_pool2d
adaptive_max_pool2d add addmm alias amax amin any arange argmax argmin as_strided avg_pool2d
baddbmm batch_norm bilinear bitwise_and bitwise_not bitwise_or bmm cat ceil celu channel_shuffle
chunk clamp clamp_max clamp_min clone concat constant_pad_nd contiguous conv1d conv2d
conv_transpose2d convolution copy cos cumsum detach diff div dropout einsum elu empty_like eq erf
exp expand expand_as eye feature_dropout flatten flip floor floor_divide full full_like gather ge
gelu glu grid_sampler grid_sampler_2d group_norm gt hardsigmoid hardswish hardtanh im2col index
index_put index_select instance_norm isfinite layer_norm le leaky_relu lerp lift_fresh_copy linear
linspace log log_softmax logical_and logical_not logical_or logit logsumexp lt masked_fill matmul
max max_pool2d max_pool2d_with_indices max_unpool2d maximum mean meshgrid min minimum mish mm
movedim mul mv narrow native_batch_norm native_group_norm native_layer_norm ne neg norm numpy_T
ones ones_like outer pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal
reflection_pad2d relu relu6 remainder repeat repeat_interleave replication_pad2d reshape
reshape_as rms_norm roll round rsqrt rsub scalar_tensor scaled_dot_product_attention scatter
scatter_add select selu sigmoid sign silu sin slice slice_scatter softmax softplus split
split_with_sizes sqrt square squeeze stack std std_mean sub sum sym_numel sym_size
sym_storage_offset sym_stride t take tan tanh tensor_split threshold tile to topk transpose tril
triu type_as unbind unflatten unfold unsqueeze upsample_bicubic2d upsample_bilinear2d
upsample_nearest2d var var_mean view view_as where zeros zeros_like
"""
_ATEN = frozenset(_ATEN_NAMES.split())
# Of Python, between sizes.
_PYTHON_NAMES = "add and_ eq floordiv ge getitem gt le lt mod mul ne neg not_ or_ pow sub truediv"
_PYTHON = frozenset(_PYTHON_NAMES.split())
_SYMBOLIC_NAMES = "sym_float sym_int sym_ite sym_max sym_min sym_not sym_sqrt"
_SYMBOLIC = frozenset(_SYMBOLIC_NAMES.split())


def find_operator(target: str) -> Callable[..., Any]:
    """Return the operator that a file names.

    Raises:
        ValueError: If it is none of those that are known here.
    """
    parts = target.split(".")
    if parts[:3] == ["torch", "ops", "aten"] and len(parts) == 5:
        # An in-place operator has the same name with an underscore.
        if parts[3].removesuffix("_") in _ATEN or parts[3] in _ATEN:
            packet = getattr(torch.ops.aten, parts[3], None)
            if parts[4] in (packet.overloads() if packet is not None else ()):
                found: Callable[..., Any] = getattr(packet, parts[4])
                return found
    elif parts[0] == "_operator" and len(parts) == 2 and parts[1] in _PYTHON:
        python: Callable[..., Any] = getattr(operator, parts[1])
        return python
    elif parts[0] == "torch" and len(parts) == 2 and parts[1] in _SYMBOLIC:
        symbolic: Callable[..., Any] = getattr(torch, parts[1])
        return symbolic
    raise ValueError(f"it has an operator that is not known here, {target[:80]}")
