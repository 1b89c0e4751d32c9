"""Find, download, adapt and load ImageNet weights."""

import http.client
import logging
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.checkpoint.weights_file import WeightsFileError, read_safetensors, read_weights_file

logger = logging.getLogger(__name__)

_GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"

# Networks that torchvision does not have. The last eight characters of a file's name are the start
# of its SHA-256.
URLS: dict[str, str] = {
    "resnet50s": _GLUON + "gluon_resnet50_v1s-1762acc0.pth",  # s: with the deep stem
    "resnet101s": _GLUON + "gluon_resnet101_v1s-60fe0cc1.pth",
    "resnet152s": _GLUON + "gluon_resnet152_v1s-dcc41b81.pth",
    "xception": (
        "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/"
        "xception-43020ad28.pth"
    ),
    "drn_d_54": "http://dl.yf.io/drn/drn_d_54-0e0534ff.pth",
}

# Seconds. Without a network the message comes at once, not after the minutes of the system.
ANSWER_WITHIN = 3.0


def load_pretrained(
    trunk: nn.Module,
    name: str,
    pretrained: bool | str,
    *,
    rename: Callable[[str], str] = str,
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
    classifier: str = "fc.",
) -> None:
    """Fill a trunk with ImageNet weights.

    The first convolution is adapted to the trunk's number of channels, see `adapt_first_layer`.
    A warning names every weight that the file lacks, and every weight of the file that is not used
    except for its classifier.

    Args:
        trunk: A network with the key names of the published weights, such as `ResNet`. Its first
            weight is that of the first convolution.
        name: torchvision's name of the network, or a key of `URLS`.
        pretrained: False does nothing, True downloads (or takes an earlier download from torch
            hub's folder), a string is the path of a local file.
        rename: Returns the trunk's name for a name in the file.
        convert: Returns the trunk's weights for those of the file, where new names are not enough.
        classifier: Prefix of the names of the file's own classifier.

    Raises:
        ValueError: If the weights cannot be downloaded or read, or are those of another kind of
            network.
    """
    if pretrained is False:
        return
    path = downloaded(name) if pretrained is True else Path(pretrained).expanduser()
    weights = {rename(key): value for key, value in convert(read_weights(path)).items()}
    wanted = trunk.state_dict()
    first = next(iter(wanted))
    if first in weights and weights[first].dim() == wanted[first].dim():
        weights[first] = adapt_first_layer(weights[first], wanted[first].shape[1])

    fitting = {k: v for k, v in weights.items() if k in wanted and v.shape == wanted[k].shape}
    # BatchNorm counts its batches, which matters without momentum only; older files lack the count.
    kept = [k for k in wanted if k not in fitting and not k.endswith("num_batches_tracked")]
    left_over = [k for k in weights if k not in fitting and not k.startswith(classifier)]
    if not fitting:
        raise ValueError(
            f"{path} contains no weights of {name}: expected names such as {first}, "
            f"found {', '.join(list(weights)[:3]) or 'none'}"
        )
    trunk.load_state_dict(fitting, strict=False)
    warn_of_differences(name, path, kept, left_over)


def warn_of_differences(
    name: str, path: Path, missing: Sequence[str], left_over: Sequence[str]
) -> None:
    """Warn of the weights of a network that a file lacks, and of those that are not used."""
    for names, text in (
        (missing, f"{name} are not in {path} and keep their random values"),
        (left_over, f"{path} are not used by {name} and were not loaded"),
    ):
        if names:
            logger.warning("%d weights of %s: %s", len(names), text, ", ".join(names))


def adapt_first_layer(weight: Tensor, in_channels: int) -> Tensor:
    """Return RGB filters for another number of channels, as timm and SMP do.

    One channel gets the sum of the three filters, as for a grey image. More channels get the
    filters for red, green, blue, red, ... in turn, times 3 / in_channels, so that activations keep
    their scale.

    Args:
        weight: (filters, 3, height, width).
        in_channels: The channels wanted.

    Returns:
        (filters, in_channels, height, width); the same tensor where the number is the same.
    """
    channels = weight.shape[1]
    if channels == in_channels:
        return weight
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = torch.arange(in_channels) % channels
    return weight[:, turns] * (channels / in_channels)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file or in its checkpoint, without `module.` prefixes.

    Args:
        path: A file of `torch.save`, or a `.safetensors`. Only tensors and plain containers are
            read from it.

    Raises:
        ValueError: If there is no such file or it does not contain a state dict.
    """
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        content = read_weights_file(path)
    except OSError as error:
        raise ValueError(f"pretrained: cannot open {path}: {error.strerror or error}") from error
    except WeightsFileError as error:
        raise ValueError(
            f"pretrained: {path} is damaged or not a file of weights: it {error}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(
            f"pretrained: {path} contains a {type(content).__name__}, not a state dict"
        )
    return {
        str(key).removeprefix("module."): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }


def downloaded(name: str) -> Path:
    """Return the file of the published weights in torch hub's folder, downloaded if needed.

    Raises:
        ValueError: If the file is not there and cannot be downloaded.
    """
    url = weights_url(name)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.exists():
        return path
    reason = no_answer(url) or _download(url, path)
    if reason:
        raise ValueError(
            f"cannot download the ImageNet weights of {name} ({reason}). "
            f"Fetch {url} on a machine that can, and put the file at {path}, or give its path as "
            '"pretrained". With "pretrained": false the model trains from scratch'
        )
    return path


def weights_url(name: str) -> str:
    """Return the address of the published weights of a network."""
    if name in URLS:
        return URLS[name]
    from torchvision.models import get_model_weights  # here, as it takes two seconds

    return get_model_weights(name)["IMAGENET1K_V1"].url


def no_answer(url: str) -> str:
    """Return why the server cannot be reached, or an empty string."""
    reason = f"no answer within {ANSWER_WITHIN:.0f} s"

    def ask() -> None:
        nonlocal reason
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "torch.hub"})
            urllib.request.urlopen(request, timeout=ANSWER_WITHIN).close()
            reason = ""
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error))

    # In a thread, as no timeout of Python covers the lookup of the host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN)
    return reason


def _download(url: str, path: Path) -> str:
    """Download a file; return why that failed, or an empty string."""
    hash_prefix = path.stem.rpartition("-")[2]
    patience = socket.getdefaulttimeout()
    try:
        os.makedirs(path.parent, exist_ok=True)
        socket.setdefaulttimeout(ANSWER_WITHIN)  # torch hub itself never times out
        torch.hub.download_url_to_file(url, str(path), hash_prefix)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        return str(error)
    finally:
        socket.setdefaulttimeout(patience)
    return ""
