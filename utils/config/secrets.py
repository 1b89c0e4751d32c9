"""Keys and passwords: refused in a config, and removed from messages.

A config is stored in the run folder and in every checkpoint, and so is handed on with the model.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Where the libraries of the loggers look for keys themselves.
VARIABLES = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

_NAME = re.compile(r"(^|[_-])(api)?(key|token|password|passwd|secret|credential)s?$", re.IGNORECASE)
# Keys of Weights & Biases, former and present; of Databricks; JSON web tokens.
_VALUE = re.compile(
    r"(\w+-)?(?=\d*[a-f])[0-9a-f]{40,}|(\w+-)?wandb_v\d+_\w+|dapi[0-9a-f]{32}(-\d+)?|eyJ[\w-]+\.[\w-]+\.[\w-]+"
)
_ADDRESS = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*@")  # user:password@


def secret_problems(tree: Mapping[str, Any]) -> list[str]:
    """Return a line for each key or password in a config, with the variable to set instead.

    No line shows a value.
    """
    return [
        f"{path}: looks like a key or password, and a config is stored in every checkpoint; remove "
        f"it and set {_variable(path)} in the environment"
        for path, value in _texts(tree, "")
        if _is_secret(path, value)
    ]


def hide_secrets(text: str) -> str:
    """Return a message without the passwords of addresses and the keys of the environment."""
    for name in VARIABLES:
        if secret := os.environ.get(name):
            text = text.replace(secret, f"<{name}>")
    return _ADDRESS.sub("", text)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield every text of plain data with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping | list):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, entry in entries:
            yield from _texts(entry, f"{path}.{key}" if path else str(key))


def _is_secret(path: str, value: str) -> bool:
    # Elsewhere a key can be a key of anything.
    of_logger = "wandb" in path.lower() or "mlflow" in path.lower()
    named = of_logger and _NAME.search(path.rpartition(".")[2])
    return bool(named or _VALUE.fullmatch(value) or _ADDRESS.search(value))


def _variable(path: str) -> str:
    if "mlflow" not in path.lower():
        return "WANDB_API_KEY"
    if path.endswith("tracking_uri"):
        return (
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (for a database the whole "
            "address, MLFLOW_TRACKING_URI)"
        )
    return "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
