"""Hold a whole config against the signatures of the classes that it names.

A class's constructor signature is the schema of its `args`: names, defaults and value ranges come
from there and are declared nowhere else. Nothing in `utils/config` knows a class of ours; the
caller says with `SectionSpec` where each section finds its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from utils.config.errors import ConfigError, suggest
from utils.config.file import name_problem
from utils.config.folder_section import classes_in
from utils.config.foreign import refuse_foreign
from utils.config.keys import names_in
from utils.config.known_keys import KnownKeys, names_by_path
from utils.config.report import Report
from utils.config.sections import DERIVED, SECTION_CLASSES, Component, Config, SectionSpec
from utils.config.signatures import signature_of


def check_config(
    tree: dict[str, Any],
    sections: Mapping[str, SectionSpec],
    source: str,
    val_figures: Sequence[str],
    train_figures: Sequence[str],
    overrides: Sequence[str] = (),
) -> Config:
    """Return the config, checked, or raise with every problem at once.

    A key at the top or in `trainer` that is none here is a warning, as many people keep keys of
    their own; but an error where it is mistyped, is the name of a key of another place, or was
    typed with `-o`: else a training would run with a default that nobody chose.

    Args:
        tree: What `parse_config` and `apply_overrides` returned.
        sections: For each section that names a class, where that class is found.
        source: The file's name, for the message.
        val_figures: What `trainer.monitor` may name with validation.
        train_figures: What it may name without.
        overrides: What `apply_overrides` was given.

    Raises:
        ConfigError: With all problems.
    """
    refuse_foreign(tree, source)
    typed = {path: text for path, _, text in (text.partition("=") for text in overrides)}
    report = Report(
        KnownKeys(names_by_path(tree, sections), names_in(tree), typed), classes_in(tree)
    )
    tree_as_given, tree = tree, report.without_nothing(tree, sections)
    schema = {name: p for name, p in signature_of(Config).items() if name not in DERIVED}
    for key in [*sections, "trainer"]:
        # Sections are looked into one by one below; here they only have to be there.
        schema[key] = dataclasses.replace(schema[key], hint=Any)
    values = report.arguments(tree, schema, "", "no such key", lenient=True) or {}
    for key, spec in sections.items():
        if tree.get(key) is None and (key not in tree or not schema[key].required):
            continue
        if key == "loss":
            values[key] = report.loss(tree[key], spec)
        else:
            section = SECTION_CLASSES.get(key, Component)
            values[key] = report.component(tree[key], spec, key, section)
    if "trainer" in tree:
        values["trainer"] = report.trainer(tree["trainer"])
    if isinstance(tree.get("name"), str):
        report.problems.extend(problem for problem in [name_problem(tree["name"])] if problem)
    if values.get("trainer") is not None:
        settings = values["trainer"]
        figures = val_figures if settings.val else train_figures
        report.problems.extend(_check_monitor(settings.monitor, figures))
        loader = values.get("train_loader")
        # Where the section itself is wrong, what it says counts as said.
        split_off = loader.args.get("val_split") is not None if loader else _has_val_split(tree)
        if settings.val and tree.get("val_loader") is None and not split_off:
            report.problems.append(
                "val_loader: required key is missing (or give train_loader.args.val_split, or set "
                "trainer.val to false)"
            )
    for key, spec in sections.items():
        if spec.cross_check is not None and values.get(key) is not None:
            report.problems.extend(spec.cross_check(values[key], values))
    if report.problems:
        raise ConfigError(source, report.problems)
    return Config(**values, tree=tree_as_given, warnings=tuple(report.warnings))


def _check_monitor(monitor: str, figures: Sequence[str]) -> list[str]:
    if monitor == "off":
        return []
    mode, _, figure = monitor.partition(" ")
    if mode not in ("max", "min") or not figure:
        expected = '"max Mean_IoU", "min val_loss" or "off"'
        return [f"trainer.monitor: expected {expected}, not {monitor!r}"]
    if figure not in figures:
        hint = suggest(figure, figures, listing=True)
        return [f"trainer.monitor: there is no figure named {figure!r}{hint}"]
    return []


def _has_val_split(tree: Mapping[str, Any]) -> bool:
    loader = tree.get("train_loader")
    args = loader.get("args") if isinstance(loader, dict) else None
    return isinstance(args, dict) and args.get("val_split") is not None


def check_component(component: Component, spec: SectionSpec, path: str) -> Component:
    """Hold one section that no whole config stands around against its class's signature.

    Returns:
        The section, its arguments as the signature's hints have them.

    Raises:
        ConfigError: With all problems.
    """
    report = Report()
    plain = {"type": component.type, "args": dict(component.args)}
    checked = report.component(plain, spec, path)
    if checked is None:
        raise ConfigError(path, report.problems)
    return checked
