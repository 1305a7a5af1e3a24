"""What end-to-end tests see of a running system: its doors, its sinks, the command line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from cli.demo.steps import DemoResult, RestClient
from stack.system import System

ROOT = Path(__file__).parents[2]
PAUSE = 0.05


def until(holds: Callable[[], Any], *, within: float = 30.0, what: str = "") -> Any:
    """Wait until something is true, and give it; fails when it is not in time."""
    deadline = time.monotonic() + within
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s: {what or holds}"
        time.sleep(PAUSE)


def never(holds: Callable[[], Any], *, during: float) -> None:
    """Watch for a while that something does not become true."""
    end = time.monotonic() + during
    while time.monotonic() < end:
        assert not holds()
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

    def deliveries(self, channel: str = "") -> list[Any]:
        more = f"&channel={channel}" if channel else ""
        return list(self.sinks.get(f"/deliveries?accepted=true{more}")["deliveries"])

    def seen(self) -> DemoResult:
        return DemoResult(alerts=self.alerts(), deliveries=self.deliveries())

    def behave(self, channel: str, **behaviour: object) -> None:
        """Tell a sink how to answer; with nothing, as its protocol has it."""
        method = "PUT" if behaviour else "DELETE"
        status, _ = self.ask(method, f"/behaviour/{channel}", behaviour, port=self.system.wiring.ports.sinks)
        assert status == 200

    def ask(self, method: str, path: str, body: object = None, *, port: int | None = None) -> tuple[int, Any]:
        """A request as curl makes it: status and JSON; a body of bytes goes as it is."""
        connection = HTTPConnection("127.0.0.1", port or self.system.wiring.ports.edge, timeout=30)
        try:
            text = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def command(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """The tocsin command against this system."""
        environ = {**os.environ, "TOCSIN_SERVER": self.address}
        command = [sys.executable, "-m", "cli.main", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environ, input=text, capture_output=True, text=True, timeout=60, check=False
        )
