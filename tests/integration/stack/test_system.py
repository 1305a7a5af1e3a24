"""The whole system as child processes: every door answers, and what was killed comes back."""

import json
from pathlib import Path

import pytest

from stack.answers import http
from stack.system import System
from stack.wiring import SERVICES

pytestmark = pytest.mark.e2e


def test_every_door_names_its_service_and_says_that_it_serves(tocsin: System) -> None:
    for service, port in zip(SERVICES, tocsin.wiring.ports.doors, strict=True):
        health = json.loads(http(port, "/health"))
        assert health["service"] == service
        assert health["status"] == "SERVING"


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_to_its_door(tocsin: System, service: str) -> None:
    port = getattr(tocsin.wiring.ports, f"{service}_admin")
    tocsin.kill(service)
    with pytest.raises(OSError, match="refused"):
        http(port, "/health")
    tocsin.start_one(service)
    tocsin.await_doors()
    assert json.loads(http(port, "/health"))["status"] == "SERVING"


def test_metrics_answer_on_one_port_per_service(tocsin: System) -> None:
    for service in SERVICES:
        assert b"# TYPE" in http(getattr(tocsin.wiring.ports, f"{service}_admin"), "/metrics")


def test_each_program_writes_a_log_of_its_own(tocsin: System) -> None:
    logs: list[Path] = [tocsin.log(name) for name in (*SERVICES, "envoy", "sinks")]
    assert len(set(logs)) == len(logs)
    assert all(json.loads(tocsin.log(name).read_text().splitlines()[0]) for name in SERVICES)
