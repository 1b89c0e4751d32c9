"""Sum up the manifests of all shards: `python -m prediction.jobs.summary results-*.csv`."""

import argparse
import collections
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prediction.jobs.find_images import exclude, find_images, wanted_extensions
from prediction.jobs.manifest import UNFINISHED, changed_products, rows_of
from prediction.jobs.results_file import Row
from prediction.jobs.shards import shard_of_path
from utils.cli.command_line import Parser, report_mistake
from utils.cli.sanitize import one_line

DESCRIPTION = """
Sum up the manifests of a prediction, those of all shards together: how many images have a result,
why others have none, and whether one was lost or predicted twice. What running or killed shards
have done so far is counted, too.
"""

EPILOG = """
exit code: 0 every image has its result, once; 1 some have not, and the lines say which; 2 a mistake
in the call.
"""

MAX_SHOWN = 10  # names or reasons in a line or list


class Summary(NamedTuple):
    """The rows of all manifests."""

    rows: Mapping[str, Row]  # by image; the one with a result where there are several
    twice: Mapping[str, Sequence[Path]]  # the manifests of an image that is in several
    missing_shards: Sequence[str]  # such as `7/64`

    @property
    def failed(self) -> list[Row]:
        """The rows of images without a result."""
        return [row for row in self.rows.values() if row.error]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    arguments = parse_arguments(argv)
    try:
        return run(arguments)
    except ValueError as error:
        return report_mistake(error, "summary")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(DESCRIPTION, EPILOG, prog="python -m prediction.jobs.summary")
    add = parser.add_argument
    add("manifests", nargs="+", metavar="FILE", help="results.csv, or those of all shards")
    add(
        "-i", "--images", nargs="+", metavar="PATH",
        help="what inference.py was given, to see whether an image is in no manifest",
    )  # fmt: skip
    add("--exclude", action="append", default=[], metavar="PATTERN", help="as in inference.py")
    add("-e", "--extension", metavar="EXT", help="as in inference.py")
    add("--column", metavar="NAME", help="as in inference.py")
    add(
        "-o", "--output", metavar="FOLDER",
        help="also read all products below this folder, to see whether they are as they were made",
    )  # fmt: skip
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> int:
    """Print the summary; return the exit code.

    Raises:
        ValueError: If a manifest or the images cannot be read.
    """
    paths = list(dict.fromkeys(map(Path, arguments.manifests)))
    summary = summarize(paths)
    lines = problems_of(summary)
    if arguments.images:
        lines += _lost(summary, arguments)
    if arguments.output:
        lines += _changed(summary, Path(arguments.output))
    done = len(summary.rows) - len(summary.failed)
    read = f"{_count(len(paths), 'manifest')}, {_count(len(summary.rows))}"
    print(f"{read}, of which {done} {'has' if done == 1 else 'have'} a result")
    for line in lines:
        print(one_line(line))
    return 1 if lines else 0


def summarize(paths: Sequence[Path]) -> Summary:
    """Read the rows of several manifests.

    Raises:
        ValueError: If one cannot be read.
    """
    rows: dict[str, Row] = {}
    owners: dict[str, Path] = {}
    twice: dict[str, list[Path]] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no manifest {path}")
        for name, row in rows_of(path).items():
            if owners.setdefault(name, path) != path:
                twice.setdefault(name, [owners[name]]).append(path)
            if name not in rows or not row.error:
                rows[name] = row
    return Summary(rows, twice, _missing_shards(paths))


def _missing_shards(paths: Iterable[Path]) -> list[str]:
    """Return the shards of which others are there but not they."""
    there = {shard for path in paths if (shard := shard_of_path(path)) is not None}
    totals = {shard.total for shard in there}
    return [
        f"{number}/{total}"
        for total in sorted(totals)
        for number in range(1, total + 1)
        if (number, total) not in there
    ]


def problems_of(summary: Summary) -> list[str]:
    """Return a line for each thing that is not as it should be."""
    lines = []
    if summary.missing_shards:
        lines.append(f"no manifest of {_some(summary.missing_shards, 'shard')}")
    if summary.twice:
        name, paths = next(iter(summary.twice.items()))
        where = " and ".join(map(str, paths[:MAX_SHOWN]))
        lines.append(f"in several manifests: {_some(list(summary.twice))} ({name} in {where})")
    examples: dict[str, list[str]] = collections.defaultdict(list)
    for row in summary.failed:
        examples[row.error].append(row.path)
    most = sorted(examples.items(), key=lambda item: (-len(item[1]), item[0]))
    for error, names in most[:MAX_SHOWN]:
        what = error if error == UNFINISHED else f"failed: {error}"
        lines.append(f"{what}: {_some(names)}")
    if rest := most[MAX_SHOWN:]:
        count = sum(len(names) for _, names in rest)
        lines.append(f"failed for {len(rest)} other reasons: {_count(count)}")
    return lines


def _lost(summary: Summary, arguments: argparse.Namespace) -> list[str]:
    """Compare with the images that were to be predicted; return a line if some are missing."""
    extensions = wanted_extensions(arguments.extension)
    output = Path(arguments.output or "outputs")
    images = find_images(
        arguments.images, extensions, output, column=arguments.column, allow_download=True
    )
    wanted = [image.name for image in exclude(images, arguments.exclude)]
    lost = [name for name in wanted if name not in summary.rows]
    return [f"in no manifest: {_some(lost)}"] if lost else []


def _changed(summary: Summary, output: Path) -> list[str]:
    """Read all products; return a line if some are not as they were made."""
    done = (row for row in summary.rows.values() if not row.error)
    changed = [path for row in done for path in changed_products(row, output)]
    return [f"changed or missing: {_some(changed, 'file')}"] if changed else []


def _some(names: Sequence[str], unit: str = "image") -> str:
    shown = ", ".join(names[:MAX_SHOWN])
    return f"{_count(len(names), unit)}: {shown}{', ...' if len(names) > MAX_SHOWN else ''}"


def _count(number: int, unit: str = "image") -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
