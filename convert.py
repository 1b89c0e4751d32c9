"""Make masks and lists that `Folder` reads: `python convert.py coco instances.json -o masks`."""

import argparse
import io
import logging
import sys
from collections.abc import Sequence

from utils.cli.command_line import Parser, end_after_broken_pipe, report_mistake
from utils.cli.launcher import refuse_several

DESCRIPTION = """
Turn annotations of other programs into masks of class ids, and divide images into training,
validation and test. Each command prints the lines for the config.

Nothing is written if two inputs would become one file, or a file exists and --overwrite is not
given. Broken inputs are named and skipped.
"""

EPILOG = """
exit code: 0 everything was written; 2 a mistake in the call, or broken inputs (each is named); 130
interrupted; 141 the reader of the output stopped, as `head` does.
"""

COCO = """
Masks from the polygons and run lengths of COCO instance annotations, one for each image that the
file names, even without objects. Crowds lie at the bottom and are ignored (255); above them,
smaller objects lie over larger ones. Without --classes and --label-map, every category is a
class, in the order of the ids, behind class 0, the background. Categories that are not chosen are
background. Annotations without an outline (boxes) are left out. Needs pycocotools.
"""

LABELME = """
Masks from labelme's JSON files. A shape lies over those before it in the file, as labelme itself
draws them. __ignore__ is ignored (255), _background_ is class 0. Without --classes, every label
is a class, sorted.
"""

COLOURS = """
Masks of ids from masks of colours. A class's id is its index in --palette; __ignore__ is ignored
(255). --list only shows which colours there are.
"""

SPLIT = """
Divide images with masks into train.txt, val.txt and test.txt, each with a list of its masks
beside it. Images of one group (a video, a patient, a place) stay together. With --stratify each
split gets its fraction of every class, and lacks no class if that can be avoided. The
same seed gives the same lists, whatever the order of the files.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = parse_arguments(argv)
    logging.basicConfig(format="%(message)s")  # of progress, on stderr: stdout has the results
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may contain what no encoding has; stderr escapes it by default.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        refuse_several()
        from conversion.commands import convert  # --help answers without these imports

        code = convert(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return end_after_broken_pipe()
    except (ValueError, OSError) as error:
        return report_mistake(error)
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
        help='JSON: {"1": 1, "dog": 2, "17": -1}, category id or name -> class; -1: ignored',
    )  # fmt: skip
    add("--images", metavar="FOLDER", help="the images, to compare their sizes")


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
        help="decode the image in a file that does not state its size",
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
        help="the folder that --images and --masks lie in, or a list of images",
    )  # fmt: skip
    add(
        "--images", metavar="PATH",
        help="folder, list or pattern ('*.jpg') of the images (default: images)",
    )  # fmt: skip
    add("--masks", metavar="PATH", help="the same for the masks (default: masks)")
    add("--mask-suffix", default="", metavar="SUFFIX", help="as in Folder: _gt for 1.jpg, 1_gt.png")
    for option in ("--mask-prefix", "--image-suffix", "--image-prefix"):
        add(option, default="", metavar="TEXT", help="as in Folder")
    add(
        "--band-suffixes", nargs="+", metavar="SUFFIX",
        help="as in Folder: _HH _HV where the bands of an image are 1_HH.tif and 1_HV.tif",
    )  # fmt: skip
    _output_options(parser, "lists")
    add(
        "--val",
        type=float,
        default=0.1,
        metavar="FRACTION",
        help="fraction for validation (default: 0.1)",
    )
    add(
        "--test",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="fraction for testing (default: 0, no test.txt)",
    )
    add(
        "--groups", metavar="REGEX|FILE",
        help="a regular expression for the group in an image's name ('^[^_]+'), or a file of "
        "lines 'image,group'",
    )  # fmt: skip
    add("--stratify", action="store_true", help="give each split its fraction of every class, too")
    add(
        "--ignore-index", type=int, nargs="+", metavar="ID",
        help="ids in the masks that are ignored (default: 255, unless all are black and white)",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="another seed gives other lists (default: 0)")


def _output_options(parser: argparse.ArgumentParser, what: str, *, required: bool = True) -> None:
    parser.add_argument(
        "-o", "--output", required=required, metavar="FOLDER", help=f"where the {what} go"
    )
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what} that exist")


if __name__ == "__main__":
    sys.exit(main())
