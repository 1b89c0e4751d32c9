"""Exit with 0 if serve.py answers on its port, or if the container runs another program."""

import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

PORT = 8000
FIRST_PROCESS = Path("/proc/1/cmdline")
PATIENCE = 4  # seconds


def is_serving(process: Path) -> bool:
    """Return whether the container's first process is serve.py, or the init that started it."""
    words = process.read_bytes().split(b"\0")
    return any(word.rsplit(b"/")[-1] in (b"serve", b"serve.py") for word in words)


def answers(port: int) -> bool:
    """Return whether `GET /health` is answered with 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=PATIENCE) as answer:
            return bool(answer.status == 200)
    except OSError as error:  # no connection, a timeout, or another status
        print(error)
        return False


def main(argv: Sequence[str]) -> int:
    """Return the exit code; the arguments are the port and the file that names the process."""
    port, process = argv or (PORT, FIRST_PROCESS)
    return 0 if not is_serving(Path(process)) or answers(int(port)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
