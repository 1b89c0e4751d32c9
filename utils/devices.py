"""The device that `--device` names, for every program."""

import logging
import os

import torch

from utils.cli.launcher import is_launched, local_rank
from utils.cli.sanitize import first_line
from utils.config.sections import Config

logger = logging.getLogger(__name__)


def restrict_visible_gpus(wanted: str | None) -> None:
    """Hide all GPUs but those of `--device 0,1`; CUDA reads the variable when it starts."""
    if wanted and all(word.strip().isdigit() for word in wanted.split(",")):
        os.environ["CUDA_VISIBLE_DEVICES"] = wanted


def resolve_device(wanted: str | None) -> torch.device:
    """Return the device `cpu`, `cuda`, `cuda:1` or a GPU's number; None: a GPU, else the CPU.

    Under torchrun each process takes the GPU of its local rank.

    Raises:
        ValueError: If there is no such device here.
    """
    there = torch.cuda.device_count()
    if is_launched() and wanted in (None, "cuda") and there:
        return _own_gpu()
    if is_launched() and wanted not in (None, "cpu", "cuda"):
        raise ValueError(
            f"--device {wanted}: under torchrun each process takes a GPU of its own; leave it out, "
            "or use cpu or cuda (CUDA_VISIBLE_DEVICES=1,3 names the GPUs)"
        )
    if wanted is None:
        return torch.device("cuda" if there else "cpu")
    return _checked(f"cuda:{wanted}" if wanted.isdigit() else wanted)


def resolve_training_device(wanted: str | None, config: Config) -> tuple[torch.device, int]:
    """Return the device to train on, and how many GPUs share a batch.

    Numbers of GPUs in `--device` have gone to `restrict_visible_gpus()` before.

    Raises:
        ValueError: If there is no such device here.
    """
    there = torch.cuda.device_count()
    if is_launched() and wanted != "cpu" and config.n_gpu and there:
        return _own_gpu(), 1
    if wanted is not None and not wanted[:1].isdigit():
        return _checked(wanted), 1
    if wanted is not None and not there:
        raise ValueError(f"--device {wanted}: no GPU was found; use --device cpu")
    if config.n_gpu == 0 or not there:
        if config.n_gpu > 0:
            logger.info("No GPU was found; training on the CPU.")
        return torch.device("cpu"), 0
    if config.n_gpu > there:
        logger.warning("n_gpu: %d, but %d found; using %d", config.n_gpu, there, there)
    n_gpu = min(config.n_gpu, there)
    if config.parallel == "DataParallel" and config.tree.get("use_synch_bn") and n_gpu > 1:
        logger.warning("use_synch_bn: with DataParallel each GPU normalises its own images")
    return torch.device("cuda"), n_gpu


def _own_gpu() -> torch.device:
    """Return the GPU of this process's local rank, and make it the current one."""
    there = torch.cuda.device_count()
    if local_rank() >= there:
        raise ValueError(
            f"torchrun starts more processes on this machine than it has GPUs ({there}); use "
            f"--nproc-per-node={there}, or --device cpu"
        )
    device = torch.device("cuda", local_rank())
    torch.cuda.set_device(device)  # or each process would take some of the first GPU, too
    return device


def _checked(name: str) -> torch.device:
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.device_count():
            raise ValueError(f"--device {name}: no GPU was found; use --device cpu")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise ValueError(
            f"--device: {name!r} cannot be used ({first_line(error)}); expected cpu, cuda, or "
            "numbers of GPUs"
        ) from None
    return device
