"""Predict a mask for each picture: `python inference.py --model best_model.pth --images folder`."""

import argparse
import dataclasses
import fnmatch
import glob
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.cli.command_line import InputError, Parser, report_mistake
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.cli.launcher import is_launched, launched_rank, local_rank
from utils.cli.sanitize import first_line, plain_lines
from utils.runs.model_file import find_model

# Only light modules up here: --help and a mistyped path answer without loading torch.
if TYPE_CHECKING:
    import numpy as np
    import torch

    from prediction.load_model import Meta
    from prediction.predictor import Predictor
    from utils.runs.last_score import LastScore

MODES = ("multiscale", "sliding", "whole")
DEFAULT_MODE = "multiscale"

DESCRIPTION = """
Segment pictures with a trained model. The checkpoint is enough: it knows the model, the classes,
their colours and the normalisation.

For each picture one PNG is written, of the picture's size, whose pixel values are the class ids and
whose palette shows the classes' colours. It is called like the picture without its last extension
(im.0.jpg gives im.0.png) and lies in the same folder below --output as the picture below --images.
A mask that exists already is left as it is unless --overwrite is given, so an interrupted run can
be continued. Started by torchrun, several processes share the pictures.
"""

EPILOG = """
exit code: 0 all masks are there; 1 some pictures failed and were skipped (each is named); 2 nothing
was done because of a mistake in the call; 130 interrupted.
"""


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture, and the files to make of it."""

    picture: Path
    mask: Path
    overlay: Path | None

    def outputs(self) -> list[Path]:
        """The files to make."""
        return [self.mask] if self.overlay is None else [self.mask, self.overlay]

    def is_done(self) -> bool:
        """Whether all of them are there."""
        return all(path.exists() for path in self.outputs())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    arguments = parse_arguments(argv)
    try:
        return run(arguments)
    except InputError as error:
        return report_mistake(error, "inference.py")
    except KeyboardInterrupt:
        if not launched_rank():
            print(
                "interrupted; the masks so far are complete, the same command goes on",
                file=sys.stderr,
            )
        return 130


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "-m", "--model", required=True, metavar="PATH",
        help="the checkpoint: best_model.pth, or the folder of a run",
    )  # fmt: skip
    add(
        "-i", "--images", required=True, nargs="+", metavar="PATH",
        help="a folder (with all folders below it), a picture, or a pattern like 'a/*.jpg'",
    )  # fmt: skip
    add(
        "--exclude", action="append", default=[], metavar="PATTERN",
        help="leave out pictures and folders of this name, such as '*_mask.*' or masks; with a / "
        "in it, of this path below --images: 'a/*.png'. Any number of times",
    )  # fmt: skip
    add("-o", "--output", default="outputs", metavar="FOLDER", help="default: outputs")
    add(
        "-e", "--extension", metavar="EXT",
        help="only pictures with this extension, in any case (default: "
        + " ".join(extension[1:] for extension in IMAGE_EXTENSIONS)
        + ")",
    )  # fmt: skip
    add(
        "-mo", "--mode", choices=MODES, default=DEFAULT_MODE,
        help="multiscale: mean over six sizes of the picture (default); sliding: mean over "
        "overlapping tiles, mirrored too; whole: one pass, the fastest",
    )  # fmt: skip
    add("-c", "--config", metavar="FILE", help="for a file of bare weights: the training's config")
    add("-d", "--device", help="cpu, cuda, or the number of a GPU (default: cuda if there is one)")
    add(
        "--exif", choices=("apply", "ignore"),
        help="turn images as their EXIF orientation says, and so their masks, or leave both as "
        "they are stored (default: as in the training)",
    )  # fmt: skip
    add(
        "--overlay", action="store_true",
        help="also write <name>_overlay.png, to look at: classes outlined, and a legend",
    )  # fmt: skip
    add("--overwrite", action="store_true", help="replace masks that exist")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> int:
    """Predict all pictures that the arguments name; returns the exit code.

    Several processes share the pictures. The main one finds them, before any mask is written, says
    what has become of all of them, and has the exit code; the others end with 0.

    Raises:
        InputError: If the arguments name nothing to do, or something that cannot be done.
    """
    try:
        arguments.model, chosen = find_model(arguments.model)
    except ValueError as error:
        raise InputError(str(error)) from None
    if arguments.config is not None and not Path(arguments.config).is_file():
        raise InputError(f"--config: there is no file {arguments.config}")
    if chosen and not launched_rank():
        print(plain_lines(chosen), flush=True)
    output = Path(arguments.output)
    if not _is_free_for_folder(output):
        raise InputError(f"--output: {output} is not a folder, or lies in something that is none")
    if is_launched():
        from utils.distributed.collectives import PATIENCE_FOR_SHARES, init_process_group

        init_process_group(parse_device(arguments.device).type, PATIENCE_FOR_SHARES)
    extensions = wanted_extensions(arguments.extension)
    pairs = by_main(
        lambda: _as_text(
            leave_out(find_pictures(arguments.images, extensions, output), arguments.exclude)
        )
    )
    pictures = [(Path(path), Path(relative)) for path, relative in pairs]
    jobs = plan(pictures, output, arguments.overlay)
    todo = left_to_do(jobs, arguments.overwrite)
    failed, made, scored = 0, "", None
    if todo:
        from utils.runs.logger import log_to_console

        log_to_console(logging.ERROR if launched_rank() else logging.WARNING)
        predictor, meta, scored = load(arguments)
        wanted = leave_out_masks(pictures, meta, arguments.images)
        if meta.band_rule is not None and meta.band_rule.suffixes:
            wanted = first_bands(wanted, meta.band_rule.suffixes)
        if wanted is not pictures:
            jobs = plan(wanted, output, arguments.overlay)
            todo = left_to_do(jobs, arguments.overwrite)
        by_main(lambda: make_output_folder(output))
        started = time.perf_counter()
        failed = predict_all(todo, predictor, meta, arguments.overwrite)
        made = how_made(predictor, len(todo) - failed, time.perf_counter() - started)
    if is_launched():
        from utils.distributed.collectives import destroy_process_group

        destroy_process_group()
    if launched_rank():
        return 0
    written = len(todo) - failed
    if written and scored is not None and scored.mode != arguments.mode:
        print(f"note: {plain_lines(other_mode(scored, arguments))}", file=sys.stderr)
    print(summary(written, len(jobs) - len(todo), failed, output, made))
    return 1 if failed else 0


def by_main(find: Callable[[], Any]) -> Any:
    """What the main process finds, on every process; also without torch where there is one only.

    Raises:
        InputError: If it finds a mistake.
    """
    if not is_launched():
        return find()
    from utils.distributed.collectives import run_on_main_and_broadcast

    return run_on_main_and_broadcast(find, InputError)


def how_made(predictor: "Predictor", written: int, seconds: float) -> str:
    """How masks were made, and how fast, from files to files."""
    from utils.optim.precision import tf32_text
    from utils.progress import rate_text

    parts = [f"mode {predictor.mode}", rate_text(written / seconds, "image")]
    return ", ".join(filter(None, (*parts, tf32_text(predictor.device))))


def other_mode(scored: "LastScore", arguments: argparse.Namespace) -> str:
    """That the model's score is not that of these masks, and what to type for one that is."""
    model = shlex.quote(arguments.model)
    config = f" --config {shlex.quote(arguments.config)}" if arguments.config else ""
    return (
        f"{scored.sentence}; score this mode with: python evaluate.py --model {model}{config} "
        f"--mode {arguments.mode}"
    )


