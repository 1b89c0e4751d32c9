"""Progress of long work: a bar on a terminal, a plain line a minute elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

from utils.cli.launcher import launched_rank
from utils.cli.sanitize import one_line, plain_lines

logger = logging.getLogger(__name__)

T = TypeVar("T")

INTERVAL = 60.0  # seconds, at least, from the start to the first line and from line to line
REFRESH = 1.0  # seconds between two looks at what happens within one item, on a terminal

clock = time.monotonic


class Progress:
    """Counts the items of a piece of work and shows how far it is, on the main process only.

    On a terminal that is a bar of tqdm. Elsewhere (a log file, a batch system) a bar would fill the
    log with its copies: there a line is logged at most every `INTERVAL` seconds, as in
    `epoch 3/80: step 120/450, loss 0.412, 35.1 images/s, 4 min left`. Work that ends sooner says
    nothing. An update between two lines reads the clock and costs nothing else.

    Args:
        total: How many items there are; None if they come one by one, until there are no more.
        unit: What an item is called, in the singular.
        label: What the work is called.
        initial: How many items are done already, as in an epoch that is resumed. They are not
            work of this process, so the speed and the time left come from the rest.
        leave: Whether the bar stays on the terminal at its end.
    """

    def __init__(
        self, *, total: int | None, unit: str, label: str = "", initial: int = 0, leave: bool = True
    ) -> None:
        main = launched_rank() == 0
        self._bar: tqdm[Any] = tqdm(
            total=total,
            unit=unit,
            desc=label or None,
            initial=initial,
            leave=leave,
            disable=None if main else True,  # None: where there is no terminal
        )
        self._logs = main and bool(self._bar.disable)
        self.done = initial
        self._total, self._unit, self._label, self._initial = total, unit, label, initial
        self._images: int | None = None
        self._name, self._items = "", 1
        self._started = clock()
        self._due = self._started + INTERVAL
        self._looked = self._started
        if self._logs:
            logger.setLevel(logging.INFO)  # also where the program shows warnings only

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def update(
        self, count: int = 1, *, images: int | None = None, detail: Callable[[], str] | None = None
    ) -> None:
        """Count items that are done.

        Args:
            count: How many.
            images: How many images they have, where an item is not an image itself.
            detail: Gives more to say, such as the loss; called only when a line is due, because it
                may have to wait for the device.
        """
        self.done += count
        if images is not None:
            self._images = (self._images or 0) + images
        if self._name and not self._bar.disable:
            self._bar.set_postfix_str("", refresh=False)
        self._bar.update(count)
        if self._logs and clock() >= self._due:
            self._log(detail() if detail is not None else "")

    def begin(self, name: object, items: int = 1) -> None:
        """Name the item that is worked on, for `inside()`; several where ranks split them."""
        self._name, self._items = one_line(str(name)), items

    def inside(self, done: int, total: int, fraction: float) -> None:
        """Show how far the current item is, after a pass; see `Predictor.watched_by()`."""
        if not self._name or done >= total:
            return
        if self._logs:
            if clock() >= self._due:
                self._log(within=f"{self._name}: pass {done}/{total}", fraction=fraction)
        elif not self._bar.disable and clock() >= self._looked + REFRESH:
            self._looked = clock()
            self._bar.set_postfix_str(f"pass {done}/{total}")

    def show(self, values: Mapping[str, str]) -> None:
        """Show values behind the bar, from its next update on."""
        self._bar.set_postfix(values, refresh=False)

    def _log(self, detail: str = "", within: str = "", fraction: float = 0.0) -> None:
        now = clock()
        self._due = now + INTERVAL
        seconds = now - self._started
        rest = self._items if self._total is None else self._total - self.done
        began = min(fraction * self._items, rest)  # of items that are not done
        worked = self.done - self._initial + began
        of_all = "" if self._total is None else f"/{self._total}"
        position = f"{self.done + 1}{of_all} ({within})" if within else f"{self.done}{of_all}"
        parts = [f"{self._unit} {position}"]
        if detail:
            parts.append(detail)
        if seconds > 0 and self.done > self._initial:
            if self._images is not None:
                parts.append(rate_text(self._images / seconds, "image"))
            else:
                parts.append(rate_text(worked / seconds, self._unit))
        if worked > 0 and self._total is not None:
            left = seconds / worked * max(0.0, self._total - self.done - began)
            parts.append(f"{duration_text(left)} left")
        line = ", ".join(parts)
        logger.info("%s", f"{self._label}: {line}" if self._label else line)


def track(
    items: Iterable[T],
    *,
    total: int,
    unit: str,
    label: str = "",
    leave: bool = True,
    images: Callable[[T], int] | None = None,
) -> Iterator[T]:
    """Hand items on and show how far the work on them is; the arguments are those of `Progress`."""
    with Progress(total=total, unit=unit, label=label, leave=leave) as progress:
        for item in items:
            yield item
            progress.update(images=None if images is None else images(item))


def complain(text: str) -> None:
    """Print a message on the standard error without tearing a bar."""
    tqdm.write(plain_lines(text), file=sys.stderr)


def rate_text(per_second: float, unit: str) -> str:
    """Return `"35.1 images/s"` for 35.08 and `"image"`; slow ones get two digits, as `0.062`."""
    number = f"{per_second:.1f}" if per_second >= 1 else f"{per_second:.2g}"
    return f"{number} {unit}s/s"


def duration_text(seconds: float) -> str:
    """Return `"40 s"`, `"4 min"`, `"2 h 5 min"` or `"3 d 4 h"`: as exact as a person needs it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"
