"""Ending processes, and knowing when they have ended."""

import contextlib
import time

import psutil


def family(process: psutil.Process) -> list[psutil.Process]:
    """List the process and all that descend from it now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def kill(processes: list[psutil.Process]) -> None:
    """End all by force, and return when they have gone."""
    # psutil compares start times before it sends a signal, so a pid that was given away is left alone.
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    await_end(processes, 5.0)


def await_end(processes: list[psutil.Process], seconds: float) -> None:
    """Return when all have ended, or after this time."""
    deadline = time.monotonic() + seconds
    while not all(map(_has_ended, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _has_ended(process: psutil.Process) -> bool:
    # One that its parent has not taken note of has ended all the same: in containers the first process, which
    # inherits orphans, often never does. But its ports are its own until the last of its threads is gone.
    try:
        is_zombie = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return is_zombie or not process.is_running()
    except psutil.NoSuchProcess:
        return True
