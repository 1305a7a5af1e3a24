"""What there is to run."""

import hashlib
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, how to see that it answers, and how long to wait for its start and its end."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    # Which the program reads at its start: other contents are another way of running it.
    files: tuple[Path, ...] = ()
    # On which it will listen, so that a stranger on one of them is named before the start.
    ports: tuple[int, ...] = ()
    # Returns when the program really answers, raises anything while it does not.
    ready: Callable[[], object]
    patience: timedelta = timedelta(seconds=60)
    grace: timedelta = timedelta(seconds=15)
    stop_signal: signal.Signals = signal.SIGTERM
    # Lower stages are started first and stopped last; what is of one stage goes up and down together.
    stage: int = 0

    @property
    def digest(self) -> str:
        """Tell apart two ways of running the program."""
        contents = [path.read_text() for path in self.files]
        text = json.dumps([self.command, sorted(self.environ.items()), self.ports, contents])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