def summary(written: int, kept: int, failed: int, output: Path, made: str = "") -> str:
    """The last line: what is where, and how it was made."""
    text = f"{written} {'mask' if written == 1 else 'masks'} written to {output}"
    if written and made:
        text += f" ({made})"
    if kept:
        text += f"; {kept} left as they were (--overwrite replaces them)"
    if failed:
        text += f"; {failed} {'picture' if failed == 1 else 'pictures'} failed, named above"
    return text


# --------------------------------------------------------------------------------------------------
# From the arguments to a list of jobs


def wanted_extensions(extension: str | None) -> tuple[str, ...]:
    """`".png"` of `png`, `.png` or `PNG`; every known extension of None."""
    if extension is None:
        return IMAGE_EXTENSIONS
    return ("." + extension.lower().lstrip("*").lstrip("."),)


def find_pictures(
    sources: Sequence[str], extensions: Sequence[str], output: Path
) -> list[tuple[Path, Path]]:
    """All pictures that `--images` names, in order.

    Hidden files are left out, for copies from other systems are full of them, and so is what lies
    in the output folder, for that is masks.

    Args:
        sources: Folders, files and patterns.
        extensions: What a picture's name may end with, in lower case. A file that is named by
            itself may end with anything.
        output: The folder that the masks go to.

    Returns:
        The path of each picture, and the same path below its source.

    Raises:
        InputError: If a source does not exist, or there is no picture in any.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        path = Path(source)
        if path.is_file():
            found[path] = Path(path.name)
            continue
        if path.is_dir():
            if _same(path, output) and ".png" in extensions:
                raise InputError(
                    f"--output: {output} is the folder of the pictures, where the next run would "
                    "take the masks for pictures; choose another"
                )
            root, files = path, _files_below(path, output)
        else:
            root, files = _files_of_pattern(source, output)
        found.update((p, p.relative_to(root)) for p in files if p.suffix.lower() in extensions)
    if not found:
        endings = ", ".join(extension[1:] for extension in extensions)
        raise InputError(
            f"--images: no picture in {', '.join(sources)} (looked for: {endings}; --extension "
            "names another)"
        )
    return list(found.items())


def _as_text(pictures: Sequence[tuple[Path, Path]]) -> list[tuple[str, str]]:
    return [(str(path), str(relative)) for path, relative in pictures]


def _files_below(folder: Path, output: Path) -> list[Path]:
    """Every file that is not hidden, below `folder` but not in `output`, in order."""
    files = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(here)
        # A link to a folder above would be walked for ever.
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _same(Path(here, name), output)
        )
        files += [Path(here, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _refuse_folder(error: OSError) -> None:
    raise InputError(f"--images: {error.filename} cannot be read ({error.strerror})")


def _files_of_pattern(pattern: str, output: Path) -> tuple[Path, list[Path]]:
    """The part of the pattern before its first wildcard, and the files that match."""
    if not glob.has_magic(pattern):
        raise InputError(f"--images: there is no file or folder {pattern}")
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    files = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    # Where the pattern itself begins in the output folder, that is what the user wants.
    inside = output.resolve() not in (root.resolve(), *root.resolve().parents)
    return root, [
        file
        for file in files
        if file.is_file() and not (inside and output.resolve() in file.resolve().parents)
    ]


def leave_out(
    pictures: Sequence[tuple[Path, Path]], patterns: Sequence[str]
) -> list[tuple[Path, Path]]:
    """The pictures that no pattern of `--exclude` names.

    Args:
        pictures: The path of each, and the same path below its source.
        patterns: Of the name of a picture or of a folder that it lies in; with a `/`, of the path
            below the source.

    Raises:
        InputError: If none is left.
    """
    chosen = list(pictures)
    for pattern in patterns:
        left = [entry for entry in chosen if not _is_named(entry[1], pattern)]
        number = len(chosen) - len(left)
        _note(f"--exclude {pattern} leaves out {number} {'picture' if number == 1 else 'pictures'}")
        chosen = left
    if not chosen:
        raise InputError(f"--exclude: nothing is left of the {len(pictures)} pictures")
    return chosen


def _is_named(relative: Path, pattern: str) -> bool:
    """Whether a pattern is that of a path, or of one of its parts."""
    pattern = pattern.removeprefix("./").rstrip("/")
    if "/" not in pattern:
        return any(fnmatch.fnmatchcase(part, pattern) for part in relative.parts)
    paths = [relative, *relative.parents]
    return any(fnmatch.fnmatchcase(path.as_posix(), pattern) for path in paths)


def leave_out_masks(
    pictures: list[tuple[Path, Path]], meta: "Meta", sources: Sequence[str]
) -> list[tuple[Path, Path]]:
    """The pictures without those that are called like the masks of the training.

    Args:
        pictures: The path of each, and the same path below its source.
        meta: What the checkpoint says.
        sources: What `--images` names; a file, or a pattern with the masks' suffix in it, is taken
            at its word, unless the pictures of such masks are named too.

    Returns:
        The same list if there is no such picture.

    Raises:
        InputError: If none is left.
    """
    prefix, suffix = meta.mask_prefix, meta.mask_suffix
    if not (prefix or suffix):
        return pictures
    stems = {path.with_suffix("") for path, _ in pictures}
    named = {Path(source) for source in sources}
    meant = any(
        glob.has_magic(s) and prefix in Path(s).name and suffix in Path(s).name for s in sources
    )

    def is_mask(path: Path) -> bool:
        stem = path.stem
        if len(stem) < len(prefix) + len(suffix):
            return False
        if not (stem.startswith(prefix) and stem.endswith(suffix)):
            return False
        picture = path.with_name(stem[len(prefix) : len(stem) - len(suffix)] or stem)
        return picture in stems or not (meant or path in named)

    chosen = [entry for entry in pictures if not is_mask(entry[0])]
    number = len(pictures) - len(chosen)
    if not number:
        return pictures
    called = f"{prefix}*{suffix}"
    if not chosen:
        raise InputError(
            f"--images: all {number} files are called {called}, as the masks of the training are; "
            f"if they are pictures, name them by a pattern: --images 'FOLDER/{called}.*'"
        )
    what = "picture that is" if number == 1 else "pictures that are"
    _note(f"left out {number} {what} called {called}, as the masks of the training are")
    return chosen


def _note(text: str) -> None:
    if not launched_rank():
        print(f"note: {plain_lines(text)}", file=sys.stderr)


def first_bands(
    pictures: Sequence[tuple[Path, Path]], suffixes: Sequence[str]
) -> list[tuple[Path, Path]]:
    """Of pictures with a file for each band: the first band's files, named without their suffix.

    Raises:
        InputError: If there is none.
    """
    suffix = suffixes[0]
    found = [
        (path, relative.with_name(relative.stem.removesuffix(suffix) + relative.suffix))
        for path, relative in pictures
        if relative.stem.endswith(suffix)
    ]
    if not found:
        raise InputError(
            f"--images: the model takes one file a band, and none of the {len(pictures)} files "
            f"there has a name that ends with {suffix}"
        )
    return found


def plan(pictures: Sequence[tuple[Path, Path]], output: Path, overlay: bool) -> list[Job]:
    """Name the files to make.

    Raises:
        InputError: If two of them would be the same, or one is a picture itself.
    """
    jobs = [
        Job(
            picture,
            output / relative.with_name(relative.stem + ".png"),
            output / relative.with_name(relative.stem + "_overlay.png") if overlay else None,
        )
        for picture, relative in pictures
    ]
    sources = {picture.resolve() for picture, _ in pictures}
    owners: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs():
            other = owners.setdefault(path, job.picture)
            if other != job.picture:
                raise InputError(
                    f"{other} and {job.picture} would both become {path}: rename one, choose with "
                    "--extension, or run them with two --output folders"
                )
            if path.resolve() in sources:
                raise InputError(
                    f"--output: {path} is one of the pictures and would be replaced; choose "
                    "another folder"
                )
    return jobs


def left_to_do(jobs: Sequence[Job], overwrite: bool) -> list[Job]:
    """The jobs whose files are not all there; of all processes the main one looks."""
    places = by_main(
        lambda: [place for place, job in enumerate(jobs) if overwrite or not job.is_done()]
    )
    return [jobs[place] for place in places]


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_free_for_folder(path: Path) -> bool:
    """Whether `path` is a folder or could be made one."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    return existing.is_dir()


