"""One starter at a time for a folder, and a way to end one that another person or an earlier shell left at work."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO

from stack import identity


class ClaimError(Exception):
    """Somebody else starts or stops the system of this folder at the moment."""


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder; raises ClaimError naming the process that holds it already, or the user whose folder it is."""
    with _claim(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClaimError(f"process {_holder(folder)} is at work on {folder}") from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "started": identity.started(os.getpid())}))
        file.flush()
        yield


@contextlib.contextmanager
def taken_over(folder: Path, patience: timedelta = timedelta(seconds=40)) -> Iterator[None]:
    """Hold the folder, after asking whoever holds it to end, which then takes back what it started."""
    deadline = time.monotonic() + patience.total_seconds()
    is_asked = False
    while True:
        try:
            with claimed(folder):
                yield
                return
        except ClaimError:
            if time.monotonic() > deadline:
                raise
            is_asked = is_asked or _interrupt(folder)
            time.sleep(0.1)


def _claim(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / "claim").open("a+")
    except PermissionError:
        raise ClaimError(f"{folder} belongs to {_nearest(folder).owner()}; TOCSIN_RUN names another folder") from None


def _nearest(folder: Path) -> Path:
    """Give the folder, or the one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _holder(folder: Path) -> int | None:
    """Give the pid of the live process that wrote itself down."""
    try:
        record = json.loads((folder / "claim").read_text())
        return int(record["pid"]) if identity.started(record["pid"]) == record["started"] else None
    except (OSError, ValueError, KeyError):
        return None


def _interrupt(folder: Path) -> bool:
    """Ask the holder to end; False when it has not written itself down yet."""
    holder = _holder(folder)
    if holder is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
    return holder is not None
