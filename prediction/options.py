"""The command line of inference.py; imports no torch, so that a --help answers at once."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prediction.products.kinds import parse_words
from utils.cli.choices import AMPS, BLENDS, DEFAULT_MODE, FLIPS, MERGES, MODES
from utils.cli.command_line import Parser
from utils.cli.extensions import IMAGE_EXTENSIONS

T = TypeVar("T")

DESCRIPTION = """
Segment images with a trained model. The checkpoint is enough: it contains the model, the classes,
their colours and the normalisation.

For each image one PNG of its size is written, whose pixel values are the class ids and whose
palette has the classes' colours; for a geo-referenced image a GeoTIFF. It is named like the image
without its last extension (im.0.jpg gives im.0.png), and its folder below --output is the image's
folder below --images. A mask that exists is kept unless --overwrite is given, so an interrupted run
can be continued. Images of any size are predicted, in windows where memory is too small for them as
a whole. Started by torchrun, several processes share the images.
"""

EPILOG = """
exit code: 0 every mask exists; 1 some images failed and were skipped (each is named), or the disk
is full; 2 nothing was done because of a mistake in the call; 130 interrupted.
"""

SAVE_HELP = (
    "what to write, separated by commas (default: ids; of a video, overlay, which is one video; of "
    "a camera, nothing, only a window): ids, colour, overlay, confidence, entropy, "
    "probabilities, class:NAME, polygons, table, summary; with a dot and a format where there are "
    "several: ids.npy, ids.tif, colour.jpg, confidence.tif, probabilities.tif, polygons.coco, "
    "polygons.labelme (default: polygons.geojson)"
)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG)
    _add_inputs(parser)
    add_outputs(parser)
    add_passes(parser)
    add_sizes(parser)
    _add_many(parser.add_argument_group("many images"))
    return parser.parse_args(argv)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-m", "--model", required=True, nargs="+", action="extend", metavar="PATH",
        help="the checkpoint: best_model.pth, or the folder of a run; several of the same classes "
        "are an ensemble",
    )  # fmt: skip
    add(
        "-i", "--images", required=True, nargs="+", action="extend", metavar="PATH",
        help="a folder (with all folders below it), an image, a pattern like 'a/*.jpg', a list of "
        "paths (.txt, .csv, .parquet), - for paths from standard input (the masks' paths go to "
        "standard output), a video, camera:0, or an http(s) address with --allow-download",
    )  # fmt: skip
    add_selection(parser)
    add_model_settings(parser)
    add("-d", "--device", help="cpu, cuda, or the number of a GPU (default: cuda if there is one)")
    add("--every", type=count, default=1, metavar="N",
        help="of a video or camera, predict each N-th frame (default: 1)")  # fmt: skip


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which of the images are meant, and where a list has them."""
    add = parser.add_argument
    add(
        "--exclude", action="append", default=[], metavar="PATTERN",
        help="leave out images and folders of this name, such as '*_mask.*' or masks; with a / "
        "in it, of this path below --images: 'a/*.png'. Any number of times",
    )  # fmt: skip
    add(
        "-e", "--extension", metavar="EXT",
        help="only images with this extension, in any case (default: "
        + " ".join(extension[1:] for extension in IMAGE_EXTENSIONS)
        + ")",
    )  # fmt: skip
    add("--column", metavar="NAME", help="the column of a table that has the paths")
    add(
        "--allow-download", action="store_true",
        help="fetch images whose http(s) addresses are named, each up to 512 MB",
    )  # fmt: skip


def add_model_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options on how models are loaded and images are read."""
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", help="for a file of bare weights: the training's config")
    add(
        "--ensemble-weights", type=_numbers, default=(), metavar="W,W",
        help="how much each model of an ensemble counts (default: all alike)",
    )  # fmt: skip
    add(
        "--exif", choices=("apply", "ignore"),
        help="turn images as their EXIF orientation says, and so their masks, or leave both as "
        "they are stored (default: as in training)",
    )  # fmt: skip


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the options on what is written, and where."""
    add = parser.add_argument_group("what is written").add_argument
    add("-o", "--output", default="outputs", metavar="FOLDER",
        help="where the masks go (default: outputs)")  # fmt: skip
    add("--save", metavar="LIST", action=_Joined, help=SAVE_HELP)
    add("--overlay", action="store_true", help="also write overlays, as --save ids,overlay does")
    add("--overwrite", action="store_true", help="replace masks that exist")
    add(
        "--unsure", type=number, metavar="P",
        help="give pixels the ignored id where the confidence is lower than this",
    )  # fmt: skip
    add("--strength", type=number, metavar="S",
        help="how strong an overlay's tint is, 0 to 1 (default: 0.45)")  # fmt: skip
    add("--outlines", action="store_true", help="overlays have outlines only")
    add("--no-legend", action="store_true", help="colour masks and overlays have no legend")
    add("--min-area", type=number, metavar="A",
        help="leave out polygons of a smaller area, in pixels or map units")  # fmt: skip
    add(
        "--simplify", type=number, metavar="D",
        help="leave out bends of polygons that are smaller than about this, in pixels or map units "
        "(default: 0, exact)",
    )  # fmt: skip


