"""Start a program as several processes, or find that it is one. Imports torch only to start."""

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence

from utils.cli.signals import EXIT_CODES, SIGNALS

SPEAKING_SECONDS = 15
LOOK_SECONDS = 1.0


def is_launched() -> bool:
    """Return whether torchrun or `launch()` started this process."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()


def launched_rank() -> int:
    """Return the rank of this process, also before the process group is there."""
    return int(os.environ["RANK"]) if is_launched() else 0


def local_rank() -> int:
    """Return the rank of this process on its machine, which is the index of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if is_launched() else 0


def local_world_size() -> int:
    """Return how many processes of the run are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if is_launched() else 1


def end_with_launcher() -> None:
    """Watch torchrun, and end as by SIGTERM once it is gone.

    Where torchrun is killed, or ends by a signal that it does not pass on, its processes would go
    on beside those of the next start.
    """
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=watch, daemon=True).start()


def defer_to_main_process() -> None:
    """Wait a moment before an error message that the main process can have, too.

    The launcher ends all processes when one has failed, so the user reads the message once.
    """
    if launched_rank():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SPEAKING_SECONDS)


def destroy_group() -> None:
    """Destroy the process group, if there is one, before the program ends with an error.

    The threads of a living process group can abort the interpreter at its end, and the exit code
    is lost.
    """
    # It imports torch; where nobody has imported it, there is no group.
    collectives = sys.modules.get("utils.distributed.collectives")
    if collectives is not None:
        collectives.destroy_process_group()


def refuse_several() -> None:
    """Refuse to run as several processes.

    Raises:
        ValueError: If there are several.
    """
    if is_launched() and int(os.environ["WORLD_SIZE"]) > 1:
        raise ValueError("this program runs in one process; leave out torchrun")


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def launch(count: int, program: str, words: Sequence[str]) -> int:
    """Run a program as several processes of this machine, with torch's own elastic launcher.

    Returns:
        The exit code: that of the process that failed first, or 0.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        signals_to_handle=",".join(signal.Signals(number).name for number in SIGNALS),
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # The processes say themselves what is wrong; the launcher would add a page for each.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)(program, *words)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException as error:  # which it has handed on
        return EXIT_CODES[error.sigval]
    return 0
