"""The sub-commands of convert.py: each does its work, prints the results, returns the exit code."""

import argparse
import functools
import sys
from pathlib import Path

from tabulate import tabulate

from conversion import coco_classes, coco_masks, colour_masks, labelme_masks, split_lists, splits
from conversion.masks import Legend, free_output, read_names, write_masks
from conversion.parallel import run_each
from utils.samples.affixes import Affixes
from utils.samples.coco_regions import import_pycocotools
from utils.samples.pairing import few


def convert(arguments: argparse.Namespace) -> int:
    """Run the sub-command that the arguments name, and return the exit code.

    Raises:
        OSError: If a file cannot be written.
        ValueError: For a mistake in the arguments or the input.
    """
    run = {"coco": _coco, "labelme": _labelme, "colours": _colours, "split": _split}
    return run[arguments.command](arguments)


def _coco(arguments: argparse.Namespace) -> int:
    import_pycocotools()  # if it is missing, say so once and not for each image
    instances = coco_classes.read_instances(Path(arguments.instances), arguments.output)
    names = read_names(arguments.classes) if arguments.classes else None
    label_map = coco_classes.read_label_map(arguments.label_map) if arguments.label_map else None
    legend, values = coco_classes.choose_classes(instances.categories, names, label_map)
    images = Path(arguments.images) if arguments.images else None
    output = free_output(arguments.output, images)
    plan = coco_masks.plan_coco(instances, values, legend, output, images)
    failed = write_masks(plan.jobs, legend, overwrite=arguments.overwrite)
    dropped = [c.name for c in instances.categories if c.id not in values]
    if dropped:
        print(f"background, because not chosen: {few(dropped, 10)}")
    if plan.boxes:
        _warn(
            f"left out {len(plan.boxes)} annotations without an outline, as a box alone is not a "
            f"mask: {few(plan.boxes)}"
        )
    if plan.strays:
        print(
            f"skipped {len(plan.strays)} annotations of images that are not described",
            file=sys.stderr,
        )
    _show_masks(len(plan.jobs), failed, output, legend, arguments.images)
    return 2 if failed or plan.strays else 0


def _labelme(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    output = free_output(arguments.output, folder)
    names = read_names(arguments.classes) if arguments.classes else None
    drawings, broken = labelme_masks.read_drawings(
        folder, image_data=arguments.image_data, output=output
    )
    legend, values = labelme_masks.choose_classes(drawings, names)
    jobs = labelme_masks.plan_labelme(drawings, folder, values, output)
    failed = broken + write_masks(jobs, legend, overwrite=arguments.overwrite)
    _show_masks(len(jobs) + broken, failed, output, legend)
    return 2 if failed else 0


def _colours(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    if arguments.list:
        return _list_colours(colour_masks.find_masks(folder, arguments.mask_suffix))
    if not arguments.palette or not arguments.output:
        missing = "--output" if arguments.palette else "--palette"
        raise ValueError(f"{missing} is missing (only --list, which shows the colours, needs none)")
    palette = colour_masks.read_palette(arguments.palette)
    masks = colour_masks.find_masks(folder, arguments.mask_suffix)
    output = free_output(arguments.output, folder, below=False)
    jobs = colour_masks.plan_colours(masks, palette, output)
    legend = colour_masks.legend_of(palette)
    failed = write_masks(jobs, legend, overwrite=arguments.overwrite)
    _show_masks(len(jobs), failed, output, legend)
    return 2 if failed else 0


def _list_colours(masks: dict[str, Path]) -> int:
    found = run_each(colour_masks.count_colours, {str(path): path for path in masks.values()})
    rows, more = colour_masks.colour_table(found.values())
    headers = ["colour", "pixels", "fraction", "files"]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    if more:
        print(f"and {more} more: so many come from smoothed edges or from a JPEG")
    return 0 if len(found) == len(masks) else 2


def _split(arguments: argparse.Namespace) -> int:
    # What to divide, and where to
    fractions = splits.check_fractions(arguments.val, arguments.test)
    affixes = Affixes(
        arguments.image_prefix, arguments.image_suffix, arguments.mask_prefix, arguments.mask_suffix
    )
    sources, bands = (arguments.images, arguments.masks), arguments.band_suffixes
    samples, notes = split_lists.find_pairs(arguments.data, *sources, affixes, bands)
    by_name = split_lists.names_to_cut(samples, *sources, affixes, bands)
    groups = split_lists.find_groups(samples, arguments.groups) if arguments.groups else None
    output = free_output(arguments.output, None)
    split_lists.check_lists(output, list(fractions), arguments.overwrite)
    for note in notes:
        _warn(note)

    # The classes of each image
    ignored = arguments.ignore_index
    count = functools.partial(split_lists.count_classes, ignored=tuple(ignored or ()))
    counts = run_each(count, {str(sample.label): str(sample.label) for sample in samples})
    usable = {sample.name: sample for sample in samples if str(sample.label) in counts}
    if not usable:
        raise ValueError("no mask can be used; each is named above")
    white = ignored is None and split_lists.decide_white(counts.values())

    # The splits
    split = splits.make_split(
        {name: counts[str(sample.label)] for name, sample in usable.items()},
        fractions,
        groups=groups,
        stratify=arguments.stratify,
        seed=arguments.seed,
    )
    split_lists.write_lists(
        split, usable, output, overwrite=arguments.overwrite, together=by_name is None
    )

    # The report
    root = split_lists.common_folder(output, usable.values())
    lines = [split_lists.config_lines(output, name, root, by_name, bands) for name in split.names]
    if white:
        lines = [f'{line}, "label_map": {{"0": 0, "255": 1}}' for line in lines]
        _warn(
            "the masks contain only 0 and 255; the label_map below makes 255 class 1 "
            "(--ignore-index 255 ignores it instead)"
        )
    print(tabulate(split.table(), headers=["", *split.names], disable_numparse=True))
    for sentence in split.lacks():
        _warn(sentence)
    print('for the config, in the "args" of "Folder":')
    for name, line in zip(split.names, lines, strict=True):
        print(f"    {name}: {line}")
    return 0 if len(usable) == len(samples) else 2


def _show_masks(
    total: int, failed: int, output: Path, legend: Legend, images: str | None = None
) -> None:
    """Print how many masks were written, and the lines for the config."""
    print(f"{total - failed} of {total} masks written to {output}")
    if failed:
        print(f"{failed} inputs are broken, named above")
    print(f'for the config, in the "args" of "Folder":\n{legend.config_lines(output, images)}')


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
