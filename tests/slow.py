"""Which cases `make test` leaves to `make test-all`."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def mark_slow(values: Iterable[Any], slow: Container[Any] | None = None) -> list[Any]:
    """Return `values` for `parametrize`: those in `slow`, or all after the first, marked slow."""
    cases = list(values)
    slow = cases[1:] if slow is None else slow
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[pytest.mark.slow] * (case in slow),
        )
        for case in cases
    ]
