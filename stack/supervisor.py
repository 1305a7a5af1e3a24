"""`python -m stack.supervisor FOLDER PROGRAM…`: start again what ends, until told to stop.

Whoever starts or stops the system ends the supervisor first, so that the two never work at the same programs.
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

from stack import servers
from stack.processes import Processes, StartError
from stack.program import Program
from stack.programs import program
from stack.starting import Preparation
from stack.wiring import ROOT, Wiring

NAME = "supervisor"
_STAGE = 3
_FILE = "restarts.json"
_LOOK_SECONDS = 0.25
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0
# Who ran for so long did not end because of how it was started.
_STAYED_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """What became of one program; moments in seconds since the epoch."""

    count: int = 0
    # How often it ended soon after it was started, without a break.
    streak: int = 0
    started: float = 0.0
    # When it is started again; None while it runs.
    due: float | None = None

    def ended(self, now: float) -> "Restarts":
        """It ended by itself: the first time it is started again at once, then after pauses that double."""
        streak = self.streak + 1 if now - self.started < _STAYED_SECONDS else 1
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** min(streak - 2, 30), _LONGEST_PAUSE_SECONDS) if streak > 1 else 0.0
        return replace(self, streak=streak, due=now + pause)

    def again(self, now: float) -> "Restarts":
        """It is started again."""
        return replace(self, count=self.count + 1, started=now, due=None)

    def __str__(self) -> str:
        if self.due is not None:
            return f"ended {_times(self.streak)}, starts again at {_clock(self.due)}"
        return f"started again {_times(self.count)}, last at {_clock(self.started)}" if self.count else ""


class Supervisor:
    """Looks after the programs of one folder."""

    def __init__(self, processes: Processes, programs: Mapping[str, Preparation]) -> None:
        self._processes = processes
        self._programs = programs
        self._restarts = dict.fromkeys(programs, Restarts())

    def look(self, now: float) -> None:
        """Start again what has ended and is due."""
        before = dict(self._restarts)
        for name in self._programs:
            if self._processes.find(name) is None:
                self._restarts[name] = self._revived(name, self._restarts[name], now)
        if self._restarts != before:
            path = self._processes.folder / _FILE
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps({name: asdict(one) for name, one in self._restarts.items()}))
            draft.replace(path)

    def _revived(self, name: str, restarts: Restarts, now: float) -> Restarts:
        if restarts.due is None:
            restarts = restarts.ended(now)
            _say(f"{name} {restarts}\n{self._processes.tail(name, 5)}")
        if restarts.due is None or now < restarts.due:
            return restarts
        restarts = restarts.again(now)
        _say(f"{name} {restarts}")
        try:
            self._processes.start(self._programs[name]())
        except (StartError, OSError, ValueError) as failure:
            _say(f"{name} was not started: {failure}")
        return restarts


def supervise(processes: Processes) -> None:
    """Let what runs in the folder be started again when it ends by itself."""
    (processes.folder / _FILE).unlink(missing_ok=True)
    names = [running.name for running in processes.running() if running.name != NAME]
    if names:
        processes.start(
            Program(
                name=NAME,
                command=(sys.executable, "-m", "stack.supervisor", str(processes.folder), *names),
                environ={"PYTHONPATH": f"{ROOT}", "PYTHONUNBUFFERED": "1"},
                ready=lambda: None,
                stage=_STAGE,
            )
        )


def restarts_in(folder: Path) -> dict[str, Restarts]:
    """Tell what the supervisor of the folder has done so far."""
    try:
        return {name: Restarts(**record) for name, record in json.loads((folder / _FILE).read_text()).items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def main(folder: Path, names: list[str]) -> None:
    """Look after these programs until SIGTERM."""
    told_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())
    processes, connected = Processes(folder), Wiring.read(folder)
    supervisor = Supervisor(processes, {name: _preparation(name, processes, connected) for name in names})
    while not told_to_stop.wait(_LOOK_SECONDS):
        supervisor.look(time.time())


def _preparation(name: str, processes: Processes, connected: Wiring) -> Preparation:
    if name in servers.SERVERS:
        return partial(servers.program, name, processes, connected.ports, _say)
    return partial(program, name, processes, connected)


def _say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment).astimezone():%H:%M:%S}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
