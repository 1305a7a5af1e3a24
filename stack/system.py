"""The system itself, its programs started, stopped and killed together or one by one."""

import json
from functools import partial
from pathlib import Path

from stack.answers import http
from stack.ports import Ports
from stack.processes import Processes
from stack.programs import program
from stack.starting import Starter
from stack.wiring import SERVICES, Wiring


def stages(routes: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the programs that start together, and those that start when these answer."""
    return ("envoy",) if routes else ("envoy", "sinks"), SERVICES


class System:
    """Four services, Envoy in front of them, and local sinks unless notifications go somewhere real."""

    def __init__(self, processes: Processes, wiring: Wiring, starter: Starter) -> None:
        self.wiring = wiring
        self._processes = processes
        self._starter = starter

    def start(self) -> None:
        """Start all, and return when a call through Envoy reaches every service."""
        for stage in stages(self.wiring.routes):
            self._starter.start([partial(program, name, self._processes, self.wiring) for name in stage])
        self.await_doors()

    def await_doors(self) -> None:
        """Return when a call through Envoy reaches every service, as it will again a moment after a restart."""
        self._starter.await_answer("a service behind Envoy", partial(doors_answer, self.wiring.ports))

    def start_one(self, name: str) -> None:
        """Start what was killed or stopped, and return when it answers."""
        self._starter.start([partial(program, name, self._processes, self.wiring)])

    def stop_one(self, name: str) -> None:
        """Stop a program in good order."""
        self._processes.stop(name)

    def kill(self, name: str) -> None:
        """End a program as a crash would."""
        self._processes.kill(name)

    def stop(self) -> None:
        """Stop all, the services before what they stand on."""
        self._starter.stop(self._processes.running())

    def log(self, name: str) -> Path:
        """Give the file with a program's output."""
        return self._processes.log(name)


def doors_answer(ports: Ports) -> None:
    """Return when each of Envoy's doors finds its service serving, and Envoy itself believes all of them healthy."""
    for port in ports.doors:
        http(port, "/health")
    clusters = json.loads(http(ports.envoy_admin, "/clusters?format=json"))
    for cluster in clusters["cluster_statuses"]:
        for host in cluster.get("host_statuses", []):
            if host["health_status"].get("failed_active_health_check"):
                raise ConnectionError(f"Envoy does not reach {cluster['name']} yet")
