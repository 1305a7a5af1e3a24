"""`python -m stack.guard FOLDER`: stop the folder's processes when its standard input is closed.

A process of its own: it outlives a caller that is killed. It starts with every test run, so it imports no server's
client and no service.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.processes import Processes
from stack.starter import Starter


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
    """Wait for the end of the caller, orderly or not, then stop what still runs in its folder."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    processes = Processes(folder)
    Starter(processes, lambda _: None).stop(processes.running())
    processes.stop_strays()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
