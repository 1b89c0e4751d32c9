"""Runs a function on several processes that know of each other."""

import os
import socket

import torch
import torch.multiprocessing

from utils.distributed.collectives import destroy_process_group, init_process_group


def on_processes(world_size, function, *args, folder):
    """What `function(*args)` returns on each process: tensors and plain data, by rank.

    Args:
        world_size: How many.
        function: Of a module that can be imported; `torch.distributed` is ready when it is called.
        args: For it.
        folder: For what is handed back.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    torch.multiprocessing.spawn(
        _run, (world_size, port, function, args, str(folder)), nprocs=world_size
    )
    return [
        torch.load(f"{folder}/result{rank}.pth", weights_only=True) for rank in range(world_size)
    ]


def _run(rank, world_size, port, function, args, folder):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    init_process_group("cpu")
    torch.save(function(*args), f"{folder}/result{rank}.pth")
    destroy_process_group()
