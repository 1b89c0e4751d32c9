"""Runs functions and programs on several processes that know of each other.

The processes are forked from a server that has imported torch once: a new interpreter would need
seconds for that, torchrun one more of them.
"""

import multiprocessing
import multiprocessing.connection
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import torch
import torch.multiprocessing

from utils.distributed.collectives import destroy_process_group, init_process_group

# The first step of an optimizer imports torch._dynamo.
multiprocessing.set_forkserver_preload(
    ["tests.processes", "torch._dynamo", "builders.sections", "trainer"]
)
PATIENCE = 300  # seconds


def on_processes(world_size, function, *args, folder):
    """Return what `function(*args)` returns on each process: tensors and plain data, by rank.

    The function is of a module that can be imported; `torch.distributed` is ready when it is
    called, and what it returns is handed back through the folder.
    """
    torch.multiprocessing.start_processes(
        _run_function,
        (world_size, free_port(), function, args, str(folder)),
        nprocs=world_size,
        start_method="forkserver",
    )
    paths = (f"{folder}/result{rank}.pth" for rank in range(world_size))
    return [torch.load(path, weights_only=True) for path in paths]


def run_program(program, world_size, *words, folder, **environment):
    """Run a program as torchrun does, and end all processes when one fails.

    Return a `subprocess.CompletedProcess` with the first exit code that is not 0. What the
    processes write goes through files of the folder; the environment is added to this one's.
    """
    context = multiprocessing.get_context("forkserver")
    port, environment = free_port(), {**os.environ, **environment}
    ranks = [
        context.Process(
            target=_run_program,
            args=(rank, world_size, port, str(program), [*map(str, words)], str(folder),
                  os.getcwd(), environment),
        )
        for rank in range(world_size)
    ]  # fmt: skip
    for rank, process in enumerate(ranks):
        for name in ("out", "err"):
            Path(folder, f"{name}{rank}").touch()  # a rank may be ended before it writes anything
        process.start()
    code, left = 0, {process.sentinel: process for process in ranks}
    while left:
        ended = multiprocessing.connection.wait(left, PATIENCE)
        assert ended, f"{program} has not ended"
        for sentinel in ended:
            process = left.pop(sentinel)
            process.join()
            if process.exitcode and not code:
                code = process.exitcode
                for other in left.values():
                    other.terminate()
    out, err = (
        "".join(Path(folder, f"{name}{rank}").read_text() for rank in range(world_size))
        for name in ("out", "err")
    )
    return subprocess.CompletedProcess(words, code, out, err)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _become(rank, world_size, port):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def _run_function(rank, world_size, port, function, args, folder):
    _become(rank, world_size, port)
    init_process_group("cpu")
    torch.save(function(*args), f"{folder}/result{rank}.pth")
    destroy_process_group()


def _run_program(rank, world_size, port, program, words, folder, cwd, environment):
    os.chdir(cwd)
    os.environ.clear()
    os.environ |= environment
    _become(rank, world_size, port)
    for number, name in ((1, "out"), (2, "err")):
        with open(f"{folder}/{name}{rank}", "w") as file:
            os.dup2(file.fileno(), number)
    sys.argv = [program, *words]
    sys.path.insert(0, str(Path(program).parent))
    runpy.run_path(program, run_name="__main__")
