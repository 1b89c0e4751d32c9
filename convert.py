"""Make masks and lists that `Folder` reads: `python convert.py coco instances.json -o masks`."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli.command_line import Parser
from utils.cli.launcher import refuse_several
from utils.cli.sanitize import plain_lines

# Only the standard library up here: --help and a mistyped option answer at once.
if TYPE_CHECKING:
    from conversion.conversion import Legend
    from conversion.splits import Split

DESCRIPTION = """
Turn annotations of other programs into masks that hold class ids, and divide pictures into
training, validation and test. Each command prints the lines for the config.

Nothing is written if two inputs would become one file, or a file exists and --overwrite is not
given. An input that is broken is named and skipped.
"""

EPILOG = """
exit code: 0 everything is there; 2 a mistake in the call, or broken inputs (each is named); 130
interrupted; 141 whoever reads the output has stopped, as `head` does.
"""

COCO = """
Masks from the polygons and run lengths of COCO instance annotations, one for each picture that the
file names, also where it has no object. Crowds lie at the bottom and do not count (255); above
them, smaller objects lie over larger ones. Without --classes and --label-map, every category is a
class, in the order of the ids, behind class 0, the background. Categories that are not chosen are
background. Annotations without an outline, boxes alone, are left out. Needs pycocotools.
"""

LABELME = """
Masks from labelme's JSON files. A shape lies over those before it in the file, as labelme itself
draws them. __ignore__ does not count (255), _background_ is class 0. Without --classes, every label
is a class, sorted.
"""

COLOURS = """
Masks of ids from masks of colours. The ids are the places in --palette; the name __ignore__ stands
for what does not count (255). --list only shows which colours there are.
"""

SPLIT = """
Divide pictures with masks into train.txt, val.txt and test.txt, each with a list of its masks
beside it. Pictures of one group (a video, a patient, a place) stay together. With --stratify each
part gets its share of every class, and no class is missing from one if that can be avoided. The
same seed gives the same lists, whatever the order of the files.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    arguments = parse_arguments(argv)
    logging.basicConfig(format="%(message)s")  # of progress; on stderr, as stdout has the results
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what no encoding has; stderr shows it like this by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        refuse_several()
        code = COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python would try to write the rest again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        print(f"error: {plain_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the files so far are complete", file=sys.stderr)
        return 130


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=description)

    _coco_options(command("coco", "masks from COCO instance annotations", COCO))
    _labelme_options(command("labelme", "masks from labelme's JSON files", LABELME))
    _colours_options(command("colours", "masks of ids from masks of colours", COLOURS))
    _split_options(command("split", "lists for training, validation and test", SPLIT))
    return parser.parse_args(argv)


def _coco_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("instances", metavar="FILE", help="instances_....json")
    _output_options(parser, "masks")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--classes", nargs="+", metavar="NAME",
        help="the categories to keep, in this order, or a text file with one a line",
    )  # fmt: skip
    chosen.add_argument(
        "--label-map", metavar="FILE",
        help='JSON: {"1": 1, "dog": 2, "17": -1}, category id or name -> class; -1: does not count',
    )  # fmt: skip
    add("--images", metavar="FOLDER", help="the pictures, to compare their sizes")


def _labelme_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the JSON files, with all folders below")
    _output_options(parser, "masks")
    add(
        "--classes", nargs="+", metavar="NAME",
        help="the classes behind the background, or a text file with one a line",
    )  # fmt: skip
    add(
        "--image-data", action="store_true",
        help="decode the picture in a file that does not say its size",
    )  # fmt: skip


def _colours_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the masks, with all folders below")
    _output_options(parser, "masks", required=False)
    add(
        "--palette", nargs="+", metavar="NAME=R,G,B",
        help='the classes in the order of their ids, or a JSON file: {"road": [128, 64, 128]}',
    )  # fmt: skip
    add(
        "--mask-suffix", default="", metavar="SUFFIX",
        help="only files whose stem ends with this, as in 1_gt.png; it is cut off",
    )  # fmt: skip
    add("--list", action="store_true", help="only show the colours and their pixels")


