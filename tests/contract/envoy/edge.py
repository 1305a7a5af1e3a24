"""One running Envoy, and the servers around it."""

import json
from dataclasses import dataclass
from pathlib import Path

from stack.ports import Ports
from tests.contract.envoy.client import EnvoyClient
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
