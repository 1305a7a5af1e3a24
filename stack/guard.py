"""`python -m stack.guard FOLDER`: stop its processes when the other end of standard input has been closed."""

import signal
import sys
from pathlib import Path

from stack.processes import Processes
from stack.starting import Starter


def main(folder: Path) -> None:
    """Wait for the end of the starter, orderly or not, then leave nothing of its folder running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.read()
    processes = Processes(folder)
    Starter(processes, lambda _: None).stop(processes.running())
    processes.sweep()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