def _split_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "data", nargs="?", default="", metavar="FOLDER|LIST",
        help="the folder that --images and --masks lie in, or a list of pictures",
    )  # fmt: skip
    add(
        "--images", metavar="PATH",
        help="folder, list or pattern ('*.jpg') of the pictures (default: images)",
    )  # fmt: skip
    add("--masks", metavar="PATH", help="likewise of the masks (default: masks)")
    add("--mask-suffix", default="", metavar="SUFFIX", help="as in Folder: _gt for 1.jpg, 1_gt.png")
    for option in ("--mask-prefix", "--image-suffix", "--image-prefix"):
        add(option, default="", metavar="TEXT", help="as in Folder")
    add(
        "--band-suffixes", nargs="+", metavar="SUFFIX",
        help="as in Folder: _HH _HV where the bands of a picture are 1_HH.tif and 1_HV.tif",
    )  # fmt: skip
    _output_options(parser, "lists")
    add("--val", type=float, default=0.1, metavar="SHARE", help="default: 0.1")
    add("--test", type=float, default=0.0, metavar="SHARE", help="default: 0, no test.txt")
    add(
        "--groups", metavar="REGEX|FILE",
        help="what of a picture's name is its group ('^[^_]+'), or a file of lines 'picture,group'",
    )  # fmt: skip
    add("--stratify", action="store_true", help="also divide every class")
    add(
        "--ignore-index", type=int, nargs="+", metavar="ID",
        help="ids in the masks that are no class (default: 255, unless all masks are black and "
        "white)",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="another seed gives other lists (default: 0)")


def _output_options(parser: argparse.ArgumentParser, what: str, *, required: bool = True) -> None:
    parser.add_argument(
        "-o", "--output", required=required, metavar="FOLDER", help=f"where the {what} go"
    )
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what} that exist")


# --------------------------------------------------------------------------------------------------
# The commands; each returns the exit code


def convert_coco(arguments: argparse.Namespace) -> int:
    """Masks from COCO instances."""
    from conversion import coco_file, coco_masks
    from conversion.conversion import free_output, read_names, write_masks
    from utils.samples.pairing import few

    coco_masks.coco_masks()  # absent, it is missed now and not once a picture
    coco_file.refuse_folder(arguments.instances, arguments.output)
    instances = coco_file.read_instances(arguments.instances, arguments.output)
    names = read_names(arguments.classes) if arguments.classes else None
    label_map = coco_file.read_label_map(arguments.label_map) if arguments.label_map else None
    legend, values = coco_file.choose_classes(instances.categories, names, label_map)
    images = Path(arguments.images) if arguments.images else None
    output = free_output(arguments.output, images)
    plan = coco_masks.plan_coco(instances, values, legend, output, images)
    failed = write_masks(plan.jobs, legend, overwrite=arguments.overwrite)
    dropped = [c.name for c in instances.categories if c.id not in values]
    if dropped:
        print(f"background, as not chosen: {few(dropped, 10)}")
    if plan.boxes:
        print(
            f"warning: left out {len(plan.boxes)} annotations without an outline, as a box alone "
            f"is no mask: {few(plan.boxes)}",
            file=sys.stderr,
        )
    if plan.strays:
        print(
            f"skipped {len(plan.strays)} annotations of pictures that are not described",
            file=sys.stderr,
        )
    show_masks(len(plan.jobs), failed, output, legend, arguments.images)
    return 2 if failed or plan.strays else 0


def convert_labelme(arguments: argparse.Namespace) -> int:
    """Masks from labelme's files."""
    from conversion import labelme_masks
    from conversion.conversion import free_output, read_names, write_masks

    folder = Path(arguments.folder)
    output = free_output(arguments.output, folder)
    names = read_names(arguments.classes) if arguments.classes else None
    drawings, broken = labelme_masks.read_drawings(
        folder, image_data=arguments.image_data, output=output
    )
    legend, values = labelme_masks.choose_classes(drawings, names)
    jobs = labelme_masks.plan_labelme(drawings, folder, values, output)
    failed = broken + write_masks(jobs, legend, overwrite=arguments.overwrite)
    show_masks(len(jobs) + broken, failed, output, legend)
    return 2 if failed else 0


