"""The report of an audit, for people and for programs."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from audit.step import StepReport
from inspection.finding import Finding, count
from inspection.split import Split

PROGRAM = "check.py"
FORMAT = 1  # version of the JSON, incremented when a key is removed or changes its meaning


def to_json(
    name: str,
    splits: Sequence[Split],
    findings: Sequence[Finding],
    paste: Mapping[str, Mapping[str, Any]],
    step: StepReport | None,
) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "program": PROGRAM,
        "format": FORMAT,
        "name": name,
        "clean": not findings,
        "splits": {split.name: _split_to_json(split) for split in splits},
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "paste": paste,
        "step": None if step is None else _step_to_json(step),
    }


def _split_to_json(split: Split) -> dict[str, Any]:
    classes = split.classes
    return {
        "pictures": len(split.facts),
        "usable": len(split.usable),
        "sizes": {name: list(size) for name, size in _three_sizes(split).items()},
        "picture_encodings": dict(_encodings(split, masks=False)),
        "mask_encodings": dict(_encodings(split, masks=True)),
        "mask_values": dict(split.values),
        "ignored_pixels": sum(split.labels.values()) - sum(totals.pixels for totals in classes),
        "classes": [
            {"name": name, **dataclasses.asdict(totals)}
            for name, totals in zip(split.dataset.classes, classes, strict=True)
        ],
        "bands": [dataclasses.asdict(band) for band in split.bands],
    }


def _step_to_json(step: StepReport) -> dict[str, Any]:
    seconds = {"epoch_seconds": step.epoch_seconds, "training_seconds": step.training_seconds}
    return {**dataclasses.asdict(step), **seconds}


def _three_sizes(split: Split) -> dict[str, tuple[int, int]]:
    """Return (width, height) of the smallest, the median and the largest image by area."""
    sizes = split.sizes
    if not sizes:
        return {}
    return {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]}


def _encodings(split: Split, *, masks: bool) -> list[tuple[str, int]]:
    """Count encodings, such as `("JPEG RGB", 367)`, the most frequent first."""
    found: collections.Counter[str] = collections.Counter()
    for facts in split.facts:
        if not masks:
            found.update({f"{file.format} {file.mode}" for file in facts.image.files})
        elif facts.mask is not None and facts.mask.file is not None:
            found[f"{facts.mask.file.format} {facts.mask.file.mode}"] += 1
        elif facts.mask is not None and not facts.mask.error and Path(facts.label).suffix:
            found[Path(facts.label).suffix] += 1  # not an image file: polygons, or a matrix
    return found.most_common()


def split_table(splits: Sequence[Split]) -> str:
    """Return a row a split: images, sizes, encodings."""
    rows = []
    for split in splits:
        sizes = ["x".join(map(str, size)) for size in _three_sizes(split).values()] or [""] * 3
        encodings = [
            ", ".join(f"{number} {mode}" for mode, number in _encodings(split, masks=masks))
            for masks in (False, True)
        ]
        rows.append([split.name, len(split.facts), *sizes, *encodings])
    headers = ["split", "images", "smallest", "median", "largest", "encoded as", "masks"]
    return tabulate(rows, headers, disable_numparse=True)


def class_table(splits: Sequence[Split]) -> str:
    """Return a row a class: pixels, percentage and images in each split that has labels."""
    labelled = [split for split in splits if split.labels]
    if not labelled:
        return ""
    headers = ["", "class"]
    for split in labelled:
        headers += [f"{split.name} pixels", "%", "images"]
    rows: list[list[str]] = []
    for number, name in enumerate(labelled[0].dataset.classes):
        cells = [str(number), name]
        for split in labelled:
            cells += _class_cells(split, number)
        rows.append(cells)
    ignored = ["", "ignored"]
    for split in labelled:
        pixels = sum(split.labels.values()) - sum(totals.pixels for totals in split.classes)
        ignored += [f"{pixels:,}", "", ""]
    alignment = ["right", "left", *["right"] * 3 * len(labelled)]
    return tabulate([*rows, ignored], headers, colalign=alignment, disable_numparse=True)


def _class_cells(split: Split, number: int) -> list[str]:
    if number >= len(split.classes):
        return ["", "", ""]
    totals = split.classes[number]
    return [f"{totals.pixels:,}", f"{100 * totals.share:.3f}", str(totals.pictures)]


def findings_text(findings: Sequence[Finding]) -> str:
    """Return the findings, errors first."""
    if not findings:
        return "No findings."
    errors = sum(finding.severity == "error" for finding in findings)
    heading = f"{count(errors, 'error')}, {count(len(findings) - errors, 'warning')}:"
    lines = [f"{finding.severity} {finding}\n    -> {finding.fix}" for finding in findings]
    return "\n".join([heading, *lines])


def lines_to_paste_text(paste: Mapping[str, Mapping[str, Any]], tree: Mapping[str, Any]) -> str:
    """Return the entries of each section, equal ones once; between braces they are JSON."""
    if not paste:
        return ""
    sections: dict[str, list[str]] = {}
    for section, entries in paste.items():
        section, entries = _whole_loss(section, entries, tree.get("loss"))
        lines = [f"{_json(key)}: {_json(value)}" for key, value in entries.items()]
        sections.setdefault(",\n".join(lines), []).append(section)
    blocks = ["Lines to paste (weights by ENet's 1 / ln(1.02 + fraction of the pixels)):"]
    blocks += [f"into {' and '.join(names)}:\n{lines}" for lines, names in sections.items()]
    return "\n\n".join(blocks)


def _whole_loss(
    section: str, entries: Mapping[str, Any], loss: Any
) -> tuple[str, Mapping[str, Any]]:
    """Return the section for entries: a loss that is just a name cannot have arguments."""
    if section == "loss.args" and isinstance(loss, str):
        return "the config itself", {"loss": {"type": loss, "args": entries}}
    if section.startswith("loss.") and isinstance(loss, list):
        index = section.split(".")[1]
        if isinstance(loss[int(index)], str):
            return f"loss.{index}, as {{...}}", {"type": loss[int(index)], "args": entries}
    return section, entries


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def step_text(step: StepReport) -> str:
    """Return what the steps measured."""
    groups = ", ".join(
        f"{_millions(g.parameters)} at learning rate {g.rate:g}" for g in step.groups
    )
    loading = "in parallel with the model" if step.overlaps else "before each step (num_workers 0)"
    rows = [
        ("images", _shape(step.images)),
        ("labels", _shape(step.labels)),
        ("logits", _shape(step.logits)),
        ("loss", f"{step.loss:.4f}"),
        ("memory", f"{step.memory_bytes / 2**20:,.0f} MiB ({step.memory_kind})"),
        ("parameters", _millions(step.parameters)),
        ("in the optimizer", groups),
        ("frozen", _millions(step.frozen)),
        ("trainable, in no group", _millions(step.forgotten)),
        ("a step", f"{step.step_seconds:.4g} s"),
        ("loading a batch", f"{step.load_seconds:.4g} s, {loading}"),
        ("an epoch", f"{_duration(step.epoch_seconds)} ({count(step.steps, 'step')})"),
        (f"{step.epochs} epochs", f"{_duration(step.training_seconds)}, without validation"),
    ]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True)
    return f"One step on {step.device}:\n{table}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 10_000 else str(number)


def _duration(seconds: float) -> str:
    """Return a duration in the unit that a person would use."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
