"""Run a network of a library once, to find out which parameters it uses."""

import torch
from torch import Tensor, nn

from utils.cli.sanitize import first_line


def outputs_of(network: nn.Module, images: Tensor, last: int = 1) -> list[Tensor]:
    """Run a network once in evaluation mode and freeze the parameters without influence.

    Networks of libraries have parameters that their outputs here do not depend on. Those would
    never get a gradient, which stops a run on several processes.

    Args:
        network: Returns a tensor or a list of them.
        images: (B, C, H, W), small.
        last: The number of tensors at the end of the list that will be used.

    Returns:
        The outputs, detached.

    Raises:
        ValueError: If the network cannot take images of this size.
    """
    training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            outputs = network(images)
            outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)[-last:]
            parameters = [p for p in network.parameters() if p.requires_grad]
            total = torch.stack([output.float().sum() for output in outputs]).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    except (AssertionError, RuntimeError, ValueError) as error:
        size = "x".join(map(str, images.shape[2:]))
        raise ValueError(f"cannot be run on an image of {size} ({first_line(error)})") from error
    finally:
        network.train(training)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
    return [output.detach() for output in outputs]
