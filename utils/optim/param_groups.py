"""Parameter groups: the learning rate and weight decay of each parameter."""

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class LayerRate(NamedTuple):
    """The name of a parameter's layer, for a message; and the factor of its learning rate."""

    name: str
    factor: float


def parameter_groups(
    model: nn.Module,
    backbone: Sequence[nn.Module],
    rate: float,
    *,
    backbone_rate: float | None = None,
    layer_decay: float | None = None,
    no_decay: bool = False,
) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: every parameter that trains, each in one of them.

    rate(p) = rate * backbone_rate * layer_decay ** n for a parameter of the backbone that n layers
    divide from its end, counting its own; what is not the backbone's has the rate itself.
    Parameters of one rate and one weight decay are one group; what is not the backbone's comes
    first, then the backbone from its end to its beginning.

    Paper: BEiT, https://arxiv.org/abs/2106.08254 (appendix: layer-wise learning rate decay).
    Differs from the paper: any backbone has layers, not transformers only; see `backbone_layers()`.

    Args:
        model: The model whose parameters train.
        backbone: The modules of its backbone, from input to output.
        rate: The optimizer's learning rate.
        backbone_rate: The backbone's learning rate over it; None for one rate.
        layer_decay: The rate of a layer over that of the next; None for one rate in the backbone.
        no_decay: No weight decay on what `decays()` says no to.
    """
    rates = _rates_by_parameter(backbone, backbone_rate, layer_decay)
    whole = LayerRate("decoder" if rates else "all", 1.0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if rates:
        order = {key: index for index, key in enumerate(rates)}
        parameters.sort(key=lambda p: order.get(id(p), -1))
    kept = _without_decay(model) if no_decay else set()
    named = layer_decay is not None or no_decay
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for parameter in parameters:
        found, decayed = rates.get(id(parameter), whole), id(parameter) not in kept
        key = (found.factor, decayed)
        if key not in groups:
            groups[key] = {"params": []}
            if found.factor != 1:
                groups[key]["lr"] = rate * found.factor
            if not decayed:
                groups[key]["weight_decay"] = 0.0
            if named:
                groups[key]["name"] = found.name if decayed else f"{found.name}, no decay"
                # A schedule may change all other rates of the group before its first step.
                groups[key]["rate"] = rate * found.factor
        groups[key]["params"].append(parameter)
    return list(groups.values())


def decays(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Return whether weight decay is meant for a parameter: weights of products, convolutions.

    Not for biases, the weights of norms, slopes and scales, which are vectors; and not for what a
    transformer adds to its tokens: position embeddings, class tokens, tables of relative positions.
    """
    product = parameter.ndim > 1 and name.endswith("weight")
    return product and not isinstance(module, nn.Embedding)


def backbone_layers(backbone: Iterable[nn.Module]) -> list[list[nn.Parameter]]:
    """Return the parameters of a backbone that train, by layer, in order, each once.

    A layer of a network of timm is what its `group_matcher()` calls one. Elsewhere it is a block:
    an entry of a series of modules that are made of others. Norms that stand alone belong to the
    layer before them.
    """
    layers: list[list[nn.Parameter]] = []
    seen: set[int] = set()
    for layer in (layer for module in backbone for layer in _layers(module)):
        fresh = [p for p in layer if p.requires_grad and id(p) not in seen]
        seen |= {id(p) for p in fresh}
        if layers and all(p.ndim < 2 for p in fresh):
            layers[-1] += fresh
        elif fresh:
            layers.append(fresh)
    return layers


def state_size(optimizer: torch.optim.Optimizer) -> int:
    """Return about how many bytes the optimizer state will take after the first step.

    Returns:
        The number; 0 for an optimizer that cannot be asked, as it needs a closure or a GPU.
    """
    parameter, state = _state_of_a_step(optimizer)
    ratio = sum(value.nbytes for value in state.values()) / parameter.nbytes
    trained = (p for group in optimizer.param_groups for p in group["params"])
    return int(ratio * sum(p.nbytes for p in trained))


def check_state(optimizer: torch.optim.Optimizer) -> None:
    """Look whether a state that was loaded is one that the optimizer can go on from.

    Raises:
        ValueError: If it is not.
    """
    parameter, expected = _state_of_a_step(optimizer)
    for index, (trained, state) in enumerate(optimizer.state.items()):
        for name, value in expected.items():
            found = state.get(name)
            if not isinstance(found, Tensor):
                raise ValueError(f"the state of parameter {index} has no {name}")
            if value.shape == parameter.shape and found.shape != trained.shape:
                shapes = [tuple(tensor.shape) for tensor in (found, trained)]
                raise ValueError(f"{name} of parameter {index} is {shapes[0]}, not {shapes[1]}")


