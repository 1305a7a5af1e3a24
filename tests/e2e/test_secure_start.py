"""`make up SECURE=1` as a person runs it: servers and services with certificates and passwords, and the first key."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from stack.local_system import stop_stack
from stack.ports import Ports, port_variable
from stack.secure_files import SecureFiles
from stack.wiring import SERVICES, Wiring
from tests.e2e.world import ROOT, wait_until
from tests.fakes.certificates import client_context

# The first version's, as the README has it.
EVENT = {
    "service": "payment-service",
    "level": "ERROR",
    "message": "Database connection failed",
    "statusCode": 500,
    "responseTime": 5000,
}
RULE = {
    "name": "Each failed connection",
    "type": "CUSTOM",
    "filter": 'message == "Database connection failed"',
    "condition": "count >= threshold",
    "threshold": 1,
    "windowMinutes": 5,
    "severity": "HIGH",
}
KEY = re.compile(r"\btocsin_[a-z0-9]+_[\w-]{43}\b")


@dataclass(frozen=True)
class Shell:
    """A shell in which the system has a folder and ports of its own."""

    environ: dict[str, str]

    @property
    def folder(self) -> Path:
        return Path(self.environ["TOCSIN_RUN"])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a module of this tree, and expect that it succeeds."""
        line = [sys.executable, "-m", *command]
        done = subprocess.run(
            line, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def call(self, method: str, path: str, body: object = None, *, key: str = "") -> tuple[int, Any]:
        """Call the edge by TLS, as curl does with `--cacert` and, if there is a key, a header with it."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        port, context = Wiring.read(self.folder).ports.edge, client_context(SecureFiles(home=self.folder).ca, None)
        with closing(HTTPSConnection("localhost", port, timeout=20, context=context)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    ports = {port_variable(name): str(port) for name, port in dataclasses.asdict(Ports.free()).items()}
    shell = Shell(kept | ports | {"TOCSIN_RUN": str(tmp_path / "run")})
    yield shell
    stop_stack(print, folder=shell.folder, purge=True)


def admits(shell: Shell, key: str) -> None:
    """Wait until a new key is known everywhere, which takes seconds."""
    for path in ("/api/alert-rules", "/api/circuit-breakers"):
        wait_until(lambda path=path: shell.call("GET", path, key=key)[0] == 200, what=path)  # type: ignore[misc]
    wait_until(lambda: shell.call("POST", "/api/logs", EVENT, key=key)[0] == 200, what="ingest knows the key")


@pytest.mark.timeout(600)
def test_a_secure_start_shows_a_key_once_with_which_the_first_versions_lines_work(shell: Shell) -> None:
    started = shell.run("stack", "up", "--secure")
    (key,) = KEY.findall(started.stdout)
    assert "Not encrypted, and reached from this machine alone: PostgreSQL and Redis" in started.stdout
    assert Wiring.read(shell.folder).external == {}
    admits(shell, key)

    # From Kafka with certificates to PostgreSQL and Redis with passwords.
    status, answer = shell.call("POST", "/api/alert-rules", RULE, key=key)
    assert status == 200, answer
    fired = "/api/alerts?states=FIRING&severities=HIGH"

    def fires() -> bool:
        assert shell.call("POST", "/api/logs", EVENT, key=key) == (200, {"acceptedCount": 1})
        return any(one["ruleName"] == RULE["name"] for one in shell.call("GET", fired, key=key)[1]["alerts"])

    wait_until(fires, what="the alert")
    for method, path, body in (("POST", "/api/logs", EVENT), ("GET", fired, None)):
        assert shell.call(method, path, body)[0] == 401

    again = shell.run("stack", "up")
    assert again.stdout.count("it ran already") == len(SERVICES) + len(("kafka", "postgres", "redis", "envoy", "sinks"))
    assert KEY.findall(again.stdout + shell.run("stack", "status").stdout) == []

    made = shell.run("cli", "keys", "create", "--name", "eve", "--role", "viewer", "--bootstrap")
    (other,) = KEY.findall(made.stdout)
    wait_until(lambda: shell.call("GET", fired, key=other)[0] == 200, what="the other key is known")
    assert shell.call("POST", "/api/alert-rules", RULE, key=other)[0] == 403
    assert key not in made.stdout + made.stderr
