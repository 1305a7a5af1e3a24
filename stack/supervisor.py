"""`python -m stack.supervisor FOLDER PROGRAM…`: start again what has ended, until SIGTERM.

A process of its own, since it outlives `up`. Whoever starts or stops the system stops the supervisor first, so that the
two never work on the same programs.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from stack.processes import Processes
from stack.program import ProgramFactory, ProgramSpec, StartError
from stack.servers import SERVERS, server_program
from stack.system import system_program
from stack.wiring import ROOT, Wiring

SUPERVISOR = "supervisor"
_STAGE = 3
_FILE = "restarts.json"
_INTERVAL_S = 0.25
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0
# What ran for so long did not end because of how it was started.
_STABLE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """How often one program was started again; times in seconds since the epoch."""

    count: int = 0
    # How often in a row it ended soon after its start.
    streak: int = 0
    started: float = 0.0
    # When it is started again; None while it runs.
    due: float | None = None

    def ended(self, now: float) -> "Restarts":
        """Return the state after it ended by itself: it starts again at once, then after pauses that double."""
        streak = self.streak + 1 if now - self.started < _STABLE_S else 1
        pause = min(_FIRST_PAUSE_S * 2 ** min(streak - 2, 30), _MAX_PAUSE_S) if streak > 1 else 0.0
        return replace(self, streak=streak, due=now + pause)

    def restarted(self, now: float) -> "Restarts":
        """Return the state after it was started again."""
        return replace(self, count=self.count + 1, started=now, due=None)

    def __str__(self) -> str:
        if self.due is not None:
            return f"ended {_times(self.streak)}, starts again at {_clock(self.due)}"
        return f"started again {_times(self.count)}, last at {_clock(self.started)}" if self.count else ""


class Supervisor:
    """Starts the programs of one folder again when they have ended."""

    def __init__(self, processes: Processes, programs: Mapping[str, ProgramFactory]) -> None:
        self._processes = processes
        self._programs = programs
        self._restarts = dict.fromkeys(programs, Restarts())

    def restart_ended(self, now: float) -> None:
        """Start again what has ended and is due."""
        before = dict(self._restarts)
        for name in self._programs:
            if self._processes.find(name) is None:
                self._restarts[name] = self._restart_if_due(name, self._restarts[name], now)
        if self._restarts != before:
            path = self._processes.folder / _FILE
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps({name: asdict(one) for name, one in self._restarts.items()}))
            draft.replace(path)

    def _restart_if_due(self, name: str, restarts: Restarts, now: float) -> Restarts:
        if restarts.due is None:
            restarts = restarts.ended(now)
            _log(f"{name} {restarts}\n{self._processes.tail(name, 5)}")
        if restarts.due is None or now < restarts.due:
            return restarts
        restarts = restarts.restarted(now)
        _log(f"{name} {restarts}")
        try:
            self._processes.start(self._programs[name]())
        except (StartError, OSError, ValueError) as failure:
            _log(f"{name} was not started: {failure}")
        return restarts


def start_supervisor(processes: Processes) -> None:
    """Start a supervisor for what runs in the folder."""
    (processes.folder / _FILE).unlink(missing_ok=True)
    names = [running.name for running in processes.running() if running.name != SUPERVISOR]
    if names:
        processes.start(
            ProgramSpec(
                name=SUPERVISOR,
                command=(sys.executable, "-m", "stack.supervisor", str(processes.folder), *names),
                environ={"PYTHONPATH": f"{ROOT}", "PYTHONUNBUFFERED": "1"},
                check_ready=lambda: None,
                stage=_STAGE,
            )
        )


def read_restarts(folder: Path) -> dict[str, Restarts]:
    """Return how often the folder's supervisor has started each program again."""
    try:
        return {name: Restarts(**record) for name, record in json.loads((folder / _FILE).read_text()).items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def main(folder: Path, names: list[str]) -> None:
    """Supervise these programs until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    processes, wiring = Processes(folder), Wiring.read(folder)
    supervisor = Supervisor(processes, {name: _factory(name, processes, wiring) for name in names})
    while not stop.wait(_INTERVAL_S):
        supervisor.restart_ended(time.time())


def _factory(name: str, processes: Processes, wiring: Wiring) -> ProgramFactory:
    if name in SERVERS:
        return partial(server_program, name, processes, wiring.ports, _log, secure=wiring.secure)
    return partial(system_program, name, processes, wiring)


def _log(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment).astimezone():%H:%M:%S}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
