"""One process at a time starts or stops the system of a folder; another one is refused, or interrupts it."""

import contextlib
import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from stack.process_tree import start_time_of

_FILE = "claim"
_INTERRUPT_TIMEOUT = timedelta(seconds=40)


class FolderLockError(Exception):
    """Another process starts or stops the system of this folder at the moment, or the folder is another user's."""


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; raise FolderLockError that names the process that holds it, or the folder's user."""
    with _open_lock(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderLockError(f"process {_holder(folder)} is at work on {folder}") from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "started": start_time_of(os.getpid())}))
        file.flush()
        yield


@contextlib.contextmanager
def take_over_folder(folder: Path, timeout: timedelta = _INTERRUPT_TIMEOUT) -> Iterator[None]:
    """Hold the folder's lock; interrupt the process that holds it, which then stops what it started."""
    deadline = time.monotonic() + timeout.total_seconds()
    is_interrupted = False
    while True:
        try:
            with lock_folder(folder):
                yield
                return
        except FolderLockError:
            if time.monotonic() > deadline:
                raise
            is_interrupted = is_interrupted or _interrupt(folder)
            time.sleep(0.1)


def sigterm_as_interrupt() -> contextlib.AbstractContextManager[None]:
    """Treat SIGTERM and a closed terminal like Ctrl-C while inside."""
    return _handling((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler)


def ignoring_interrupts() -> contextlib.AbstractContextManager[None]:
    """Ignore Ctrl-C and its like while inside: a second one would leave half of the programs running."""
    return _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)


@contextlib.contextmanager
def _handling(numbers: Collection[signal.Signals], handler: Callable[..., Any] | signal.Handlers) -> Iterator[None]:
    # Only the main thread can.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _open_lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / _FILE).open("a+")
    except PermissionError:
        owner = _existing_ancestor(folder).owner()
        raise FolderLockError(f"{folder} belongs to {owner}; TOCSIN_RUN names another folder") from None


def _existing_ancestor(folder: Path) -> Path:
    """Return the folder, or the one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _holder(folder: Path) -> int | None:
    """Return the pid in the lock file, or None when that process has ended."""
    try:
        record = json.loads((folder / _FILE).read_text())
        return int(record["pid"]) if start_time_of(record["pid"]) == record["started"] else None
    except (OSError, ValueError, KeyError):
        return None


def _interrupt(folder: Path) -> bool:
    """Send SIGTERM to the holder; return False when it has not written its pid yet."""
    holder = _holder(folder)
    if holder is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
    return holder is not None
