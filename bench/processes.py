"""What each program of the running system costs."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from stack.up import status


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU seconds used so far and memory held now, with children."""

    cpu_seconds: float
    resident_bytes: int


def costs(folder: Path) -> dict[str, Cost]:
    """The costs of every program of the system in a folder, by name."""
    return {state.name: _cost(state.pid) for state in status(folder=folder)}


def cpu_micros_per_event(before: dict[str, Cost], after: dict[str, Cost], events: int) -> dict[str, float]:
    """How many microseconds of CPU each program spent on an event between two looks."""
    return {
        name: (after[name].cpu_seconds - before[name].cpu_seconds) * 1e6 / events for name in after if name in before
    }


def _cost(pid: int) -> Cost:
    cpu, resident = 0.0, 0
    for process in _family(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu += times.user + times.system
            # Shared pages (PostgreSQL's buffers) count once, as far as the kernel tells.
            resident += process.memory_full_info().pss
    return Cost(cpu_seconds=cpu, resident_bytes=resident)


def _family(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
