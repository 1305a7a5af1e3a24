"""Start and stop programs side by side: what runs already is kept, and one failure stops what was started with it.

The guard and the supervisor import this, so it stays free of servers' clients.
"""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import timedelta
from itertools import groupby

from stack.port_conflicts import wait_for_ports
from stack.processes import Processes, Running
from stack.program import ProgramFactory, ProgramSpec, ReadinessCheck, StartError, StartupProgress
from stack.readiness import wait_until_ready

_READY_TIMEOUT = timedelta(seconds=30)


class Starter:
    """Starts programs in one folder, and can stop what it started."""

    def __init__(self, processes: Processes, progress: StartupProgress) -> None:
        self._processes = processes
        self._progress = progress
        self._started: list[str] = []
        self._cancelled = threading.Event()
        self._starting = threading.Lock()

    def start(self, factories: Sequence[ProgramFactory]) -> None:
        """Return when every program is ready; raise at the first failure, or on Ctrl-C, without stopping any."""
        with ThreadPoolExecutor(max(1, len(factories))) as pool:
            try:
                _raise_first_failure([pool.submit(self._ensure_running, create) for create in factories])
            except BaseException:
                # Before the pool is left, which would wait for programs that nobody needs any more.
                with self._starting:
                    self._cancelled.set()
                raise

    def wait_until_ready(self, name: str, check: ReadinessCheck, timeout: timedelta = _READY_TIMEOUT) -> None:
        """Return when the check does; raise StartError with the name and the last reason after the timeout."""
        wait_until_ready(name, check, timeout, self._cancelled)

    def roll_back(self) -> None:
        """Stop what this starter started, and nothing that ran before."""
        self.stop([running for running in self._processes.running() if running.name in self._started])

    def stop(self, running: Iterable[Running]) -> None:
        """Stop these programs, the last stage first."""
        order = sorted(running, key=lambda one: one.stage, reverse=True)
        for _, stage in groupby(order, key=lambda one: one.stage):
            self._stop_together([one.name for one in stage])

    def _ensure_running(self, create: ProgramFactory) -> None:
        program = create()
        running = self._processes.find(program.name)
        if running is not None and running.digest != program.digest:
            self._progress(f"{program.name} runs with other settings, it starts anew")
            self._processes.stop(program.name)
            running = None
        if running is None:
            self._start(program)
        self._processes.wait_until_ready(program, self._cancelled)
        self._progress(f"{program.name} answers" + ("" if running is None else ", it ran already"))

    def _start(self, program: ProgramSpec) -> None:
        wait_for_ports(program, self._progress)
        # Under the lock a program is either started, and rolled back with the others, or not started any more.
        with self._starting:
            if self._cancelled.is_set():
                raise StartError(f"the start of {program.name} was cancelled")
            self._started.append(program.name)
            self._processes.start(program)

    def _stop_together(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(max(1, len(names))) as pool:
            for name, was_running in zip(names, pool.map(self._processes.stop, names), strict=True):
                if was_running:
                    self._progress(f"{name} stopped")


def _raise_first_failure(pending: Sequence[Future[None]]) -> None:
    """Wait for all, or for the first that fails."""
    for done in as_completed(pending):
        done.result()
