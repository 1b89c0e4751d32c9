"""Hold a whole config against the signatures of the classes that it names.

A class's constructor signature is the schema of its `args`: names, defaults and value ranges come
from there and are declared nowhere else. Nothing in `utils/config` knows a class of ours; the
caller says with `SectionSpec` where each section finds its own.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from utils.config.errors import ConfigError, suggest
from utils.config.file import name_problem
from utils.config.folder_section import classes_in
from utils.config.foreign import refuse_foreign
from utils.config.keys import names_in
from utils.config.known_keys import KnownKeys, names_by_path
from utils.config.report import Report
from utils.config.secrets import secret_problems
from utils.config.sections import DERIVED, SECTION_CLASSES, Component, Config, SectionSpec
from utils.config.signatures import signature_of


def check_config(
    tree: dict[str, Any],
    sections: Mapping[str, SectionSpec],
    source: str,
    val_metrics: Sequence[str],
    train_metrics: Sequence[str],
    overrides: Sequence[str] = (),
) -> Config:
    """Return the config, checked, or raise with every problem at once.

    A key at the top or in `trainer` that is none here is a warning, as many people keep keys of
    their own; but an error where it is mistyped, is the name of a key of another section, or was
    typed with `-o`: else a training would run with a default that nobody chose.

    Args:
        tree: What `parse_config` and `apply_overrides` returned.
        sections: For each section that names a class, where that class is found.
        source: The file's name, for the message.
        val_metrics: What `trainer.monitor` can name with validation.
        train_metrics: What it can name without.
        overrides: What `apply_overrides` was given.

    Raises:
        ConfigError: With all problems.
    """
    refuse_foreign(tree, source)
    if problems := secret_problems(tree):
        raise ConfigError(source, problems)  # at once, as other messages show values
    report = _open_report(tree, sections, overrides)
    keys = [name for name in signature_of(Config) if name not in DERIVED]
    given = report.without_nothing(tree, sections)
    values = _check_keys(report, given, keys, sections)
    if isinstance(tree.get("name"), str):
        report.problems += filter(None, [name_problem(tree["name"])])
    trainer = values.get("trainer")
    if trainer is not None:
        metrics = val_metrics if trainer.val else train_metrics
        report.problems += _monitor_problems(trainer.monitor, metrics)
        if trainer.val and not _has_validation(given, values):
            report.problems.append(
                "val_loader: required key is missing (or give train_loader.args.val_split, or set "
                "trainer.val to false)"
            )
    for key, spec in sections.items():
        if spec.cross_check is not None and values.get(key) is not None:
            report.problems += spec.cross_check(values[key], values)
    if report.problems:
        raise ConfigError(source, report.problems)
    return Config(**values, tree=tree, warnings=tuple(report.warnings))


def check_sections(
    tree: Mapping[str, Any], keys: Sequence[str], sections: Mapping[str, SectionSpec], source: str
) -> tuple[dict[str, Any], list[str]]:
    """Check some keys at the top of a config, whatever its other keys say.

    Returns:
        The checked value of each key, its default where the config lacks it; and the warnings.

    Raises:
        ConfigError: With all problems of these keys.
    """
    report = _open_report(tree, sections)
    given = report.without_nothing({k: tree[k] for k in keys if k in tree}, sections)
    values = _check_keys(report, given, keys, sections)
    if report.problems:
        raise ConfigError(source, report.problems)
    schema = signature_of(Config)
    return {key: values.get(key, schema[key].default) for key in keys}, report.warnings


def _open_report(
    tree: Mapping[str, Any], sections: Mapping[str, SectionSpec], overrides: Sequence[str] = ()
) -> Report:
    typed = {path: text for path, _, text in (text.partition("=") for text in overrides)}
    keys = KnownKeys(names_by_path(tree, sections), names_in(tree), typed)
    return Report(keys, classes_in(tree))


def _check_keys(
    report: Report,
    tree: Mapping[str, Any],
    keys: Collection[str],
    sections: Mapping[str, SectionSpec],
) -> dict[str, Any]:
    """Return the checked values of a tree that can have these keys at its top."""
    schema = {name: p for name, p in signature_of(Config).items() if name in keys}
    for key in schema.keys() & {*sections, "trainer"}:
        # Sections are checked one by one below; here they only have to be there.
        schema[key] = dataclasses.replace(schema[key], hint=Any)
    values = report.arguments(tree, schema, "", "no such key", lenient=True) or {}
    for key, spec in sections.items():
        if key not in tree or (tree[key] is None and not schema[key].required):
            continue
        if key == "loss":
            values[key] = report.loss(tree[key], spec)
        else:
            section = SECTION_CLASSES.get(key, Component)
            values[key] = report.component(tree[key], spec, key, section)
    if "trainer" in tree:
        values["trainer"] = report.trainer(tree["trainer"])
    return values


def _monitor_problems(monitor: str, metrics: Sequence[str]) -> list[str]:
    if monitor == "off":
        return []
    mode, _, metric = monitor.partition(" ")
    if mode not in ("max", "min") or not metric:
        expected = '"max Mean_IoU", "min val_loss" or "off"'
        return [f"trainer.monitor: expected {expected}, not {monitor!r}"]
    if metric not in metrics:
        hint = suggest(metric, metrics, listing=True)
        return [f"trainer.monitor: there is no metric named {metric!r}{hint}"]
    return []


def _has_validation(tree: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Return whether a config has images to validate on, as far as its sections can be read."""
    if tree.get("val_loader") is not None:
        return True
    # Where the section itself is wrong, what it says counts as said.
    loader = values.get("train_loader") or tree.get("train_loader")
    args = loader.args if isinstance(loader, Component) else _get(loader, "args")
    return _get(args, "val_split") is not None


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
