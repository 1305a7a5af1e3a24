"""The endpoints of a running system: what a person connects to, and with what."""

import json
import shlex
import sys
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from stack.postgres import postgres_binary
from stack.readiness import http_get
from stack.sink_addresses import SLACK_PATH, sink_variables
from stack.wiring import SERVICES, Wiring

_MAX_NAMED_RULES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address, and a command to try it with."""

    name: str
    address: str
    example: str


def endpoints(wiring: Wiring) -> list[Endpoint]:
    """Return all endpoints of this system."""
    return [*service_endpoints(wiring), *server_endpoints(wiring)]


def server_endpoints(wiring: Wiring) -> list[Endpoint]:
    """Return the servers' endpoints."""
    addresses = wiring.addresses
    python = Path(sys.executable)
    list_topics = f"admin_client({json.dumps(addresses.kafka)}).list_topics(timeout=5)"
    topics = f"from stack.topics import admin_client; print(*{list_topics}.topics)"
    return [
        _server("database", addresses.postgres, postgres_binary("psql"), addresses.postgres),
        _server("Kafka", addresses.kafka, python, "-c", topics),
        _server("Redis", addresses.redis, python.with_name("redis-cli"), "-u", addresses.redis),
    ]


def service_endpoints(wiring: Wiring) -> list[Endpoint]:
    """Return the endpoints of services, metrics and sinks."""
    ports = wiring.ports
    edge = f"127.0.0.1:{ports.edge}"
    alone = ports.gateway[1:]
    metrics = [f"{name} {getattr(ports, f'{name}_admin')}" for name in SERVICES]
    found = [
        Endpoint(name="REST", address=f"http://{edge}", example=f"curl http://{edge}/api/alert-rules"),
        Endpoint(name="gRPC", address=edge, example=f"grpcurl -plaintext {edge} list"),
        Endpoint(
            name="each service",
            address=", ".join(f"{name} {port}" for name, port in zip(SERVICES[1:], alone, strict=True)),
            example=f"curl http://127.0.0.1:{alone[0]}/health",
        ),
        Endpoint(
            name="metrics",
            address=", ".join(metrics),
            example=f"curl http://127.0.0.1:{ports.ingest_admin}/metrics",
        ),
        Endpoint(
            name="Envoy",
            address=f"http://127.0.0.1:{ports.envoy_admin}",
            example=f"curl http://127.0.0.1:{ports.envoy_admin}/clusters",
        ),
    ]
    return [*found, *sink_endpoints(wiring)]


def sink_endpoints(wiring: Wiring) -> list[Endpoint]:
    """Return the sinks' addresses; beside a routes file of one's own, also the variables that it may name."""
    if not wiring.options.runs_sinks:
        return []
    sinks = f"http://127.0.0.1:{wiring.ports.sinks}"
    variables = sink_variables(wiring.options, wiring.ports, Path())
    addresses = [
        f"Slack {sinks}{SLACK_PATH}",
        f"PagerDuty {sinks}/pagerduty/v2/enqueue",
        f"webhook {sinks}/webhook",
        f"e-mail 127.0.0.1:{wiring.ports.sinks_smtp}",
    ]
    if wiring.routes is not None:
        addresses.append("in the routes file " + " ".join(f"${{{name}}}" for name in variables))
    return [Endpoint(name="local sinks", address=f"\n{'':<14}".join(addresses), example=f"curl {sinks}/deliveries")]


def stored_rules(wiring: Wiring) -> list[Endpoint]:
    """Return the rules of a running system, few by name and many by number; nothing when it does not answer."""
    try:
        rules = json.loads(http_get(wiring.ports.edge, "/api/alert-rules"))["alertRules"]
        names = sorted(str(rule["name"]) for rule in rules)
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return []
    text = ", ".join(names) if len(names) <= _MAX_NAMED_RULES else f"{', '.join(names[:_MAX_NAMED_RULES])} and more"
    tocsin = Path(sys.executable).with_name("tocsin")
    return [_server("rules", text or "none yet", tocsin, "rules", "list")]


def _server(name: str, address: str, program: Path, *arguments: str) -> Endpoint:
    """Return a server's endpoint with a program of this installation, since others may be missing."""
    here = Path.cwd()
    shown = program.relative_to(here) if program.is_relative_to(here) else program
    return Endpoint(name=name, address=address, example=shlex.join([str(shown), *arguments]))
