"""Starting and stopping programs side by side: what runs already is kept, what fails takes the others down with it."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import timedelta
from itertools import groupby

from stack.listening import await_ports
from stack.processes import Processes, Running, StartError
from stack.program import Program

Progress = Callable[[str], None]
# Preparing a program may take seconds (a download, a database's folder), so it is done inside its own thread.
Preparation = Callable[[], Program]

_PATIENCE = timedelta(seconds=30)


class Starter:
    """Starts programs in one folder, and can take back what it started."""

    def __init__(self, processes: Processes, progress: Progress) -> None:
        self._processes = processes
        self._progress = progress
        self._started: list[str] = []
        self._given_up = threading.Event()
        self._starting = threading.Lock()

    def start(self, preparations: Sequence[Preparation]) -> None:
        """Return when every program answers; raise at the first that does not, or on Ctrl-C, without stopping any."""
        with ThreadPoolExecutor(max(1, len(preparations))) as pool:
            try:
                _first_failure([pool.submit(self._ensure, prepare) for prepare in preparations])
            except BaseException:
                # Before the pool is left, which would wait for programs that nobody waits for any more.
                with self._starting:
                    self._given_up.set()
                raise

    def await_answer(self, name: str, check: Callable[[], object], patience: timedelta = _PATIENCE) -> None:
        """Return when the check does; StartError with the name and what it raised last when that takes too long."""
        deadline = time.monotonic() + patience.total_seconds()
        while True:
            try:
                check()
            except Exception as silence:
                if self._given_up.wait(0.05) or time.monotonic() > deadline:
                    raise StartError(f"{name} does not answer: {silence}") from silence
            else:
                return

    def take_back(self) -> None:
        """Stop what this starter started, and nothing that ran before."""
        self.stop([running for running in self._processes.running() if running.name in self._started])

    def stop(self, running: Iterable[Running]) -> None:
        """Stop these programs, the last stage first."""
        order = sorted(running, key=lambda one: one.stage, reverse=True)
        for _, stage in groupby(order, key=lambda one: one.stage):
            self._stop_together([one.name for one in stage])

    def _ensure(self, prepare: Preparation) -> None:
        program = prepare()
        running = self._processes.find(program.name)
        if running is not None and running.digest != program.digest:
            self._progress(f"{program.name} runs with other settings, it starts anew")
            self._processes.stop(program.name)
            running = None
        if running is None:
            self._start(program)
        self._processes.wait(program, self._given_up)
        self._progress(f"{program.name} answers" + ("" if running is None else ", it ran already"))

    def _start(self, program: Program) -> None:
        await_ports(program, self._progress)
        # Either it is started, and taken back with the others, or it is not started any more.
        with self._starting:
            if self._given_up.is_set():
                raise StartError(f"{program.name} was given up before its start")
            self._started.append(program.name)
            self._processes.start(program)

    def _stop_together(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(max(1, len(names))) as pool:
            for name, was_running in zip(names, pool.map(self._processes.stop, names), strict=True):
                if was_running:
                    self._progress(f"{name} stopped")


def _first_failure(pending: Sequence[Future[None]]) -> None:
    """Wait for all, or for the first that fails."""
    for done in as_completed(pending):
        done.result()
