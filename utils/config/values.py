"""One value against the type hint of its argument."""

import typing
from typing import Any

import msgspec

from utils.config.errors import show, suggest
from utils.config.signatures import Parameter, choices_of, literals_of, plain_hint
from utils.config.text_values import constant_of, value_of


def convert(value: Any, parameter: Parameter) -> tuple[Any, list[str]]:
    """Return a value as its hint has it, and what was read otherwise than it is written.

    A list becomes the tuple, a whole number the float, `"0.01"` the number.

    Raises:
        ValueError: If the argument cannot have this value.
    """
    hint = parameter.hint
    notes = []
    read = _read_text(value, parameter)
    if read is not value:
        notes.append(f"{show(value)} is text; read as {show(read)}")
    try:
        result = msgspec.convert(read, type=plain_hint(hint))
    except msgspec.ValidationError as error:
        raise ValueError(_explain(error, hint, read)) from None
    except UnicodeEncodeError:
        raise ValueError(f"{show(read)} contains invalid Unicode") from None
    for choices in choices_of(hint):
        ours = dict(choices.others).get(result) if isinstance(result, str) else None
        if ours is not None:
            notes.append(f"{show(result)} is {ours} here")
            result = ours
        problem = choices.problem(result)
        if problem:
            raise ValueError(problem)
    return result, notes


def converts(value: Any, parameter: Parameter) -> bool:
    """Return whether an argument can have a value."""
    return _fits(value, plain_hint(parameter.hint))


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, type=hint)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True


def _read_text(value: Any, parameter: Parameter) -> Any:
    """Return a value, or what its text spells where only that can be meant."""
    hint = plain_hint(parameter.hint)
    if hint is Any:
        # Some arguments of torch are declared by their default alone.
        if not isinstance(value, str) or not isinstance(parameter.default, (bool, int, float)):
            return value
        read = value_of(value)
        same_kind = isinstance(read, bool) == isinstance(parameter.default, bool)
        return read if same_kind and read is not None else value
    constant = constant_of(value) if isinstance(value, str) else value
    if constant is not value and _fits(constant, hint):
        return constant
    if _fits(value, hint):
        return value
    read = value_of(value)
    return read if _fits(read, hint) else value


def _explain(error: msgspec.ValidationError, hint: Any, value: Any) -> str:
    """Return one clause of msgspec's message, with the value that came."""
    words = literals_of(hint)
    if isinstance(value, list) and typing.get_origin(hint) is tuple:
        words = literals_of(typing.get_args(hint)[0])
        value = next((item for item in value if words and item not in words), value)
    if words and isinstance(value, str):
        choices = suggest(value, [str(word) for word in words], listing=True).lstrip("; ")
        return f"{show(value)} is not a choice; {choices}"
    text, _, where = str(error).partition(" - at `$")
    text = text[:1].lower() + text[1:]
    text, _, _ = text.partition(", got")
    return f"{text}{' at ' + where.rstrip('`') if where else ''}, not {show(value)}"
