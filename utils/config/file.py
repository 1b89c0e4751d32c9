"""Read a config file as plain data; imports nothing heavy, as a mistake needs no torch."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.config.errors import ConfigError, show, suggest

MAX_BYTES = 64 * 1024  # ten times the longest config that names 182 classes with their colours
MAX_MARKS = 6000  # commas, colons and lines: the readers need a second for them
MAX_DEPTH = 50
MAX_BITS = 64  # bits of a whole number
MAX_NAME = 200  # bytes; file systems take 255


_WEIGHTS = (
    "contains weights: --resume continues its run, --model scores it or predicts with it, and "
    '"init_from" in a config starts from it'
)
# Files that can be mistaken for a config, and what they are.
NO_CONFIGS = {
    ".py": "is Python, as configs of MMSegmentation are, and is not run: docs/migration.md, Other "
    "programs, says what its keys are called here",
    ".ipynb": "is a notebook",
    ".toml": "is TOML",
    ".ini": "is an INI file",
    ".sh": "is a shell script",
    **dict.fromkeys((".pth", ".pt", ".ckpt", ".safetensors"), _WEIGHTS),
}


def parse_config(path: str | Path) -> dict[str, Any]:
    """Read JSON (comments and trailing commas allowed) or YAML into plain data.

    Raises:
        ConfigError: If the file cannot be read as data, or contains a duplicate key or a NaN.
    """
    path = Path(path)
    kind = NO_CONFIGS.get(path.suffix.lower())
    if kind is not None and path.is_file():
        raise ConfigError(str(path), [f"{kind}; a config is JSON or YAML"])
    text = _read_text(path)
    if not text.strip():
        raise ConfigError(str(path), ["is empty"])
    marks = sum(map(text.count, ",:\n"))
    if marks > MAX_MARKS:
        raise ConfigError(str(path), [f"contains more values than a config has ({marks} , and :)"])
    problems: list[str] = []
    try:
        tree = _parse_yaml(text) if path.suffix.lower() in (".yaml", ".yml") else _parse_json(text)
        tree = _to_plain(tree, "", problems)
    except RecursionError:
        raise ConfigError(str(path), ["nested too deeply to be a config"]) from None
    except ValueError as error:
        raise ConfigError(str(path), [str(error)]) from None
    except Exception as error:  # of ruamel.yaml's, of tags of nothing (`!!int`)
        problem = f"cannot be read; it is damaged or cut off ({type(error).__name__}: {error})"
        raise ConfigError(str(path), [problem]) from None
    if not isinstance(tree, dict):
        problems.append(f"expected keys and values ({{...}}) at the top, not {show(tree)}")
    if problems:
        raise ConfigError(str(path), problems)
    return tree


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ConfigError(str(path), ["is a folder; name the config file in it"])
        if size > MAX_BYTES:
            problem = f"has {size} bytes; a config has at most {MAX_BYTES}: is this the file?"
            raise ConfigError(str(path), [problem])
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        there = [p.name for p in path.parent.glob("*") if p.suffix in (".json", ".yaml", ".yml")]
        raise ConfigError(str(path), ["no such file" + suggest(path.name, there)]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is not UTF-8 text (byte {error.start})"]) from None
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from None


class _Pairs(list[tuple[str, Any]]):
    """An object as the file has it, so that a duplicate key is still seen."""


def _parse_json(text: str) -> Any:
    import json5

    try:
        return json5.loads(text, object_pairs_hook=_Pairs)
    except ValueError as error:
        # json5 calls the text it was given "<string>:LINE".
        raise ValueError(str(error).replace("<string>:", "line ", 1)) from None


def _parse_yaml(text: str) -> Any:
    import ruamel.yaml

    # YAML 1.2: `1e-4` is a number and `on` is a word, which PyYAML (1.1) has the other way round.
    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    try:
        depth = 0
        for event in yaml.parse(text):
            if isinstance(event, ruamel.yaml.events.AliasEvent):
                raise ValueError("aliases (*name) are not allowed: a config is complete in itself")
            depth += isinstance(event, ruamel.yaml.events.CollectionStartEvent)
            depth -= isinstance(event, ruamel.yaml.events.CollectionEndEvent)
            if depth > MAX_DEPTH:  # the reader needs a minute for a file of brackets
                raise RecursionError
        return yaml.load(text)
    except ruamel.yaml.error.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        problem = (error.problem or "not YAML").splitlines()[0]
        raise ValueError(where + problem) from None
    except ruamel.yaml.error.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def plain_problems(tree: Any) -> list[str]:
    """Return why a tree from elsewhere is no config; empty if it could be one."""
    problems: list[str] = []
    try:
        _to_plain(tree, "", problems)
        if not problems and not _has_text_keys(tree):
            return ["a key is not text"]
    except RecursionError:
        return ["nested too deeply to be a config"]
    return problems


def _has_text_keys(tree: Any) -> bool:
    if isinstance(tree, dict):
        return all(isinstance(key, str) and _has_text_keys(item) for key, item in tree.items())
    return not isinstance(tree, (list, tuple)) or all(map(_has_text_keys, tree))


def _to_plain(value: Any, path: str, problems: list[str], depth: int = 0) -> Any:
    """Return dicts, lists and scalars only; append every NaN, duplicate key and foreign value."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, (_Pairs, dict)):
        plain: dict[str, Any] = {}
        for key, item in value if isinstance(value, _Pairs) else value.items():
            where = f"{path}.{key}" if path else str(key)
            if not _is_text(where):
                problems.append(f"{where!a}: contains invalid Unicode")
                continue
            if key in plain:
                problems.append(f"{where}: duplicate key; keep one")
            plain[str(key)] = _to_plain(item, where, problems, depth + 1)
        return plain
    if isinstance(value, (list, tuple)):
        return [_to_plain(item, f"{path}.{i}", problems, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{path}: {value} is not a usable number")
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        problems.append(f"{path}: a number of {value.bit_length()} bits is not a usable number")
        return None  # too long to be shown
    elif isinstance(value, str) and not _is_text(value):
        problems.append(f"{path}: {value!a} contains invalid Unicode")
        return None  # could not be shown
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        problems.append(f"{path}: expected plain data, not {type(value).__name__} {value}")
    return value


def _is_text(value: str) -> bool:
    """Return whether a file can contain a text or have it as its name, which need not be UTF-8."""
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def apply_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of the tree with `key.path=value` set for each override.

    The value is read as JSON or else as a word: `-o arch.type=UNet` needs no quotes. A number in
    the path selects an item of a list.

    Raises:
        ConfigError: If an override has no `=`, no path, or leads through a value that has no keys.
    """
    result: dict[str, Any] = json.loads(json.dumps(tree))
    problems: list[str] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not all(path.split(".")):
            problems.append(f"{override!r}: expected key.path=value, as in trainer.epochs=2")
            continue
        try:
            parsed = _parse_json(text)
        except (ValueError, RecursionError):
            parsed = text
        try:
            value = _to_plain(parsed, path, problems)
        except RecursionError:
            problems.append(f"{path}: nested too deeply to be a config")
            continue
        *parents, last = path.split(".")
        node: Any = result
        try:
            for key in parents:
                node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
            if isinstance(node, list):
                node[int(last)] = value
            else:
                node[last] = value
        except (TypeError, AttributeError, ValueError, IndexError):
            problems.append(f"{override!r}: there is nothing named {path!r} to set")
    if problems:
        raise ConfigError("-o", problems)
    return result


def include_pipelines(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which the content of each loader's `albumentations` file replaces its path.

    What a run stores is then complete in itself: the file can change before the run is resumed.

    Raises:
        ConfigError: If a file cannot be read.
    """
    result = dict(tree)
    for name in ("train_loader", "val_loader", "test_loader"):
        loader: Any = tree.get(name)
        args: Any = loader.get("args") if isinstance(loader, dict) else None
        path = args.get("albumentations") if isinstance(args, dict) else None
        if isinstance(path, str):
            result[name] = {**loader, "args": {**args, "albumentations": parse_config(path)}}
    return result


def name_problem(name: str) -> str:
    """Return why the name of a run cannot be that of a folder; empty if it can."""
    if len(name.encode(errors="replace")) > MAX_NAME:
        return f"name: {show(name)} is too long for the name of a folder; at most {MAX_NAME} bytes"
    if name.strip() and name not in (".", "..") and not set(name) & set('/\\:*?"<>|\0\n\r'):
        return ""
    return f"name: {name!r} cannot be the name of a folder; use letters, digits, - and _"
