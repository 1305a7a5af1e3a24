"""One running Envoy, and the servers around it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stack.envoy import EnvoySettings, envoy_command, write_config
from stack.ports import Ports
from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.relay import Relay
from tests.contract.envoy.upstream import Upstream
from tests.fakes.otlp import SpanReceiver


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The servers and files of one running Envoy."""

    ports: Ports
    ingest: Upstream
    manager: Upstream
    notifier: Upstream
    evaluator_admins: tuple[int, int]
    # Between Envoy and the manager.
    manager_relay: Relay
    spans: SpanReceiver
    access_log: Path
    log: Path

    @property
    def all(self) -> EnvoyClient:
        return EnvoyClient(self.ports.edge)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]


def is_healthy(ports: Ports, cluster: str) -> bool:
    """Return whether Envoy's health checks find the cluster's only instance healthy."""
    text = EnvoyClient(ports.envoy_admin).get("/clusters").text
    return any(
        line.startswith(f"{cluster}::") and line.endswith("::health_flags::healthy") for line in text.splitlines()
    )


@contextmanager
def running_envoy(settings: EnvoySettings, ports: Ports, folder: Path, *healthy: str) -> Iterator[None]:
    """Run an Envoy until the end of the block, which begins when it finds these clusters healthy."""
    log_file = folder / "envoy.log"
    with log_file.open("wb") as log:
        envoy = subprocess.Popen(envoy_command(write_config(settings, folder)), stdout=log, stderr=log)
    try:
        wait_until(lambda: EnvoyClient(ports.envoy_admin).get("/ready").status == 200, process=envoy, log=log_file)
        for cluster in healthy:
            wait_until(partial(is_healthy, ports, cluster), process=envoy, log=log_file)
        yield
    finally:
        envoy.terminate()
        envoy.wait(timeout=10)
