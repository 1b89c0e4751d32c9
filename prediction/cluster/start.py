"""Ray started on this machine or found in a cluster, and what each actor gets."""

import importlib.util
import logging
import os
import secrets
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.cli.sanitize import first_line

ROOT = Path(__file__).resolve().parents[2]
# What actors on other machines import; a test compares it with the imports.
PACKAGES = ("base", "builders", "dataloaders", "inspection", "models", "prediction", "utils")
TOKEN_FILE = Path(".ray", "auth_token")  # below the home folder, where Ray looks for it
_STORE_BYTES = 256 << 20  # for Ray's own objects; models and names come on top


class Share(NamedTuple):
    """What each actor gets."""

    actors: int
    cpus: int
    gpus: float

    def text(self) -> str:
        """Return it in words."""
        actors = "1 actor" if self.actors == 1 else f"{self.actors} actors"
        threads = "1 thread" if self.cpus == 1 else f"{self.cpus} threads"
        on = f"{self.gpus:g} GPU" if self.gpus else "the CPU"
        return f"{actors}, each on {on} with {threads} of torch"


def check_installed() -> None:
    """Refuse to begin without Ray.

    Raises:
        ValueError: If it is missing.
    """
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow", "pandas")):
        raise ValueError('prediction.on_ray takes another package: pip install "ray[data]"')


def harden(environ: MutableMapping[str, str], address: str | None) -> None:
    """Set what Ray reads from the environment: no statistics, and nobody in without the token.

    Args:
        environ: The environment.
        address: That of a running cluster; None for a new one, which gets a token of its own,
            unless there is one in the environment.

    Raises:
        ValueError: If a cluster is meant and there is no token for it.
    """
    environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Else Ray warns of its own ways to restart actors, and of a killed process of its statistics.
    environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    has_token = bool(environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_TOKEN_PATH"))
    if address is None:
        environ["RAY_AUTH_MODE"] = "token"
        if not has_token:
            environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        return
    environ.setdefault("RAY_AUTH_MODE", "token")
    if environ["RAY_AUTH_MODE"] == "token" and not has_token and not _has_token_file():
        raise ValueError(
            f"--address: there is no token for the cluster: copy its ~/{TOKEN_FILE} here, or set "
            "RAY_AUTH_TOKEN. `ray get-auth-token --generate` makes one before the cluster starts; "
            "RAY_AUTH_MODE=disabled is for a cluster that takes commands from everybody"
        )


def _has_token_file() -> bool:
    return (Path.home() / TOKEN_FILE).is_file()


def share_out(
    resources: Mapping[str, float],
    *,
    actors: int | None,
    cpus: int,
    gpus: float | None,
    grows: bool,
) -> Share:
    """Return how many actors there are, and what each gets.

    Args:
        resources: What Ray has: `CPU` and `GPU`.
        actors: How many are wanted; None for one for each GPU, or one.
        cpus: Cores of each.
        gpus: GPUs of each; None for one, if there is one.
        grows: Whether there may be more later, as in a cluster that starts machines when needed.

    Raises:
        ValueError: If there are too few GPUs.
    """
    there = resources.get("GPU", 0.0)
    if gpus is None:
        gpus = 1.0 if there >= 1 else 0.0
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise ValueError(f"--gpus-per-actor: write 0, a part of 1, or a whole number, not {gpus:g}")
    if actors is None:
        actors = max(1, int(there // gpus)) if gpus else 1
    if not grows and actors * gpus > there:
        raise ValueError(
            f"--actors: {actors} with {gpus:g} GPU each take {actors * gpus:g}, and there are "
            f"{there:g}; give fewer actors, or --gpus-per-actor {there / actors:.2g}"
        )
    return Share(actors, cpus, gpus)


def start(
    address: str | None, *, actors: int | None, cpus: int, gpus: float | None, extra_bytes: int
) -> Share:
    """Start Ray on this machine, or connect to a running cluster; see `share_out()`.

    Args:
        address: That of the cluster; None to start one.
        actors: How many actors are wanted.
        cpus: Cores of each.
        gpus: GPUs of each.
        extra_bytes: The size of what is sent to the actors.

    Raises:
        ValueError: If there are too few GPUs, or the cluster cannot be reached.
    """
    harden(os.environ, address)
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        import torch

        count = torch.cuda.device_count()
        share = share_out({"GPU": count}, actors=actors, cpus=cpus, gpus=gpus, grows=False)
        ray.init(
            address="local",  # never what RAY_ADDRESS says
            num_cpus=share.actors * cpus,
            num_gpus=count,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES + 3 * extra_bytes,
            **quiet,
        )
        return share
    code = [str(ROOT / name) for name in PACKAGES]
    try:
        ray.init(address=address, runtime_env={"py_modules": code}, **quiet)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise ValueError(
            f"--address {address}: {first_line(error)}; is it running, and the token its own?"
        ) from None
    resources = ray.cluster_resources()
    return share_out(resources, actors=actors, cpus=cpus, gpus=gpus, grows=True)


def stop() -> None:
    """End what `start()` has started, and this process's part of a cluster."""
    import ray

    ray.shutdown()
