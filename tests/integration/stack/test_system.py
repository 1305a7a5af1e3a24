"""The whole system as child processes: every endpoint answers, and what was killed comes back."""

import json
from pathlib import Path

import pytest

from stack.readiness import http_get
from stack.system import System
from stack.wiring import SERVICES

pytestmark = pytest.mark.e2e


def test_every_listener_names_its_service_as_serving(tocsin: System) -> None:
    for service, port in zip(SERVICES, tocsin.wiring.ports.gateway, strict=True):
        health = json.loads(http_get(port, "/health"))
        assert health["service"] == service
        assert health["status"] == "SERVING"


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_can_be_reached_again_after_its_start(tocsin: System, service: str) -> None:
    port = getattr(tocsin.wiring.ports, f"{service}_admin")
    tocsin.kill(service)
    with pytest.raises(OSError, match="refused"):
        http_get(port, "/health")
    tocsin.start_one(service)
    tocsin.wait_until_reachable()
    assert json.loads(http_get(port, "/health"))["status"] == "SERVING"


def test_metrics_answer_on_one_port_per_service(tocsin: System) -> None:
    for service in SERVICES:
        assert b"# TYPE" in http_get(getattr(tocsin.wiring.ports, f"{service}_admin"), "/metrics")


def test_each_program_writes_a_log_of_its_own(tocsin: System) -> None:
    logs: list[Path] = [tocsin.log(name) for name in (*SERVICES, "envoy", "sinks")]
    assert len(set(logs)) == len(logs)
    assert all(json.loads(tocsin.log(name).read_text().splitlines()[0]) for name in SERVICES)
