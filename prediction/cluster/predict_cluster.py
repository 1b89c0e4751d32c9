"""The run of prediction.on_ray: find, plan, start, predict, collect."""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prediction.cluster import engine, start
from prediction.cluster.calls import Report, Todo, pack, split
from prediction.cluster.collect import Collector, Counts
from prediction.cluster.find import find_all
from prediction.cluster.plan import Plan, make_plan
from prediction.cluster.stores import is_store
from prediction.cluster.targets import target_of
from prediction.cluster.worker import Setup
from prediction.jobs.image_file import ImageFile
from prediction.jobs.manifest import Manifest, open_manifest
from prediction.load_model import Meta
from prediction.outputs import Outputs, settings_of
from prediction.predict_files import load, manifest_path
from prediction.predict_images import images_for
from prediction.record import digest_of_run
from utils.cli.signals import unwind_on_sigterm
from utils.progress import complain, rate_text


class Outcome(NamedTuple):
    """What has become of the images."""

    counts: Counts
    how: str = ""  # how fast, if something was predicted


def predict_cluster(arguments: argparse.Namespace) -> Outcome:
    """Predict the images that the arguments name, as far as they are not done.

    Raises:
        ValueError: If there is nothing to predict, or something cannot be used.
    """
    found = find_all(arguments)
    meta = _meta(arguments)
    local = [source for source in arguments.images if not is_store(source)]
    images = images_for(meta, found.images, local) if found.images else []
    for address in found.unsafe:
        complain(f"skipped {address}: its name is no path below a folder; rename it")
    with contextlib.ExitStack() as stack:
        manifest = digests = None
        if arguments.manifest is not None:
            # Products are named by their paths below the output, wherever that is.
            manifest = stack.enter_context(open_manifest(manifest_path(arguments), Path()))
            digests = digest_of_run(arguments.model, arguments)
        plan = _plan(images, meta, manifest, arguments)
        begun = {result.name for result in plan.refused} | {todo.name for todo in plan.todos}
        files = {image.name: image.file for image in images if image.name in begun}
        started = time.perf_counter()
        reports = _reports(plan.todos, digests, arguments, stack)
        collector = Collector(files, manifest, digests)
        counts = collector.collect(plan.refused, reports)
    seconds = time.perf_counter() - started
    how = ""
    if counts.written:
        how = (
            f"mode {arguments.mode}, {rate_text(counts.written / seconds, 'image')} with the start"
        )
    kept, failed = counts.kept + plan.kept, counts.failed + len(found.unsafe)
    return Outcome(counts._replace(kept=kept, failed=failed), how)


def _meta(arguments: argparse.Namespace) -> Meta:
    """Load the model here, so that what is wrong with it is known before anything is started."""
    here = {"device": "cpu", "amp": "off", "compile": False}
    return load(arguments.model, argparse.Namespace(**{**vars(arguments), **here})).meta


def _plan(
    images: Sequence[ImageFile],
    meta: Meta,
    manifest: Manifest | None,
    arguments: argparse.Namespace,
) -> Plan:
    target = target_of(arguments.output)
    outputs = Outputs.of(arguments.save, meta.classes, target.work, settings_of(arguments))
    _refuse_labelme(images, outputs, arguments.output)
    target.prepare()
    return make_plan(images, outputs, target, manifest=manifest, overwrite=arguments.overwrite)


def _refuse_labelme(images: Sequence[ImageFile], outputs: Outputs, output: str) -> None:
    """Refuse files that say where their image is, if they or it are in a store."""
    names_image = any(kind.format == "labelme" for kind in outputs.kinds)
    if names_image and (is_store(output) or any(is_store(image.file) for image in images)):
        raise ValueError(
            "--save: polygons.labelme names the file of its image, and labelme finds none in an "
            "object store; choose polygons.geojson or polygons.coco"
        )


def _reports(
    todos: Sequence[Todo],
    digests: tuple[str, str] | None,
    arguments: argparse.Namespace,
    stack: contextlib.ExitStack,
) -> Iterator[Report]:
    """Return the reports of actors that predict all images; they end with the stack."""
    if not todos:
        return iter(())
    models = [Path(model).read_bytes() for model in arguments.model]
    config = None if arguments.config is None else Path(arguments.config).read_bytes()
    share = start.start(
        arguments.address,
        actors=arguments.actors,
        cpus=arguments.cpus_per_actor,
        gpus=arguments.gpus_per_actor,
        extra_bytes=sum(map(len, models)) + sum(len(todo.file) + 200 for todo in todos),
    )
    stack.callback(start.stop)
    stack.enter_context(unwind_on_sigterm())  # Ray has put a handler of its own in place
    calls = [pack(part) for part in split(todos, share.actors, arguments.batch_size)]
    share = share._replace(actors=min(share.actors, len(calls)))
    print(share.text(), file=sys.stderr)
    device = "cuda" if share.gpus else "cpu"
    own = argparse.Namespace(**{**vars(arguments), "device": device})
    setup = Setup(own, digests, share.actors, share.cpus)
    # Closed before Ray is stopped, which it would complain of.
    return stack.enter_context(contextlib.closing(engine.run(calls, setup, models, config, share)))
