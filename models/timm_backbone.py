"""Networks of timm with a pyramid of features, as backbones."""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.layout import crop, divide_up, pad_to_multiple
from models.pretrained import no_answer, read_weights, warn_of_differences
from models.probe import outputs_of
from utils.cli.sanitize import first_line
from utils.config.errors import suggest

PREFIX = "timm/"
"""The prefix of timm's names in a config."""

REDUCTIONS = (4, 8, 16, 32)
"""The strides of the pyramid that a head expects, before any is left out."""


class TimmBackbone(nn.Module):
    """Four feature maps of a network of timm, at strides 4, 8, 16 and 32.

    Source: PyTorch Image Models, https://github.com/huggingface/pytorch-image-models

    Args:
        name: timm's name, such as `"convnext_tiny"`, with or without a tag of weights.
        in_channels: Channels of the images.
        output_stride: Largest stride; with 8 or 16 the last stages dilate instead, which not every
            network can do.
        pretrained: True loads timm's weights for the name (an earlier download, or from its hub), a
            string is the path of a local file, false starts from scratch.

    Raises:
        ValueError: If timm has no such network, it lacks one of these strides, it takes images of
            one size only, or its weights cannot be downloaded or read.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        output_stride: int = 32,
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        timm = import_timm()
        if not timm.is_model(name):
            hint = suggest(name, timm.list_models())
            raise ValueError(f"timm has no network named {name!r}{hint}")
        self.name = name
        settings: dict[str, Any] = {"features_only": True, "in_chans": in_channels}
        if output_stride != 32:
            settings["output_stride"] = output_stride
        if pretrained:
            path = timm_weights(name) if pretrained is True else local_file(pretrained)
            settings |= weights_overlay(path)
        with missing_weights() as missing:
            self.network = _create(name, settings)
        if pretrained:
            report_missing(missing, self.network, f"timm/{name}", path)
        info = self.network.feature_info
        reductions = tuple(min(r, output_stride) for r in REDUCTIONS)
        if tuple(info.reduction()[-4:]) != reductions:
            raise ValueError(
                f"timm/{name} has features at strides {', '.join(map(str, info.reduction()))}; "
                f"a backbone needs {', '.join(map(str, reductions))} at the end"
            )
        self.channels: tuple[int, ...] = tuple(info.channels()[-4:])
        self.strides = reductions
        self.channels_first = self._probe(in_channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, C, H, W) to four maps (B, channels[i], ceil(H / stride), ceil(W / stride))."""
        height, width = images.shape[2:]

        # Padding, as many networks drop or refuse what does not fill a patch
        maps = self.network(pad_to_multiple(images, REDUCTIONS[-1]))[-4:]
        if not self.channels_first:
            maps = [features.permute(0, 3, 1, 2) for features in maps]

        # Cropping to the size without padding
        return [
            crop(features, divide_up(height, stride), divide_up(width, stride))
            for features, stride in zip(maps, self.strides, strict=True)
        ]

    def _probe(self, in_channels: int) -> bool:
        """Return whether the maps are (B, C, H, W) rather than (B, H, W, C)."""
        height, width = 2 * REDUCTIONS[-1], 3 * REDUCTIONS[-1]
        try:
            deepest = outputs_of(self.network, torch.zeros(1, in_channels, height, width), 4)[-1]
        except ValueError as error:
            raise ValueError(f"timm/{self.name} {error}; choose another backbone") from error
        return deepest.shape[1] == self.channels[-1]


