"""Child processes that outlive their starter: each one's pid and start time are in a file, by which it is found again.

The guard and the supervisor import this, so it stays free of servers' clients.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from stack.log_reason import show_start
from stack.process_tree import (
    ProcessRow,
    find_strays,
    kill_all,
    start_time_of,
    wait_for_exit,
    with_descendants,
)
from stack.program import ProgramSpec, StartError
from stack.readiness import wait_until_ready

# Every child carries this variable, so that it is found even when its starter died before writing the pid file.
FOLDER_VARIABLE = "TOCSIN_STACK_FOLDER"

_MAX_LOG_BYTES = 50_000_000
# Of what a start writes; a program that fails has said why by then.
_MAX_START_BYTES = 1_000_000

# Children belong to the whole process, whichever object started them: held here, so that each is reaped when it ends.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A live process that has a pid file in the folder; all but the first and the last field are in that file."""

    name: str
    pid: int
    digest: str
    stop_signal: int
    grace_seconds: float
    stage: int
    process: psutil.Process


class Processes:
    """The processes of one folder: data, logs and pid files lie side by side in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._pids = self.folder / "pids"
        # Where in its log the output of each program begins that was started by this object.
        self._log_starts: dict[str, int] = {}

    def data(self, name: str) -> Path:
        """Return the folder of the program's data, which survives a restart, and which other users cannot read."""
        path = self.folder / "data" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def log(self, name: str) -> Path:
        """Return the file to which the program's output is appended."""
        path = self.folder / "logs" / f"{name}.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def start(self, program: ProgramSpec) -> Running:
        """Start the program, and return before it is ready; the caller makes sure that it does not run already."""
        self._pids.mkdir(parents=True, exist_ok=True)
        # An empty variable of the shell says that a setting is removed.
        inherited = {name: value for name, value in os.environ.items() if value}
        environ = {**inherited, **program.environ, FOLDER_VARIABLE: str(self.folder)}
        _rotate(self.log(program.name))
        self._log_starts[program.name] = _size(self.log(program.name))
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
            "started": start_time_of(child.pid),
            "digest": program.digest,
            "stop_signal": int(program.stop_signal),
            "grace_seconds": program.grace.total_seconds(),
            "stage": program.stage,
        }
        _write_whole(self._pids / f"{program.name}.json", json.dumps(record))
        running = self.find(program.name)
        if running is None:
            raise StartError(self._show_failure(program.name, f"{program.name} ended at once"))
        return running

    def wait_until_ready(self, program: ProgramSpec, cancelled: threading.Event) -> None:
        """Return when the program is ready; raise StartError when it ended, took too long, or was cancelled."""
        try:
            wait_until_ready(
                program.name,
                program.check_ready,
                program.start_timeout,
                cancelled,
                is_alive=lambda: self.find(program.name) is not None,
            )
        except StartError as error:
            raise StartError(self._show_failure(program.name, str(error))) from error.__cause__

    def find(self, name: str) -> Running | None:
        """Return the live process of this name, or None; another process that got an old pid does not count."""
        path = self._pids / f"{name}.json"
        try:
            record = json.loads(path.read_text())
            child = _CHILDREN.get(record["pid"])
            if child is not None and child.poll() is not None:
                return None
            # Opened before it is compared: psutil too sees another process once the pid is given away.
            process = psutil.Process(record["pid"])
            if start_time_of(record["pid"]) != record.pop("started"):
                return None
            return Running(name=name, process=process, **record)
        except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
            return None
        except (ValueError, KeyError, TypeError):
            # Not written by this version. The process itself is found by its environment.
            return None

    def running(self) -> list[Running]:
        """Return what was started here and is alive, in the order of stages."""
        _reap()
        processes = [self.find(path.stem) for path in sorted(self._pids.glob("*.json"))]
        return sorted((one for one in processes if one is not None), key=lambda one: one.stage)

    def stop(self, name: str) -> bool:
        """Send the stop signal, kill what is left after the grace time, and return whether the program was running."""
        running = self.find(name)
        if running is not None:
            members = self._members(running)
            with contextlib.suppress(psutil.NoSuchProcess):
                running.process.send_signal(running.stop_signal)
            wait_for_exit([running.process], running.grace_seconds)
            kill_all(members)
            _reap()
        (self._pids / f"{name}.json").unlink(missing_ok=True)
        return running is not None

    def kill(self, name: str) -> None:
        """Kill the process as a crash would (SIGKILL), and wait until it has ended."""
        running = self.find(name)
        if running is None:
            raise ProcessLookupError(f"{name} is not running")
        kill_all([running.process])
        _reap()

    def strays(self) -> list[psutil.Process]:
        """Return what was started here and has no pid file, because the starter died in between."""
        known = {running.pid for running in self.running()}
        processes, table = {}, []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                table.append(ProcessRow(pid=process.pid, parent=process.ppid(), is_ours=self._is_ours(process)))
                processes[process.pid] = process
        return [processes[pid] for pid in find_strays(table, known)]

    def stop_strays(self) -> int:
        """Stop what was started here and has no pid file, killing it after 3 s; return how many those were."""
        strays = self.strays()
        for process in strays:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        wait_for_exit(strays, 3.0)
        kill_all(strays)
        _reap()
        return len(strays)

    def lines_of_start(self, name: str) -> list[str]:
        """Return what the program wrote since this object started it; nothing when it did not."""
        if name not in self._log_starts:
            return []
        with self.log(name).open("rb") as log:
            log.seek(self._log_starts[name])
            return log.read(_MAX_START_BYTES).decode(errors="replace").splitlines()

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines of the program's log, for a person to read."""
        path = self.log(name)
        text = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join([f"last lines of {path}:", *text[-lines:]])

    def _show_failure(self, name: str, failure: str) -> str:
        return show_start(name, failure, self.lines_of_start(name), str(self.log(name)))

    def _members(self, running: Running) -> list[psutil.Process]:
        """Return the process and its descendants, except other programs that it has started."""
        family = with_descendants(running.process)
        below = [other for other in self.running() if other.pid != running.pid and other.process in family]
        others = [member for other in below for member in with_descendants(other.process)]
        return [member for member in family if member not in others]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.environ().get(FOLDER_VARIABLE) == str(self.folder):
                return True
            # Redis and PostgreSQL write their titles over their environment. They are recognised by a binary of this
            # installation that runs in the data folder; a person's shell in that folder is another binary.
            directory, binary = Path(process.cwd()), Path(process.exe())
            return directory.is_relative_to(self.folder / "data") and binary.is_relative_to(sys.prefix)
        except (psutil.Error, OSError):
            return False


def _reap() -> None:
    """Collect children that have ended."""
    for child in list(_CHILDREN.values()):
        if child.poll() is not None:
            _CHILDREN.pop(child.pid, None)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _rotate(log: Path) -> None:
    """Rename a log that has grown too large, over the one that was renamed before."""
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _write_whole(path: Path, text: str) -> None:
    """Write the file in one step, so that nobody reads half of it."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)
