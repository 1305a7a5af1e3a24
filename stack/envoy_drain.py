"""`python -m stack.envoy_drain`: send an Envoy's clients away before it is stopped, so that none of their calls fails.

Envoy itself ends at SIGTERM at once. Run this before, as a container's preStop hook: clients are told to connect
elsewhere with the response that they get next, then the listeners close, and this returns when no call runs any more.
"""

import json
import os
import sys
import threading
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any

from stack.ports import is_free
from stack.program import StartError
from stack.readiness import http_get, wait_until_ready

# Streams of watchers have no end of their own.
_TIMEOUT = timedelta(seconds=15)
_DEFAULT_ADMIN_PORT, _DEFAULT_EDGE_PORT = 9901, 8080


def drain_envoy(admin_port: int, edge_port: int) -> None:
    """Return when clients cannot connect any more and none of their calls runs, or after 15 s."""
    connection = HTTPConnection("127.0.0.1", admin_port, timeout=5)
    connection.request("POST", "/drain_listeners?graceful")
    connection.getresponse().read()
    connection.close()
    try:
        wait_until_ready(
            "the drained Envoy", lambda: _check_drained(admin_port, edge_port), _TIMEOUT, threading.Event()
        )
    except StartError as error:
        sys.stderr.write(f"{error}\n")


def _check_drained(admin_port: int, edge_port: int) -> None:
    found: dict[str, Any] = json.loads(http_get(admin_port, "/stats?format=json&usedonly"))
    values = {one["name"]: one["value"] for one in found["stats"] if "name" in one}
    if not is_free(edge_port):
        raise ConnectionError("its listeners are open")
    if running := values.get("http.edge.downstream_rq_active"):
        raise ConnectionError(f"{running} calls are running")


if __name__ == "__main__":
    admin, edge = os.environ.get("GATEWAY_ADMIN_PORT"), os.environ.get("GATEWAY_EDGE_PORT")
    drain_envoy(int(admin or _DEFAULT_ADMIN_PORT), int(edge or _DEFAULT_EDGE_PORT))
