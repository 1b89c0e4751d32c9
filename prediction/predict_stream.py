"""The run of inference.py over images that are named, or come, while it works."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from prediction.jobs.claims import check_one_by_one
from prediction.jobs.image_file import ImageFile
from prediction.jobs.plan import is_done, make_output_folder
from prediction.jobs.source_kinds import Stream
from prediction.jobs.stdin_images import PathOutput, images_of_lines
from prediction.outputs import Outputs, RunProducts, settings_of
from prediction.pipeline import Done
from prediction.predict_files import Outcome, how_made, image_run, load, run_facts
from prediction.predict_images import predict_all
from prediction.provenance import Provenance
from utils.cli.sanitize import first_line
from utils.progress import complain


def predict_stream(stream: Stream, models: Sequence[str], arguments: argparse.Namespace) -> Outcome:
    """Predict images from standard input, a video or a camera.

    Raises:
        ValueError: If something cannot be used.
    """
    if arguments.shard or arguments.manifest:
        option = "--shard" if arguments.shard else "--manifest"
        raise ValueError(f"{option}: is for files; a stream is predicted by one process, once")
    if stream == "video":
        from prediction.predict_video import predict_video

        return predict_video(models, arguments)
    if stream == "camera":
        from prediction.predict_camera import predict_camera

        return predict_camera(models, arguments)
    return predict_lines(models, arguments)


def predict_lines(models: Sequence[str], arguments: argparse.Namespace) -> Outcome:
    """Predict the images whose paths come on standard input; print the paths of their masks."""
    if arguments.workers is None:
        # Nothing is read ahead: the next path may come in an hour.
        arguments = argparse.Namespace(**{**vars(arguments), "workers": 0})
    with PathOutput() as paths:
        opened = load(models, arguments)
        output = Path(arguments.output)
        make_output_folder(output)
        provenance = Provenance(models, arguments)
        outputs = Outputs.of(arguments.save, opened.meta.classes, output, settings_of(arguments))
        of_run = RunProducts(output, arguments.save)
        provenance.record(outputs)
        run = image_run(opened, outputs, of_run, arguments)
        counts = {"kept": 0, "refused": 0, "written": 0}
        differences: list[str] = []

        def is_made(image: ImageFile) -> bool:
            return is_done(outputs.paths(image)) and of_run.have(image)

        def name(image: ImageFile) -> None:
            for path in outputs.paths(image)[:1]:  # none where only a table is wanted
                paths.write(path)

        def pending() -> Iterator[ImageFile]:
            if sys.stdin is None:
                raise ValueError("--images: -: the program was started without standard input")
            lines = images_of_lines(sys.stdin.buffer, allow_download=arguments.allow_download)
            for image, problem in check_one_by_one(lines, outputs.paths):
                if problem is not None:
                    counts["refused"] += 1
                    complain(f"skipped {image.file}: {problem}")
                elif not arguments.overwrite and is_made(image):
                    counts["kept"] += 1
                    differences.extend(provenance.differences(image, outputs))
                    name(image)
                else:
                    try:
                        provenance.check_image(image, outputs)
                    except ValueError as error:
                        counts["refused"] += 1
                        complain(f"skipped {image.file}: {first_line(error)}")
                    else:
                        yield image

        def finished(done: Done[ImageFile]) -> None:
            if done.error is None:
                counts["written"] += 1
                name(done.job)

        started = time.perf_counter()
        failed = predict_all(run, pending(), None, finished=finished).failed
        seconds = time.perf_counter() - started
        device = str(run.predictor.device)
        provenance.note_kept(differences)
        of_run.close(run_facts(models, arguments, seconds, device))
        how = how_made(run, counts["written"] / seconds, arguments.mode)
        return Outcome(
            counts["written"], counts["kept"], failed + counts["refused"], how, opened.score
        )
