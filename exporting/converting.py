"""What the converters of all formats need: quiet, one line of reason, and a draft beside a file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what converters say of their own progress and of their own future from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    streams = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with warnings.catch_warnings(), streams[0], streams[1]:
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def converting(failure: str) -> Iterator[None]:
    """Say in one line why a converter fails, whose errors are of many kinds.

    Args:
        failure: What the message begins with.

    Raises:
        ValueError: If the converter fails.
        OSError: As it is, of a disk that is full.
    """
    try:
        with quiet():
            yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{failure}: {_reason(error)}") from error


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Give a name beside a file, for what takes its place at the end of the context."""
    draft = path.with_name(f"{path.stem}_{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """Return the line that says what the network does: of the innermost error, the first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    named = [line.strip("- ") for line in lines if "No conversion rule" in line]  # OpenVINO's
    return (named or lines)[0]