def add_passes(parser: argparse.ArgumentParser) -> None:
    """Add the options on how often and how a model sees each pixel."""
    add = parser.add_argument_group("how the model sees an image").add_argument
    add(
        "-mo", "--mode", choices=MODES, default=DEFAULT_MODE,
        help="multiscale: mean over six sizes of the image (default); sliding: mean over "
        "overlapping tiles, mirrored too; whole: one pass, the fastest",
    )  # fmt: skip
    add(
        "--scales", type=_numbers, metavar="S,S",
        help="the sizes of mode multiscale (default: 0.75,1,1.25,1.5,1.75,2)",
    )  # fmt: skip
    add(
        "--flip", choices=FLIPS,
        help="also predict mirror images: left and right, up and down too, or all eight ways to "
        "turn and mirror (default: horizontal for mode sliding, else none)",
    )  # fmt: skip
    add(
        "--merge", choices=MERGES, default=MERGES[0],
        help="how sizes, mirror images and models become one (default: mean-logits)",
    )  # fmt: skip


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options on windows, memory and speed."""
    add = parser.add_argument_group("large images, memory and speed").add_argument
    add(
        "--window", type=count, metavar="PIXELS",
        help="cut images larger than this into overlapping windows (default: only those that do "
        "not fit into memory, into windows of 1024 or less)",
    )  # fmt: skip
    add("--overlap", type=number, default=0.25, metavar="F",
        help="the part of a window that the next one sees too (default: 0.25)")  # fmt: skip
    add("--blend", choices=BLENDS, default=BLENDS[0],
        help="how overlapping windows are weighed (default: gaussian)")  # fmt: skip
    add(
        "--memory", metavar="SIZE",
        help="the most memory of the program, everything included, such as 2GB (default: what is "
        "free)",
    )  # fmt: skip
    add(
        "--large", action="store_true",
        help="read images that claim more pixels than their file's size makes likely",
    )  # fmt: skip
    add("--batch-size", type=count, default=1, metavar="N",
        help="windows, or small images of one size, that go through the model together "
        "(default: 1)")  # fmt: skip
    add("--workers", type=_count_or_none, metavar="N",
        help="threads that read and threads that write meanwhile (default: 2)")  # fmt: skip
    add(
        "--amp", choices=AMPS, default="off",
        help="the network in 16 bits: auto where the GPU or processor computes with them "
        "(default: off)",
    )  # fmt: skip
    add("--compile", action="store_true", help="compile the network first, which takes a minute")


def _add_many(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--shard", metavar="I/N",
        help="only the I-th of N parts of the images, 1/64 to 64/64; each image is in one part. "
        "slurm: the part of this job in a SLURM array",
    )  # fmt: skip
    add(
        "--manifest", metavar="FILE",
        help="write a line for each image with digests of image, model and products, to a .csv or "
        ".parquet file; what it has already is verified and skipped",
    )  # fmt: skip


def refuse_idle_options(arguments: argparse.Namespace) -> None:
    """Refuse options that have no effect beside the others.

    Raises:
        ValueError: If there is one.
    """
    saved = {kind.name for kind in parse_words(arguments.save)} if arguments.save else set()
    if arguments.scales is not None and arguments.mode != "multiscale":
        raise ValueError(f"--scales: is for --mode multiscale, not {arguments.mode}")
    if arguments.blend not in (BLENDS[0], "none") and arguments.overlap == 0:
        raise ValueError("--blend: needs windows that overlap; raise --overlap")
    needed = {
        "strength": ("overlay",), "outlines": ("overlay",), "no_legend": ("overlay", "colour"),
        "min_area": ("polygons",), "simplify": ("polygons",),
    }  # fmt: skip
    for name, products in needed.items():
        if getattr(arguments, name) not in (None, False) and not saved & set(products):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: is for --save {' or '.join(products)}, which is not asked")


class _Joined(argparse.Action):
    """Joins what is given several times with commas; a default counts for nothing then."""

    given = False

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = f"{getattr(namespace, self.dest)}," if self.given else ""
        setattr(namespace, self.dest, f"{before}{values}")
        self.given = True


def _parsed(text: str, convert: Callable[[str], T], what: str) -> T:
    try:
        return convert(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}") from None


def number(text: str) -> float:
    """Return a finite number, for argparse."""
    value = _parsed(text, float, "a number")
    if value != value or abs(value) == float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return value


def count(text: str) -> int:
    """Return a whole number from 1 on, for argparse."""
    value = _parsed(text, int, "a whole number")
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text!r}")
    return value


def _count_or_none(text: str) -> int:
    value = _parsed(text, int, "a whole number")
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text!r}")
    return value


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(number(word) for word in text.split(","))
