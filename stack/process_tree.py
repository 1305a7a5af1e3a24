"""Processes as the operating system lists them: which one a pid stands for, its descendants, its end.

Pids are given away again; a pid together with its start time is not.
"""

import contextlib
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_START_TIME_FIELD = 19  # of /proc/<pid>/stat, counted behind the closing bracket of the name


def start_time_of(pid: int) -> str:
    """Return when the process started, as a string to compare; raise ProcessLookupError when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # In ticks since the machine's start, which no change of the clock moves; the boot id tells two starts apart.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _start_time_by_clock(pid)
    if fields[0] == "Z":
        raise ProcessLookupError(f"{pid} has ended")
    return f"{boot}:{fields[_START_TIME_FIELD]}"


def _start_time_by_clock(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess as gone:
        raise ProcessLookupError(f"{pid} does not exist") from gone


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One row of the process table: a process of this folder, or one between two of them."""

    pid: int
    parent: int
    is_ours: bool


def find_strays(table: Iterable[ProcessRow], known: Collection[int]) -> list[int]:
    """Return the pids that are ours and have no known process above them.

    The ancestors come from the table itself: a child that is forked before or after the table is read would otherwise
    be taken for a stray.
    """
    rows = {row.pid: row for row in table}
    return [row.pid for row in rows.values() if row.is_ours and not _has_known_ancestor(row, known, rows)]


def _has_known_ancestor(row: ProcessRow | None, known: Collection[int], rows: dict[int, ProcessRow]) -> bool:
    visited: set[int] = set()
    while row is not None and row.pid not in visited:
        if row.pid in known or row.parent in known:
            return True
        visited.add(row.pid)
        row = rows.get(row.parent)
    return False


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and all that descend from it now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def kill_all(processes: list[psutil.Process]) -> None:
    """Kill all, and return when they have ended."""
    # psutil compares start times before it sends a signal, so a pid that was given away is left alone.
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for_exit(processes, 5.0)


def wait_for_exit(processes: list[psutil.Process], timeout_s: float) -> None:
    """Return when all have ended, or after this time."""
    deadline = time.monotonic() + timeout_s
    while not all(map(_has_exited, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _has_exited(process: psutil.Process) -> bool:
    # A process that its parent has not waited for has ended all the same: in containers the first process, which
    # inherits orphans, often never waits. But its ports are its own until the last of its threads is gone.
    try:
        is_zombie = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return is_zombie or not process.is_running()
    except psutil.NoSuchProcess:
        return True
