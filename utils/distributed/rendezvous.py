"""The rendezvous of processes that have been started again."""

import datetime
import time
import uuid

import torch.distributed as dist

LOOK_SECONDS = 0.02


def fresh_namespace(
    store: dist.Store, rank: int, world_size: int, patience: datetime.timedelta
) -> dist.Store:
    """Return a namespace of a store that no earlier start of these processes wrote to.

    `torchrun --max-restarts` gives processes that it starts again the store that their forerunners
    used, with the addresses in it of processes that are no more: they would try to reach those, and
    wait for each other forever (https://github.com/pytorch/pytorch/issues/167288). How often a
    process was started differs from machine to machine, so it cannot tell one life from another.

    Each process calls itself by a new name. The main one answers every name that it finds with that
    of a new prefix, until each has confirmed that it was answered under its own.

    Raises:
        RuntimeError: If the others do not join in time.
    """
    name = uuid.uuid4().hex
    end = time.monotonic() + patience.total_seconds()
    if rank == 0:
        missing = set(range(1, world_size))
        answered: dict[int, bytes] = {}
        while missing:
            for other in sorted(missing):
                if not store.check([f"name/{other}"]):
                    continue
                called = store.get(f"name/{other}")
                if answered.get(other) != called:
                    store.set(f"prefix/{called.decode()}", name)
                    answered[other] = called
                elif store.check([f"came/{called.decode()}/{name}"]):
                    missing.discard(other)
            if time.monotonic() > end:
                raise RuntimeError(f"these ranks did not join in time: {sorted(missing)}")
            time.sleep(LOOK_SECONDS)
        return dist.PrefixStore(name, store)
    store.set(f"name/{rank}", name)
    store.wait([f"prefix/{name}"], patience)
    prefix = store.get(f"prefix/{name}").decode()
    store.set(f"came/{name}/{prefix}", "")
    return dist.PrefixStore(prefix, store)