def _state_of_a_step(optimizer: torch.optim.Optimizer) -> tuple[nn.Parameter, dict[str, Tensor]]:
    """Return a small parameter and the state of another optimizer after a step with it."""
    parameter = nn.Parameter(torch.zeros(64, 64))
    parameter.grad = torch.zeros_like(parameter)
    arguments = inspect.signature(type(optimizer)).parameters
    settings = {name: value for name, value in optimizer.defaults.items() if name in arguments}
    try:
        other = type(optimizer)([parameter], **settings)
        other.step()
    except Exception:  # it wants a closure, a GPU, or two kinds of parameters
        return parameter, {}
    state = other.state[parameter].items()
    return parameter, {name: value for name, value in state if isinstance(value, Tensor)}


def describe_groups(groups: Iterable[dict[str, Any]]) -> str:
    """Return a line for each named group: its name, configured rate, weight decay and size."""
    return "\n".join(
        f"  {i}  {group['name']}: rate {group['rate']:.3g}, weight decay "
        f"{group['weight_decay']:g}, {sum(p.numel() for p in group['params'])} parameters"
        for i, group in enumerate(groups)
    )


def _rates_by_parameter(
    backbone: Sequence[nn.Module], backbone_rate: float | None, layer_decay: float | None
) -> dict[int, LayerRate]:
    """Return the learning rate of each backbone parameter by its id, from output to input."""
    if backbone_rate is None and layer_decay is None:
        return {}
    factor = 1.0 if backbone_rate is None else backbone_rate
    if layer_decay is None:
        parameters = (p for module in backbone for p in module.parameters())
        return {id(p): LayerRate("backbone", factor) for p in parameters}
    layers = backbone_layers(backbone)
    return {
        id(parameter): LayerRate(
            f"backbone layer {index}", factor * layer_decay ** (len(layers) - index)
        )
        for index, layer in reversed(list(enumerate(layers)))
        for parameter in layer
    }


def _without_decay(model: nn.Module) -> set[int]:
    return {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if not decays(module, name, parameter)
    }


def _layers(module: nn.Module, entry: bool = False) -> Iterator[list[nn.Parameter]]:
    """Yield the layers of a module; an entry of a series is one, unless it is a series itself."""
    architecture = _timm_name(module)
    if architecture:
        yield from _timm_layers(module, architecture)
    elif not _is_series(module, entry):
        yield list(module.parameters())
    else:
        yield list(module.parameters(recurse=False))  # tokens, position embeddings
        for child, of_series in _children(module):
            yield from _layers(child, of_series)


def _is_series(module: nn.Module, entry: bool) -> bool:
    children = _children(module)
    if any(_timm_name(child) for child, _ in children):
        return True
    made_of_others = [
        (child, of_series) for child, of_series in children if len(list(child.children()))
    ]
    if isinstance(module, _LISTS):
        return bool(made_of_others)
    return not entry and any(
        _is_series(child, of_series) or (of_series and not isinstance(child, _LISTS))
        for child, of_series in made_of_others
    )


def _children(module: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Return the children with parameters, in order, and whether each is one of a series."""
    named = [pair for pair in module.named_children() if len(list(pair[1].parameters()))]
    children = [child for _, child in _by_stage(named)]
    kinds = Counter(type(child) for child in children)
    is_list = isinstance(module, _LISTS)
    return [(child, is_list or kinds[type(child)] > 1) for child in children]


def _by_stage(named: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Sort children by their stages, where all are numbered by them.

    Such as embed1, embed2, block1, block2, in SegFormer's encoder.
    """
    stages: dict[str, list[str]] = {}
    for name, _ in named:
        stem = name.rstrip("0123456789")
        stages.setdefault(stem if stem != name else "", []).append(name.removeprefix(stem))
    numbers = list(stages.values())
    if "" in stages or any(other != numbers[0] for other in numbers):
        return named
    return sorted(named, key=lambda pair: int(re.findall(r"\d+$", pair[0])[0]))


def _timm_name(module: nn.Module) -> str | None:
    settings: Any = getattr(module, "pretrained_cfg", None)
    return settings.get("architecture") if hasattr(settings, "get") else None


def _timm_layers(network: nn.Module, architecture: str) -> Iterator[list[nn.Parameter]]:
    """Yield the layers of a network of timm, whole or a pyramid of features.

    A pyramid has no `group_matcher()`, so that of the whole network is used, without any memory.
    """
    import timm
    from timm.models import group_parameters

    with torch.device("meta"):
        whole: Any = timm.create_model(architecture)
    numbers = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
    # A pyramid joins the first parts of a name by _.
    known = {name.replace(".", "_"): number for name, number in numbers.items()}
    layers: dict[int, list[nn.Parameter]] = {}
    number = 0
    for name, parameter in network.named_parameters():
        number = known.get(name.removeprefix("model.").replace(".", "_"), number)
        layers.setdefault(number, []).append(parameter)
    for number in sorted(layers):
        yield layers[number]
