"""Child processes that outlive their starter: written down with pid and start time, found again, stopped whole."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from stack import identity
from stack.ending import await_end, family, kill
from stack.program import Program

# Every child carries this, so that one started by somebody who died before writing its pid down is found all the same.
MARK = "TOCSIN_STACK_FOLDER"

_MAX_LOG_BYTES = 50_000_000

# Children belong to the whole process, whichever object started them: held here, so that each is reaped when it ends.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


class StartError(Exception):
    """A program did not come up; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process that is alive now and was written down as ours."""

    name: str
    pid: int
    digest: str
    stop_signal: int
    grace_seconds: float
    stage: int
    process: psutil.Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A process of this folder, or one between them, as a single look at the process table shows it."""

    pid: int
    parent: int
    is_ours: bool


def strays(table: Iterable[Seen], known: Collection[int]) -> list[int]:
    """Give the pids that are ours and have no known process above them.

    Ancestry is read from the table itself: whoever lists the children of the known ones before or after it takes a
    child that is forked in between for a stray.
    """
    seen = {one.pid: one for one in table}
    return [one.pid for one in seen.values() if one.is_ours and not _stands_below(one, known, seen)]


def _stands_below(one: Seen | None, known: Collection[int], seen: dict[int, Seen]) -> bool:
    passed: set[int] = set()
    while one is not None and one.pid not in passed:
        if one.pid in known or one.parent in known:
            return True
        passed.add(one.pid)
        one = seen.get(one.parent)
    return False


class Processes:
    """The processes of one folder: data, logs and pid files lie side by side in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._pids = self.folder / "pids"

    def data(self, name: str) -> Path:
        """Give the folder in which this program keeps what must survive a restart."""
        path = self.folder / "data" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, name: str) -> Path:
        """Give the file to which this program's output is appended."""
        path = self.folder / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, program: Program) -> Running:
        """Start the program, and return before it answers; the caller has made sure that it does not run already."""
        self._pids.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, **program.environ, MARK: str(self.folder)}
        _turn_over(self.log(program.name))
        with self.log(program.name).open("ab") as log:
            child = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=self.folder,
                # A session of its own: Ctrl-C in the starter's terminal is for the starter alone.
                start_new_session=True,
            )
        _CHILDREN[child.pid] = child
        record = {
            "pid": child.pid,
            "started": identity.started(child.pid),
            "digest": program.digest,
            "stop_signal": int(program.stop_signal),
            "grace_seconds": program.grace.total_seconds(),
            "stage": program.stage,
        }
        _write(self._pids / f"{program.name}.json", json.dumps(record))
        running = self.find(program.name)
        if running is None:
            raise StartError(f"{program.name} ended at once\n{self.tail(program.name)}")
        return running

    def wait(self, program: Program, given_up: threading.Event) -> None:
        """Return when the program answers; StartError when it ended, stays silent for too long, or nobody waits."""
        deadline = time.monotonic() + program.patience.total_seconds()
        pause = 0.02
        while True:
            try:
                program.ready()
            except Exception as silence:  # noqa: BLE001 - whatever it says, it does not answer yet
                reason = silence
            else:
                return
            if self.find(program.name) is None:
                raise StartError(f"{program.name} ended before it answered\n{self.tail(program.name)}") from reason
            if given_up.wait(pause):
                raise StartError(f"{program.name} was given up before it answered") from reason
            if time.monotonic() > deadline:
                raise StartError(f"{program.name} does not answer: {reason}\n{self.tail(program.name)}") from reason
            pause = min(pause * 1.5, 0.25)

    def find(self, name: str) -> Running | None:
        """Give the live process of this name, or None; a stranger that got an old pid does not count."""
        path = self._pids / f"{name}.json"
        try:
            record = json.loads(path.read_text())
            child = _CHILDREN.get(record["pid"])
            if child is not None and child.poll() is not None:
                return None
            # Held before it is compared: a pid that is given away after that is another process for psutil too.
            process = psutil.Process(record["pid"])
            if identity.started(record["pid"]) != record.pop("started"):
                return None
            return Running(name=name, process=process, **record)
        except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
            return None
        except (ValueError, KeyError, TypeError):
            # Not written by this version. What it stood for is found by its mark.
            return None

    def running(self) -> list[Running]:
        """List what was started here and is alive, in the order of starting."""
        _reap()
        found = [self.find(path.stem) for path in sorted(self._pids.glob("*.json"))]
        return sorted((running for running in found if running is not None), key=lambda running: running.stage)

    def stop(self, name: str) -> bool:
        """Ask the process to end, and end it and its children by force after its grace; say whether it was running."""
        running = self.find(name)
        if running is not None:
            relatives = self._relatives(running)
            with contextlib.suppress(psutil.NoSuchProcess):
                running.process.send_signal(running.stop_signal)
            await_end([running.process], running.grace_seconds)
            kill(relatives)
            _reap()
        (self._pids / f"{name}.json").unlink(missing_ok=True)
        return running is not None

    def kill(self, name: str) -> None:
        """End the process at once, as a crash would (SIGKILL), and wait until it is gone."""
        running = self.find(name)
        if running is None:
            raise ProcessLookupError(f"{name} is not running")
        kill([running.process])
        _reap()

    def strays(self) -> list[psutil.Process]:
        """Find what was started here and not written down, because the starter died in between."""
        known = {running.pid for running in self.running()}
        processes, table = {}, []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                table.append(Seen(pid=process.pid, parent=process.ppid(), is_ours=self._is_ours(process)))
                processes[process.pid] = process
        return [processes[pid] for pid in strays(table, known)]

    def sweep(self) -> int:
        """End what was started here and not written down, by force where need be, and say how many those were."""
        lost = self.strays()
        for process in lost:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        await_end(lost, 3.0)
        kill(lost)
        _reap()
        return len(lost)

    def tail(self, name: str, lines: int = 20) -> str:
        """Give the last lines of the program's log, for a person to read."""
        path = self.log(name)
        text = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join([f"last lines of {path}:", *text[-lines:]])

    def _relatives(self, running: Running) -> list[psutil.Process]:
        """List the process and its descendants, without programs of their own that it has started."""
        relatives = family(running.process)
        below = [other for other in self.running() if other.pid != running.pid and other.process in relatives]
        others = [member for other in below for member in family(other.process)]
        return [member for member in relatives if member not in others]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.environ().get(MARK) == str(self.folder):
                return True
            # Redis and PostgreSQL write their titles over their environment. They are known by a binary of this
            # installation at work on the data; a person's shell that stands there is not.
            where, what = Path(process.cwd()), Path(process.exe())
            return where.is_relative_to(self.folder / "data") and what.is_relative_to(sys.prefix)
        except (psutil.Error, OSError):
            return False


def _reap() -> None:
    """Take note of children that have ended."""
    for child in list(_CHILDREN.values()):
        if child.poll() is not None:
            _CHILDREN.pop(child.pid, None)


def _turn_over(log: Path) -> None:
    """Put a log that has grown large aside, in place of the one put aside before."""
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _write(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)
