"""Actors of Ray Data that work off the calls."""

import logging
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from prediction.cluster.attempts import Attempts
from prediction.cluster.calls import Report, unpack_report
from prediction.cluster.start import Share
from prediction.cluster.worker import Setup, Worker


def run(
    calls: Sequence[str], setup: Setup, models: Sequence[bytes], config: bytes | None, share: Share
) -> Generator[Report, None, None]:
    """Yield the report of each call, as they come.

    Ray Data starts a process that has died anew and repeats its call, for ever: `Attempts` sees to
    it that it is not for ever the same image.

    Args:
        calls: The images of each call, from `pack()`.
        setup: What all actors have in common.
        models: The contents of the checkpoints.
        config: The content of `--config`.
        share: What each actor gets.
    """
    import pyarrow
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0  # a block that is dropped would be images without a word
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    sent = ray.put((list(models), config))
    # A block has the names of its images: the actors read them, so that no block is large.
    blocks = ray.data.from_arrow([pyarrow.table({"call": [text]}) for text in calls])
    reports = blocks.map_batches(
        _Actor,
        fn_constructor_args=(setup, [sent], attempts, share),
        compute=ray.data.ActorPoolStrategy(size=share.actors),
        batch_size=1,
        num_cpus=share.cpus,
        num_gpus=share.gpus,
    )
    for row in reports.iter_rows():
        yield unpack_report(row["report"])


class _Actor:
    """A `Worker` in an actor of Ray Data."""

    def __init__(self, setup: Setup, sent: Sequence[Any], attempts: Any, share: Share) -> None:
        import ray

        models, config = ray.get(sent[0])
        counting = _RemoteAttempts(attempts)
        self._worker = Worker(setup, models, config, counting, _neighbours(share))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        return {"report": [self._worker.call(str(text)) for text in batch["call"]]}


class _RemoteAttempts:
    """`Attempts` in an actor of their own."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def load(self) -> int:
        return int(self._ask("load"))

    def loaded(self) -> None:
        self._ask("loaded")

    def begin(self, names: Sequence[str]) -> bool:
        return bool(self._ask("begin", names))

    def begin_alone(self, name: str) -> int:
        return int(self._ask("begin_alone", name))

    def end_alone(self, name: str) -> None:
        self._ask("end_alone", name)

    def end(self, names: Sequence[str]) -> None:
        self._ask("end", names)

    def _ask(self, method: str, *words: Any) -> Any:
        import ray

        return ray.get(getattr(self._actor, method).remote(*words))


def _neighbours(share: Share) -> int:
    """Return how many actors at most are on this machine."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == own)
    fit = resources.get("CPU", 1.0) // share.cpus
    if share.gpus:
        fit = min(fit, resources.get("GPU", 1.0) // share.gpus)
    return max(1, min(share.actors, int(fit)))
