"""What end-to-end tests use of a running system: its endpoints, its sinks, the command line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar

from bench.measures import read_counter
from cli.demo.steps import DemoResult, RestClient
from stack.system import System

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PAUSE = 0.05


def wait_until(condition: Callable[[], T | None], *, timeout: float = 30.0, what: str = "") -> T:
    """Poll until the condition gives something true, and return it; fail after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(PAUSE)


def never(condition: Callable[[], object], *, during: float) -> None:
    """Poll for a while, and fail when the condition becomes true."""
    end = time.monotonic() + during
    while time.monotonic() < end:
        assert not condition()
        time.sleep(PAUSE)


@dataclass
class World:
    """A running system as its users see it."""

    system: System
    edge: RestClient = field(init=False)
    sinks: RestClient = field(init=False)

    def __post_init__(self) -> None:
        ports = self.system.wiring.ports
        self.edge = RestClient(f"127.0.0.1:{ports.edge}")
        self.sinks = RestClient(f"127.0.0.1:{ports.sinks}")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.system.wiring.ports.edge}"

    def alerts(self, query: str = "") -> list[Any]:
        return list(self.edge.get(f"/api/alerts?pageSize=500{query}")["alerts"])

    def create_rule(self, rule: Mapping[str, object]) -> str:
        """Create a rule, wait until it is evaluated, and return its id: an event that comes before does not count."""
        status, answer = self.request("POST", "/api/alert-rules", rule)
        assert status == 200, answer
        port, revision = self.system.wiring.ports.evaluator_admin, int(answer["alertRule"]["revision"])
        name = "tocsin_evaluator_rules_revision"
        wait_until(lambda: read_counter(port, name) >= revision, what="the evaluator uses the rule")
        return str(answer["alertRule"]["id"])

    def deliveries(self, channel: str = "") -> list[Any]:
        more = f"&channel={channel}" if channel else ""
        return list(self.sinks.get(f"/deliveries?accepted=true{more}")["deliveries"])

    def results(self) -> DemoResult:
        return DemoResult(alerts=self.alerts(), deliveries=self.deliveries())

    def behave(self, channel: str, **behaviour: object) -> None:
        """Set how a sink responds; without arguments, as its protocol requires."""
        method = "PUT" if behaviour else "DELETE"
        status, _ = self.request(method, f"/behaviour/{channel}", behaviour, port=self.system.wiring.ports.sinks)
        assert status == 200

    def request(self, method: str, path: str, body: object = None, *, port: int | None = None) -> tuple[int, Any]:
        """Send a request as curl does, and return status and JSON; a body of bytes is sent as it is."""
        connection = HTTPConnection("127.0.0.1", port or self.system.wiring.ports.edge, timeout=30)
        try:
            text = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def command(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the tocsin command against this system."""
        environ = {**os.environ, "TOCSIN_SERVER": self.address}
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environ, input=text, capture_output=True, text=True, timeout=60, check=False
        )
