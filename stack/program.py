"""What to run: a program, how to see that it is ready, and what its start reports.

The guard and the supervisor import this, so it stays free of servers' clients.
"""

import hashlib
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path


class StartError(Exception):
    """A program did not start; the text says why, and ends with what this start wrote to the log."""


# Returns when the program is ready, raises anything while it is not.
ReadinessCheck = Callable[[], object]

# Receives a line for a person after each step.
StartupProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSpec:
    """What to run, how to see that it is ready, and how long to wait for its start and its end."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    # Which the program reads at its start: other contents are another way of running it.
    files: tuple[Path, ...] = ()
    # On which it will listen, so that another process on one of them is named before the start.
    ports: tuple[int, ...] = ()
    check_ready: ReadinessCheck
    start_timeout: timedelta = timedelta(seconds=60)
    # How long after `stop_signal` before it is killed.
    grace: timedelta = timedelta(seconds=15)
    stop_signal: signal.Signals = signal.SIGTERM
    # Lower stages start first and stop last; the programs of one stage start and stop together.
    stage: int = 0

    @property
    def digest(self) -> str:
        """Return what differs between two ways of running the program."""
        contents = [path.read_text() for path in self.files]
        text = json.dumps([self.command, sorted(self.environ.items()), self.ports, contents])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Preparing a program may take seconds (a download, a database's folder), so it is done in a thread of its own.
ProgramFactory = Callable[[], ProgramSpec]