def import_timm() -> Any:
    """Return the package timm.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"timm is needed ({error}): pip install timm") from error
    return timm


def weights_overlay(path: Path) -> dict[str, Any]:
    """Return the arguments of `timm.create_model()` that fill the network from a file."""
    return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": read_weights(path)}}


@contextlib.contextmanager
def missing_weights() -> Iterator[list[str]]:
    """Collect the names of the weights that timm does not find in a file.

    timm loads what fits and logs the rest, where nobody reads it. A name that the file has and the
    network lacks begins with a `+`.
    """
    names: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = re.match(r"(Missing|Unexpected) keys \((.*?)\)", record.getMessage())
            if found:
                sign = "+" if found[1] == "Unexpected" else ""
                names.extend(sign + name for name in found[2].split(", "))

    log = logging.getLogger("timm.models._builder")
    before = (log.level, log.propagate)
    listener = Listener()
    log.addHandler(listener)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield names
    finally:
        log.removeHandler(listener)
        log.setLevel(before[0])
        log.propagate = before[1]


def report_missing(missing: list[str], network: nn.Module, what: str, path: Path) -> None:
    """Warn of weights that a file lacks, and of those that are not used.

    Raises:
        ValueError: If it lacks them all.
    """
    left_over = [name[1:] for name in missing if name.startswith("+")]
    missing = [name for name in missing if not name.startswith("+")]
    # A pyramid of features has no classifier, and joins the first parts of its names by _.
    own = [f"_{key.replace('.', '_')}" for key, _ in network.named_parameters()]
    own += [f"_{key.replace('.', '_')}" for key, _ in network.named_buffers()]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    missing = [n for n in missing if any(k.endswith(f"_{n.replace('.', '_')}") for k in own)]
    if len(missing) >= len(list(network.parameters())):
        raise ValueError(
            f"pretrained: {path} contains no weights of {what}: expected names such as {missing[0]}"
        )
    name = what.removeprefix(PREFIX).removeprefix("tu-")
    with torch.device("meta"):  # the whole network, for the names that a pyramid leaves out
        whole = set(import_timm().create_model(name).state_dict()) if left_over else set()
    left_over = [key for key in left_over if key not in whole]
    warn_of_differences(what, path, missing, left_over)


def local_file(path: str, argument: str = "pretrained") -> Path:
    """Return the file of weights that an argument names.

    Raises:
        ValueError: If there is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{argument}: cannot open {file}: no such file")
    return file


def timm_weights(name: str, argument: str = "pretrained") -> Path:
    """Return the file of the published weights of a network of timm, downloaded if needed.

    timm itself would retry for minutes where there is no network.

    Raises:
        ValueError: If there are none, or they cannot be downloaded.
    """
    timm = import_timm()
    settings = timm.models.get_pretrained_cfg(name)
    if settings is None or not settings.hf_hub_id:
        raise ValueError(
            f'timm has no weights of {name!r} on its hub: set "pretrained" to false or to a file'
        )
    what = f"the ImageNet weights of timm/{name}"
    return hub_file(settings.hf_hub_id, "model.safetensors", what, argument)


def hub_file(
    repository: str, file: str, what: str, argument: str, revision: str | None = None
) -> Path:
    """Return a file of the Hugging Face hub, downloaded if needed.

    Raises:
        ValueError: If it is not there and cannot be downloaded.
    """
    import huggingface_hub as hub

    known = hub.try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(known, str):
        return Path(known)
    url = hub.hf_hub_url(repository, file, revision=revision)
    reason = no_answer(url)
    if not reason:
        try:
            return Path(hub.hf_hub_download(repository, file, revision=revision))
        except (OSError, ValueError, RuntimeError) as error:
            reason = first_line(error)
    raise ValueError(
        f"cannot download {what} ({reason}). Fetch {url} on a machine that can, put the file "
        f'anywhere and give its path as "{argument}". Without pretrained weights the model trains '
        "from scratch"
    )


def _create(name: str, settings: dict[str, Any]) -> Any:
    timm = import_timm()
    # Networks with windows take one size only without this; the others do not have the argument.
    for extra in ({"strict_img_size": False}, {}):
        with contextlib.suppress(TypeError):
            return _checked_create(timm, name, {**settings, **extra})
    if "output_stride" in settings:
        raise ValueError(
            f"timm/{name} cannot leave out strides, so its output stride is 32 and not "
            f"{settings['output_stride']}: choose a convolutional backbone such as "
            "timm/convnext_tiny, or UperNet, which takes any pyramid"
        )
    return timm.create_model(name, **settings)


def _checked_create(timm: Any, name: str, settings: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, **settings)
    except AssertionError as error:
        # HRNet and others refuse output_stride in this way.
        raise TypeError(str(error)) from error
    except (RuntimeError, OSError, KeyError) as error:
        text = (str(error) or type(error).__name__).splitlines()
        raise ValueError(f"timm/{name} cannot be built: {' '.join(text)[:300]}") from error
