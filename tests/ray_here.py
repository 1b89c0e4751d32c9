"""Ray is an optional package of half a gigabyte: tests that start it run where it is installed."""

import importlib.util
import os
import textwrap

import pytest

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason='Ray is not installed: pip install "ray[data]" (see docs/scale.md)',
)

# Python imports a file of this name first, in every process of Ray too.
CUSTOMIZE = """
import importlib.util, os, sys

class Patch:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def changed(module):
            run(module)
{code}
        spec.loader.exec_module = changed
        return spec

sys.meta_path.insert(0, Patch())
"""


def environment():
    """What a program is started with, without what another Ray here may have set."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {**own, "OMP_NUM_THREADS": "1"}


def changed_actors(folder, module, code):
    """The environment of a program in whose processes `code` has changed `module`."""
    folder.mkdir()
    text = CUSTOMIZE.format(module=module, code=textwrap.indent(code, " " * 12))
    (folder / "sitecustomize.py").write_text(text)
    return {**environment(), "PYTHONPATH": str(folder)}