def convert_colours(arguments: argparse.Namespace) -> int:
    """Masks of ids from masks of colours."""
    from conversion import colour_masks
    from conversion.conversion import free_output, write_masks

    folder = Path(arguments.folder)
    if arguments.list:
        return list_colours(colour_masks.find_masks(folder, arguments.mask_suffix))
    if not arguments.palette or not arguments.output:
        missing = "--output" if arguments.palette else "--palette"
        raise ValueError(f"{missing} is missing (--list needs neither, and shows the colours)")
    palette = colour_masks.read_palette(arguments.palette)
    masks = colour_masks.find_masks(folder, arguments.mask_suffix)
    output = free_output(arguments.output, folder, below=False)
    jobs = colour_masks.plan_colours(masks, palette, output)
    legend = colour_masks.legend_of(palette)
    failed = write_masks(jobs, legend, overwrite=arguments.overwrite)
    show_masks(len(jobs), failed, output, legend)
    return 2 if failed else 0


def list_colours(masks: dict[str, Path]) -> int:
    """Print the colours of all masks."""
    from tabulate import tabulate

    from conversion.colour_masks import colour_table, count_colours
    from conversion.parallel import run_each

    counts = run_each(count_colours, {str(path): path for path in masks.values()})
    rows, more = colour_table(counts.values())
    print(tabulate(rows, headers=["colour", "pixels", "share", "files"], disable_numparse=True))
    if more:
        print(f"and {more} more: so many come from smoothed edges or from a JPEG")
    return 0 if len(counts) == len(masks) else 2


def convert_split(arguments: argparse.Namespace) -> int:
    """Lists of train, val and test."""
    import functools

    from conversion import split_lists, splits
    from conversion.conversion import free_output
    from conversion.parallel import run_each
    from utils.samples.affixes import Affixes

    shares = splits.wanted_shares(arguments.val, arguments.test)
    affixes = Affixes(
        arguments.image_prefix,
        arguments.image_suffix,
        arguments.mask_prefix,
        arguments.mask_suffix,
    )
    sources, bands = (arguments.images, arguments.masks), arguments.band_suffixes
    samples, notes = split_lists.find_pairs(arguments.data, *sources, affixes, bands)
    by_name = split_lists.names_to_cut(samples, *sources, affixes, bands)
    groups = split_lists.find_groups(samples, arguments.groups) if arguments.groups else None
    output = free_output(arguments.output, None)
    split_lists.check_lists(output, list(shares), arguments.overwrite)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    named = arguments.ignore_index
    count = functools.partial(split_lists.count_values, void=tuple(named or ()))
    counts = run_each(count, {str(sample.label): str(sample.label) for sample in samples})
    usable = {sample.name: sample for sample in samples if str(sample.label) in counts}
    if not usable:
        raise ValueError("no mask can be used; each is named above")
    white = named is None and split_lists.decide_white(counts.values())
    split = splits.make_split(
        {name: counts[str(sample.label)] for name, sample in usable.items()},
        shares,
        groups=groups,
        stratify=arguments.stratify,
        seed=arguments.seed,
    )
    split_lists.write_lists(
        split, usable, output, overwrite=arguments.overwrite, together=by_name is None
    )
    root = split_lists.common_folder(output, usable.values())
    lines = [split_lists.config_lines(output, name, root, by_name, bands) for name in split.names]
    if white:
        lines = [f'{line}, "label_map": {{"0": 0, "255": 1}}' for line in lines]
        print(
            "warning: the masks hold nothing but 0 and 255; the label_map below makes 255 class 1 "
            "(--ignore-index 255 leaves it out)",
            file=sys.stderr,
        )
    show_split(split, lines)
    return 0 if len(usable) == len(samples) else 2


COMMANDS = {
    "coco": convert_coco,
    "labelme": convert_labelme,
    "colours": convert_colours,
    "split": convert_split,
}


# --------------------------------------------------------------------------------------------------
# What is printed at the end


def show_masks(
    total: int, failed: int, output: Path, legend: Legend, images: str | None = None
) -> None:
    """Print how many masks there are, and what to write into the config."""
    print(f"{total - failed} of {total} masks written to {output}")
    if failed:
        print(f"{failed} inputs are broken, named above")
    print(f'for the config, in the "args" of "Folder":\n{legend.config_lines(output, images)}')


def show_split(split: Split, lines: Sequence[str]) -> None:
    """Print who got what, what is missing, and what to write into the config."""
    from tabulate import tabulate

    print(tabulate(split.table(), headers=["", *split.names], disable_numparse=True))
    for sentence in split.lacks():
        print(f"warning: {sentence}", file=sys.stderr)
    print('for the config, in the "args" of "Folder":')
    for name, line in zip(split.names, lines, strict=True):
        print(f"    {name}: {line}")


if __name__ == "__main__":
    sys.exit(main())
