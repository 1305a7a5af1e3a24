"""A system with one of each part, which a supervisor starts again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.demo.steps import RestClient
from cli.exercise.campaign import InjectedFailure
from cli.exercise.probes import CHANNEL
from stack.local_system import start_stack, stop_stack
from stack.ports import Ports
from stack.processes import Processes

PARTS = ("ingest", "evaluator", "manager", "notifier", "envoy", "redis", "postgres", "kafka", "channel")
_CHANNEL_AWAY_S = 3.0


class SingleTarget:
    """The system that is exercised."""

    def __init__(self, processes: Processes, ports: Ports) -> None:
        self._processes = processes
        self.edges: Sequence[RestClient] = [RestClient(f"127.0.0.1:{ports.edge}")]
        self.sinks = RestClient(f"127.0.0.1:{ports.sinks}")

    def fail(self, part: str) -> InjectedFailure:
        """Kill a part; the channel refuses for a while, and its recovery counts from then on."""
        if part != "channel":
            began = time.monotonic()
            self._processes.kill(part)
            return InjectedFailure(time=began)
        self.sinks.put(f"/behaviour/{CHANNEL}", {"status": 503})
        time.sleep(_CHANNEL_AWAY_S)
        self.sinks.delete(f"/behaviour/{CHANNEL}")
        return InjectedFailure(time=time.monotonic())

    def restore(self) -> None:
        """Leave it to the supervisor."""


@contextmanager
def running_single(folder: Path, report: Callable[[str], None]) -> Iterator[SingleTarget]:
    """Start a system of its own in an empty folder, and stop it at the end."""
    stop_stack(report, folder=folder, purge=True)
    try:
        wiring = start_stack(report, folder=folder, ports=Ports.free(), external={}, supervised=True)
        yield SingleTarget(Processes(folder), wiring.ports)
    finally:
        stop_stack(report, folder=folder)
