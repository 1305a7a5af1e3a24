"""Stop a folder's processes when whoever holds the other end of standard input has gone: `python -m stack.guard FOLDER`."""

import signal
import sys
from pathlib import Path

from stack.processes import Processes


def main(folder: Path) -> None:
    """Wait for the end of the starter, orderly or not, then leave nothing of its folder running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.read()
    processes = Processes(folder)
    for running in reversed(processes.running()):
        processes.stop(running.name)
    processes.sweep()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
