"""An object store in memory: that of fsspec, which behaves like those that one rents."""

import pytest

from prediction.cluster import stores

STORE = "memory://bucket"


@pytest.fixture
def store():
    """The address of an empty store of this process."""
    system = stores.open_store(STORE).system
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield STORE
    system.store.clear()


@pytest.fixture
def fill(store):
    """Puts bytes into the store."""

    def fill(objects):
        system = stores.open_store(store).system
        for name, data in objects.items():
            system.pipe_file(f"/bucket/{name}", data)

    return fill
