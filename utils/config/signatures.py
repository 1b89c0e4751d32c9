"""Constructor signatures as schemas: the arguments, their types and their defaults."""

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from typing import Annotated, Any

from utils.config.types import Choices

_MISSING: Any = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One argument of a class, as its signature declares it."""

    name: str
    hint: Any
    default: Any

    @property
    def required(self) -> bool:
        """True if the config has to give it."""
        return self.default is _MISSING


def classes_of(*owners: type | types.ModuleType) -> list[Any]:
    """Return classes, and in place of a module those that its `__all__` names."""
    classes: list[Any] = []
    for owner in owners:
        named = [owner] if isinstance(owner, type) else owner.__all__
        classes += [c if isinstance(c, type) else getattr(owner, c) for c in named]
    return classes


def signature_of(*owners: type | types.ModuleType) -> dict[str, Parameter]:
    """Return the arguments of one or several constructors, by name, the first class's first."""
    found: dict[str, Parameter] = {}
    for cls in classes_of(*owners):
        found |= {k: v for k, v in _arguments_of(cls).items() if k not in found}
    return found


@functools.cache
def _arguments_of(cls: type) -> dict[str, Parameter]:
    hints = _hints_of(cls)
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        if repr(default) == "<factory>":  # how a dataclass shows default_factory
            default = None
        found[name] = Parameter(name, hints.get(name, Any), default)
    return found


def _hints_of(cls: Any) -> dict[str, Any]:
    # The hints of a library need not resolve outside it; often they lack these names.
    for names in (None, vars(collections.abc)):
        try:
            return typing.get_type_hints(cls.__init__, localns=names, include_extras=True)
        except NameError:
            continue
        except TypeError:
            break
    return {}


def legacy_args(cls: type) -> dict[str, str]:
    """Return the arguments of pytorch-segmentation that have no effect here, and why."""
    return getattr(cls, "legacy_args", {})


def plain_hint(hint: Any) -> Any:
    """Return the part of a type hint that plain data can have; `Any` where there is none.

    `float | Tensor` becomes `float`: a config cannot hold a tensor.
    """
    origin = typing.get_origin(hint)
    if origin is Annotated:
        base, *extras = typing.get_args(hint)
        plain = plain_hint(base)
        return Annotated[(plain, *extras)] if plain is not Any else Any
    if origin is typing.Literal:
        return hint
    if origin in (typing.Union, types.UnionType):
        members = [plain_hint(member) for member in typing.get_args(hint)]
        members = [member for member in members if member is not Any]
        return typing.Union[tuple(members)] if members else Any  # noqa: UP007
    if origin in (collections.abc.Iterable, collections.abc.Sequence):
        return list[plain_hint(typing.get_args(hint)[0])]  # type: ignore[misc]
    if origin in (list, tuple, dict):
        members = [m if m is Ellipsis else plain_hint(m) for m in typing.get_args(hint)]
        return origin[tuple(members)]
    if hint in (bool, int, float, str, list, dict, tuple) or hint is type(None):
        return hint
    if dataclasses.is_dataclass(hint):
        return hint
    return Any


def choices_of(hint: Any) -> list[Choices]:
    """Return the `Choices` that a hint is annotated with."""
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return [extra for extra in extras if isinstance(extra, Choices)]


def literals_of(hint: Any) -> list[Any]:
    """Return the words that a hint allows, beside what else it can allow."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        lists = [literals_of(member) for member in typing.get_args(hint)]
        return [choice for choices in lists for choice in choices]
    return []