# --------------------------------------------------------------------------------------------------
# From jobs to masks


def make_output_folder(output: Path) -> None:
    """Make the folder, and find out now whether it can be written to.

    Raises:
        InputError: If not.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output: {output} cannot be made ({error.strerror})") from None
    if not os.access(output, os.W_OK):
        raise InputError(f"--output: {output} cannot be written to")


def load(arguments: argparse.Namespace) -> "tuple[Predictor, Meta, LastScore | None]":
    """Restore the model, on its device, and look how it was scored last.

    Raises:
        InputError: If the checkpoint, the config or the device is not usable.
    """
    from prediction.load_model import restore_from
    from prediction.predictor import Predictor
    from utils.checkpoint.content import read_checkpoint
    from utils.checkpoint.save_load import CheckpointError
    from utils.config.errors import ConfigError
    from utils.metrics.threshold import recorded_search
    from utils.out_of_memory import is_out_of_memory
    from utils.runs.last_score import last_score

    device = parse_device(arguments.device)
    try:
        checkpoint = read_checkpoint(arguments.model)
        model, meta = restore_from(checkpoint, arguments.model, device, arguments.config)
    except (CheckpointError, ConfigError) as error:
        raise InputError(str(error)) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"--device: {device} has no room for the model; try cpu") from None
    if meta.band_rule is None and meta.channels != 3:
        raise InputError(
            f"{arguments.model} is for images of {meta.channels} channels and does not say how "
            "they are read"
        )
    searched = recorded_search(checkpoint.meta).get("mode", arguments.mode)
    if searched != arguments.mode and not launched_rank():
        print(
            f"note: the threshold {meta.threshold:.4g} was chosen in mode {searched}; in mode "
            f"{arguments.mode} another may be best",
            file=sys.stderr,
        )
    if arguments.exif is not None:
        meta = dataclasses.replace(meta, exif=arguments.exif)
    predictor = Predictor(
        model, meta.mean, meta.std, device, mode=arguments.mode, threshold=meta.threshold
    )
    return predictor, meta, last_score(checkpoint, arguments.model)


def parse_device(name: str | None) -> "torch.device":
    """The device of `cpu`, `cuda`, `cuda:1` or `1`; of None, the first GPU if there is one.

    Of several processes each has the GPU of its own number.

    Raises:
        InputError: If there is no such device here.
    """
    import torch

    if is_launched() and (name == "cuda" or (name is None and torch.cuda.is_available())):
        there = torch.cuda.device_count()
        if local_rank() >= there > 0:
            raise InputError(
                f"torchrun starts more processes on this machine than it has GPUs ({there}); use "
                f"--nproc-per-node={there}, or --device cpu"
            )
        name = f"cuda:{local_rank()}"
    elif is_launched() and name not in (None, "cpu"):
        raise InputError(
            f"--device {name}: under torchrun each process takes a GPU of its own; leave it out, "
            "or use cpu or cuda (CUDA_VISIBLE_DEVICES=1,3 names the GPUs)"
        )
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        reason = first_line(error)
        raise InputError(f"--device: {name!r} cannot be used ({reason}); try cpu") from None
    if is_launched() and device.type == "cuda":
        torch.cuda.set_device(device)  # or each process would take some of the first GPU, too
    return device


def predict_all(jobs: Sequence[Job], predictor: "Predictor", meta: "Meta", overwrite: bool) -> int:
    """Write the masks; name each picture that fails, and go on.

    Several processes share the jobs. The main one shows its progress, in which the others are as
    far as itself, and names the others' failures at the end.

    Returns:
        How many failed, in all processes.
    """
    from utils.distributed.collectives import all_gather_json, is_main, rank, world_size
    from utils.files.file_notes import FileNote, collect_notes, count_notes
    from utils.progress import Progress, complain

    failed = []
    bar = Progress(total=len(jobs), unit="image")
    with collect_notes() as odd, bar, predictor.watched_by(bar.inside):
        for job in jobs[rank() :: world_size()]:
            at_once = min(world_size(), len(jobs) - bar.done)
            bar.begin(job.picture, at_once)
            reason = try_one(job, predictor, meta, overwrite)
            bar.update(at_once)
            if reason is not None:
                text = f"skipped {job.picture}: {reason.removeprefix(f'{job.picture}: ')}"
                failed.append(plain_lines(text))
                if is_main():
                    complain(failed[-1])
    count, odd_files = 0, []
    found = all_gather_json([failed, predictor.notes, odd])
    for number, (messages, notes, of_files) in enumerate(found):
        odd_files += [FileNote(*note) for note in of_files]
        for note in notes:
            predictor.note(note)
        for message in messages if is_main() and number else ():
            print(message, file=sys.stderr)
        count += len(messages)
    for line in count_notes(odd_files):
        predictor.note(f"{line}; read all the same")
    return count


def try_one(job: Job, predictor: "Predictor", meta: "Meta", overwrite: bool) -> str | None:
    """Write the files of one picture; if that fails, why."""
    from prediction.predictor import out_of_memory_advice
    from utils.out_of_memory import is_out_of_memory

    try:
        predict_one(job, predictor, meta, overwrite)
    except Exception as error:
        if is_out_of_memory(error):
            return out_of_memory_advice(predictor.device)
        if isinstance(error, (ValueError, RuntimeError, OSError)):
            return first_line(error)
        raise
    return None


def read_picture(path: Path, meta: "Meta") -> "np.ndarray":
    """A picture (H, W, C), read as in the training.

    Raises:
        ValueError: If it cannot be read.
    """
    from utils.files.image_head import read_head, turn_upright
    from utils.files.image_io import read_image
    from utils.files.raster_io import band_siblings, read_bands

    if meta.band_rule is None:
        pixels = read_image(path)
    else:
        paths = band_siblings(path, meta.band_rule.suffixes)
        pixels = read_bands(paths, meta.band_rule, meta.mean)[0]
    return turn_upright(pixels, read_head(path).orientation) if meta.exif == "apply" else pixels


def note_orientation(path: Path, predictor: "Predictor") -> None:
    """Say once that masks lie as images are stored, where viewers turn the images."""
    from utils.files.image_head import UPRIGHT, read_head

    text = "its EXIF orientation is not applied"
    if any(text in note for note in predictor.notes):
        return
    orientation = read_head(path).orientation
    if orientation != UPRIGHT:
        predictor.note(
            f"{path}: {text} (orientation {orientation}), nor that of any other image, as in the "
            "training: the mask lies as the pixels are stored, not as a viewer shows the image; "
            "--exif apply turns image and mask upright"
        )


def predict_one(job: Job, predictor: "Predictor", meta: "Meta", overwrite: bool) -> None:
    """Write the files of one picture that are missing, or all of them if `overwrite` is on.

    Raises:
        ValueError: If the picture cannot be read or predicted.
        OSError: If a file cannot be written.
    """
    from utils.drawing.overlay import draw_overlay
    from utils.drawing.palette import save_mask, save_picture

    image = read_picture(job.picture, meta)
    if meta.exif is None:
        note_orientation(job.picture, predictor)
    ids = predictor.predict(image)
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    if overwrite or not job.mask.exists():
        save_mask(job.mask, ids, meta.palette, overwrite=overwrite)
    if job.overlay is not None and (overwrite or not job.overlay.exists()):
        overlay = draw_overlay(meta.preview(image), ids, meta.classes, meta.palette)
        save_picture(job.overlay, overlay, overwrite=overwrite)


if __name__ == "__main__":
    sys.exit(main())
