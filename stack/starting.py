"""Starting programs side by side: what runs already is kept, what fails takes the others down with it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from stack.ports import is_free
from stack.processes import Processes, Program, StartFailed

Progress = Callable[[str], None]
# Preparing a program may take seconds (a download, a database's folder), so it is done inside its own thread.
Preparation = Callable[[], Program]


def ensure(processes: Processes, preparations: Sequence[Preparation], progress: Progress) -> None:
    """Return when every program answers. On a failure or Ctrl-C stop those that this call started, last first."""
    started: list[str] = []
    try:
        with ThreadPoolExecutor(max(1, len(preparations))) as pool:
            pending = [pool.submit(_ensure, processes, prepare, progress, started) for prepare in preparations]
            for future in pending:
                future.result()
    except BaseException:
        stop(processes, list(reversed(started)), progress)
        raise


def stop(processes: Processes, names: Sequence[str], progress: Progress) -> None:
    """Stop these programs one after the other."""
    for name in names:
        if processes.stop(name):
            progress(f"{name} stopped")


def _ensure(processes: Processes, prepare: Preparation, progress: Progress, started: list[str]) -> None:
    program = prepare()
    running = processes.find(program.name)
    if running is not None and running.digest != program.digest:
        progress(f"{program.name} runs with other settings: starts anew")
        processes.stop(program.name)
        running = None
    if running is None:
        _refuse_taken_ports(program)
        started.append(program.name)
        processes.start(program)
    processes.wait(program)
    progress(f"{program.name} answers" if running is None else f"{program.name} answers, it ran already")


def _refuse_taken_ports(program: Program) -> None:
    for port in program.ports:
        if not is_free(port):
            raise StartFailed(f"{program.name} cannot listen on port {port}: {_owner(port)} has it")


def _owner(port: int) -> str:
    """Name the process that listens on the port, as far as this user may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another process"
