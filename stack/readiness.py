"""When a program is ready: its readiness check returns. Until then the check raises, and is called again.

The checks of Kafka, PostgreSQL and Redis are in the modules that run them; those over HTTP are here.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from stack.ports import Ports
from stack.program import ReadinessCheck, StartError

_OK = 200
_ANSWER_TIMEOUT_S = 2.0
# What each program answers to, in some way, also where it wants TLS: a process that is frozen or busy says nothing.
GREETED = {
    # ApiVersions, version 0, without the name of a client.
    "kafka": bytes.fromhex("0000000a 0012 0000 00000001 ffff"),
    # SSLRequest.
    "postgres": bytes.fromhex("00000008 04d2162f"),
    "redis": b"PING\r\n",
    "envoy": b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    "sinks": b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
}
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.02, 0.25


def wait_until_ready(
    name: str,
    check: ReadinessCheck,
    timeout: timedelta,
    cancelled: threading.Event,
    *,
    is_alive: Callable[[], bool] = lambda: True,
) -> None:
    """Return when the check does; raise StartError when it takes too long, on `cancelled`, or when it has ended."""
    deadline = time.monotonic() + timeout.total_seconds()
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            check()
        except Exception as refusal:  # noqa: BLE001 - whatever it is, the program is not ready yet
            reason = refusal
        else:
            return
        if not is_alive():
            raise StartError(f"{name} ended before it answered") from reason
        if cancelled.wait(pause_s):
            raise StartError(f"the start of {name} was cancelled before it was ready") from reason
        if time.monotonic() > deadline:
            raise StartError(f"{name} does not answer: {reason}") from reason
        pause_s = min(pause_s * 1.5, _MAX_PAUSE_S)


def http_get(
    port: int, path: str, context: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the body of a 200 response; raise OSError when nobody listens or the status is another.

    With a context the port speaks HTTPS.
    """
    status, body = _get(port, path, context, headers or {})
    if status != _OK:
        raise ConnectionError(f"port {port} answered {path} with {status}: {body[:300].decode(errors='replace')}")
    return body


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCondition:
    """What a service says of itself, or what is seen of another program."""

    # Why it does not serve, in words; empty when it does.
    problem: str = ""
    # What it does without while it serves.
    degradation: str = ""


def server_condition(name: str, port: int, timeout_s: float = _ANSWER_TIMEOUT_S) -> ServiceCondition:
    """Return the condition of a program that is no service: whether it says anything on its first port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(GREETED[name])
            connection.recv(1)
    except (TimeoutError, ConnectionRefusedError):
        return ServiceCondition(problem="does not answer")
    except OSError:
        # It has closed the connection, and so it works.
        return ServiceCondition()
    return ServiceCondition()


def service_condition(port: int, context: ssl.SSLContext | None = None) -> ServiceCondition:
    """Return the condition of the service with this admin port."""
    try:
        status, body = _get(port, "/health/reasons", context, {})
        reasons = json.loads(body)["reasons"]
    except (OSError, ValueError, KeyError):
        return ServiceCondition(problem="does not answer")
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    if status == _OK:
        return ServiceCondition(degradation=f"degraded: {why}" if why else "")
    return ServiceCondition(problem=f"does not serve: {why}" if why else "does not serve")


def _get(port: int, path: str, context: ssl.SSLContext | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    # Slow to import, and not needed by the guard.
    from http.client import HTTPConnection, HTTPException, HTTPSConnection  # noqa: PLC0415

    # Not urllib, which would use a configured proxy for this machine's own ports.
    connection = (
        HTTPConnection("127.0.0.1", port, timeout=2)
        if context is None
        else HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
    )
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except HTTPException as error:
        raise ConnectionError(f"port {port} does not speak HTTP") from error
    finally:
        connection.close()


def check_gateway(ports: Ports, context: ssl.SSLContext | None = None) -> None:
    """Return when each listener of Envoy reaches a serving service, and Envoy itself finds all of them healthy."""
    for port in ports.gateway:
        http_get(port, "/health", context)
    clusters = json.loads(http_get(ports.envoy_admin, "/clusters?format=json"))
    for cluster in clusters["cluster_statuses"]:
        for host in cluster.get("host_statuses", []):
            if host["health_status"].get("failed_active_health_check"):
                raise ConnectionError(f"Envoy does not reach {cluster['name']} yet")
