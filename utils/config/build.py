"""Build objects from a checked config, and fill in its defaults."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from utils.config.errors import ConfigError, suggest
from utils.config.sections import DERIVED, Component, Config, SectionSpec
from utils.config.signatures import signature_of

T = TypeVar("T")


def build(
    namespace: types.ModuleType, component: Component, base: type[T], path: str, **given: Any
) -> T:
    """Build `namespace.<type>(**args, **given)`.

    Raises:
        ConfigError: If the name is not in `namespace.__all__`, or the constructor refuses with a
            `ValueError`.
    """
    names = SectionSpec(path, namespace, base).names()
    if component.type not in names:
        known = suggest(component.type, names, listing=True)
        raise ConfigError(path, [f"there is no {component.type!r}{known}"])
    cls = getattr(namespace, component.type)
    try:
        return typing.cast(T, cls(**component.args, **given))
    # ArithmeticError and MemoryError: numbers that are far too large.
    except (ValueError, RuntimeError, AssertionError, ArithmeticError, MemoryError) as error:
        raise ConfigError(f"{path} ({component.type})", [str(error)]) from error


def split_args(args: Mapping[str, Any], *owners: type | types.ModuleType) -> list[dict[str, Any]]:
    """Return, for each class or module of classes, those of the arguments that belong to it."""
    return [{k: v for k, v in args.items() if k in signature_of(owner)} for owner in owners]


def with_defaults(config: Config, sections: Mapping[str, SectionSpec]) -> dict[str, Any]:
    """Return the config as plain data with every default, as `--print-config` shows it."""
    result: dict[str, Any] = {}
    for name in signature_of(Config):
        if name in DERIVED:
            continue
        value = getattr(config, name)
        if name == "loss":
            result[name] = [_filled(term, sections[name]) for term in value]
        elif isinstance(value, Component):
            result[name] = _filled(value, sections[name])
        else:
            result[name] = dataclasses.asdict(value) if name == "trainer" else value
    return result


def _filled(component: Component, spec: SectionSpec) -> dict[str, Any]:
    schema = spec.schema(component.type)
    defaults = {name: p.default for name, p in schema.items() if not p.required}
    return {**dataclasses.asdict(component), "args": {**defaults, **component.args}}
