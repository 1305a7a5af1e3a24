"""`python -m stack.guard FOLDER`: stop its processes when the other end of standard input has been closed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.processes import Processes
from stack.starting import Starter


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Leave nothing of this folder running when the caller ends, however it ends."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "stack.guard", str(folder)],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
        # Out of reach of a Ctrl-C meant for the caller.
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate()


def main(folder: Path) -> None:
    """Wait for the end of the starter, orderly or not, then leave nothing of its folder running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    processes = Processes(folder)
    Starter(processes, lambda _: None).stop(processes.running())
    processes.sweep()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
