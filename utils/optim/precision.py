"""Mixed precision: which type, the scaler that fp16 needs."""

import contextlib
import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from utils.cli.choices import AMPS
from utils.config.types import Amp


class MixedPrecision:
    """Runs the network in 16 bits where that is safe, with weights and losses in 32.

    Paper: Mixed Precision Training, https://arxiv.org/abs/1710.03740 (of the scaled loss).
    Differs from the paper: which operations run in 16 bits is torch's choice (autocast).

    Args:
        amp: `"bf16"` or `"fp16"`; `"auto"` (or true) takes bf16 on a GPU that has it, fp16 on one
            that has not, and 32 bits on the CPU, where few gain by less; false for 32 bits.
        device: Where the network runs.

    Raises:
        ValueError: If the GPU cannot do what is asked for.
    """

    def __init__(self, amp: Amp, device: torch.device) -> None:
        self.device = device
        self._amp = amp
        self.dtype = _dtype_of(amp, device)
        # Small gradients vanish in fp16; bf16 has the range of float32.
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def describe(self) -> str:
        """Return the precision that the network runs in, and why."""
        asked = f"amp {json.dumps(self._amp)}"
        automatic = self._amp in ("auto", True)
        if self.dtype is None:
            text = "32 bits"
            if automatic:
                text += (
                    f" ({asked} means 16 bits on a CUDA GPU only; -o amp=bf16 asks for them on "
                    f"{self.device.type} too)"
                )
            return ", ".join(filter(None, (text, tf32_text(self.device))))
        name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]
        why = ": this GPU has no bf16" if automatic and name == "fp16" else ""
        return f"{name} ({asked}{why}); weights, losses and validation in 32 bits"

    def autocast(self) -> torch.autocast:
        """Return the context for a forward pass."""
        return torch.autocast(
            self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None
        )

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, scaled where fp16 needs that."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients those of the loss, before `step()`; for clipping."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Step the optimizer; in fp16 skip the step where a gradient has overflowed.

        Returns:
            Whether the weights were updated.
        """
        if not self._scaler.is_enabled():
            optimizer.step()
            return True
        scale = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        # Else a schedule would warn that it steps without an update.
        optimizer._opt_called = True  # type: ignore[attr-defined]
        return self._scaler.get_scale() >= scale

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state; empty without fp16."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict()` gave."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)


class InferencePrecision:
    """The precision that a network predicts in.

    Args:
        amp: `"off"` for 32 bits, `"bf16"`, `"fp16"`, or `"auto"`: bf16 where the device computes
            with it, fp16 on a GPU that does not, else 32 bits.
        device: Where the network runs.

    Raises:
        ValueError: If the device cannot do what is asked for.
    """

    def __init__(self, amp: str, device: torch.device) -> None:
        if amp not in AMPS:
            raise ValueError(f"there is no amp {amp!r}; choose from {', '.join(AMPS)}")
        self._device = device
        if device.type == "cpu" and amp == "auto":
            amp = "bf16" if cpu_has_bf16() else "off"
        if device.type == "cpu" and amp == "fp16":
            raise ValueError('amp: the CPU does not predict in fp16; use "bf16", or "auto"')
        self.dtype = _dtype_of(cast(Amp, False if amp == "off" else amp), device)

    @property
    def name(self) -> str:
        """Return "bf16" or "fp16"; empty for 32 bits."""
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(self.dtype, "")  # type: ignore[arg-type]

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context for a forward pass."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self.dtype)


def cpu_has_bf16() -> bool:
    """Return whether the processor computes with bf16; others emulate it, which is slower."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        names = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
        return any(capabilities.get(name, False) for name in names)
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def tf32_text(device: torch.device) -> str:
    """Return what a GPU computes in TF32, with 10 bits of mantissa, instead of 32 bits.

    Empty if nothing. That is torch's choice: by default convolutions, on GPUs that can.
    """
    if (
        device.type != "cuda"
        or torch.version.hip
        or torch.cuda.get_device_capability(device) < (8,)
    ):
        return ""
    backends = {
        "convolutions": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "matrix products": torch.backends.cuda.matmul.fp32_precision,
    }
    rounded = [name for name, precision in backends.items() if precision == "tf32"]
    return f"{' and '.join(rounded)} in TF32" if rounded else ""


def _dtype_of(amp: Amp, device: torch.device) -> torch.dtype | None:
    on_gpu = device.type == "cuda"
    has_bf16 = not on_gpu or torch.cuda.is_bf16_supported(including_emulation=False)
    if amp in ("auto", True):
        amp = ("bf16" if has_bf16 else "fp16") if on_gpu else False
    if amp == "bf16" and not has_bf16:
        raise ValueError('amp: this GPU has no bf16; use "fp16", or "auto"')
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(str(amp))
