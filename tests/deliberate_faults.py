"""Show that the tests guard what they promise: `python -m tests.deliberate_faults`.

Each fault of `tests/fault_table.py` replaces a text in a copy of the working tree; the tests that
it names have to fail. A fault that is not caught is named, and the program ends with 1.
"""

from __future__ import annotations

import argparse
import ast
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.fault_table import FAULTS, Fault

ROOT = Path(__file__).resolve().parent.parent
# Of pytest: 0 all passed, 1 some failed; whatever else is neither (nothing collected, no import).
PASSED, FAILED = 0, 1
PATIENCE = 120  # seconds: a test that waits forever has found nothing


class Outcome(NamedTuple):
    """The exit code of pytest, and what it printed."""

    code: int | None
    output: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(prog="deliberate_faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names: run these faults only")
    parser.add_argument("--list", action="store_true", help="list the faults and their tests")
    parser.add_argument("--jobs", type=int, default=1, help="faults at once, each in its own copy")
    options = parser.parse_args(arguments)
    faults = [f for f in FAULTS if not options.names or any(n in f.name for n in options.names)]
    if not faults:
        parser.error("no fault has such a name; --list shows them")
    if options.list:
        for fault in faults:
            print(f"{fault.name}\n    {fault.file}: {', '.join(fault.tests)}")
        return 0

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deliberate_faults_") as folder:
        copies = [Path(folder, str(number)) for number in range(max(1, options.jobs))]
        for copy in copies:
            copy_tree(copy)
        named = dict.fromkeys(test for fault in faults for test in fault.tests)
        healthy = run_tests(copies[0], named, patience=PATIENCE * len(faults))
        if healthy.code != PASSED:
            print(f"{healthy.output}\nThe tests fail without a fault.")
            return 1
        print(f"{len(named)} tests pass without a fault ({time.monotonic() - started:.0f} s).")
        missed = try_all(faults, copies)
    seconds = time.monotonic() - started
    print(f"{len(faults) - len(missed)} of {len(faults)} faults were caught in {seconds:.0f} s.")
    if missed:
        print("Not caught: " + "; ".join(missed))
    return 1 if missed else 0


def copy_tree(target: Path) -> None:
    """Copy the tracked files of the working tree, as they are now."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout
    for name in os.fsdecode(listed).split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def try_all(faults: Iterable[Fault], copies: Iterable[Path]) -> list[str]:
    """Try each fault in a copy that no other one is using; return the names of those missed."""
    free: queue.Queue[Path] = queue.Queue()
    for copy in copies:
        free.put(copy)

    def attempt(fault: Fault) -> str | None:
        copy = free.get()
        began = time.monotonic()
        try:
            caught, result = try_fault(fault, copy)
        finally:
            free.put(copy)
        word = "caught" if caught else "MISSED"
        print(f"{word}  {fault.name} ({time.monotonic() - began:.1f} s): {result}", flush=True)
        return None if caught else fault.name

    with ThreadPoolExecutor(free.qsize()) as pool:
        return [name for name in pool.map(attempt, faults) if name is not None]


def try_fault(fault: Fault, tree: Path) -> tuple[bool, str]:
    """Return whether a test fails with the fault, and the first one or why none does."""
    path = tree / fault.file
    healthy = path.read_text(encoding="utf-8")
    faulty = fault.apply(healthy)
    ast.parse(faulty)  # raises a SyntaxError: a module that is none would fail any test
    path.write_text(faulty, encoding="utf-8")
    try:
        outcome = run_tests(tree, fault.tests, patience=PATIENCE)
    finally:
        path.write_text(healthy, encoding="utf-8")
    lines = outcome.output.splitlines()
    if outcome.code == FAILED:
        return True, next((text for text in lines if text.startswith("FAILED")), "")[:150]
    if outcome.code is None:
        return False, f"the tests did not end within {PATIENCE} s"
    return False, f"pytest ended with {outcome.code}: {lines[-1] if lines else 'no output'}"


def run_tests(tree: Path, tests: Iterable[str], *, patience: float) -> Outcome:
    """Run tests of a copy in a process of their own, up to the first that fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Bytecode is told from its source by size and second, which a fault may leave alike. The
        # path: of processes that a test starts elsewhere.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that the test has started
        return Outcome(None, process.communicate()[0])
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Outcome(process.returncode, output)


if __name__ == "__main__":
    sys.exit(main())
