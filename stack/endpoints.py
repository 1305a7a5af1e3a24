"""The endpoints of a running system: what a person connects to, and with what."""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path

from stack.postgres import postgres_binary
from stack.readiness import http_get
from stack.secure_files import REDIS_USER, SecureFiles
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
    database = _server("database", addresses.postgres, postgres_binary("psql"), addresses.postgres)
    redis = _server("Redis", addresses.redis, python.with_name("redis-cli"), "-u", addresses.redis)
    if wiring.secure is not None and "postgres" not in wiring.external:
        password = _contents_of(wiring.secure.postgres_password)
        database = replace(database, example=f"PGPASSWORD={password} {database.example}")
    if wiring.secure is not None and "redis" not in wiring.external:
        client = _server("Redis", addresses.redis, python.with_name("redis-cli"), "--user", REDIS_USER)
        password = _contents_of(wiring.secure.redis_password)
        redis = replace(client, example=f"REDISCLI_AUTH={password} {client.example} -p {wiring.ports.redis}")
    kafka = _server("Kafka", addresses.kafka, python, "-c", topics)
    if wiring.secure is not None and "kafka" not in wiring.external:
        files = wiring.secure.kafka
        login = {"CA": files.ca, "CERTIFICATE": files.certificate, "KEY": files.key}
        variables = " ".join(f"TOCSIN_KAFKA_{name}={_shown(path)}" for name, path in login.items())
        kafka = replace(kafka, example=f"{variables} {kafka.example}")
    return [database, kafka, redis]


def service_endpoints(wiring: Wiring) -> list[Endpoint]:
    """Return the endpoints of services, metrics and sinks."""
    ports = wiring.ports
    edge = f"127.0.0.1:{ports.edge}"
    alone = ports.gateway[1:]
    metrics = [f"{name} {getattr(ports, f'{name}_admin')}" for name in SERVICES]
    tools = _tools(wiring.secure)
    found = [
        Endpoint(
            name="REST",
            address=f"{tools.scheme}://{edge}",
            example=f"{tools.curl}{tools.key} {tools.scheme}://{edge}/api/alert-rules",
        ),
        Endpoint(name="gRPC", address=edge, example=f"{tools.grpcurl}{tools.key} {edge} list"),
        Endpoint(
            name="each service",
            address=", ".join(f"{name} {port}" for name, port in zip(SERVICES[1:], alone, strict=True)),
            example=f"{tools.curl} {tools.scheme}://127.0.0.1:{alone[0]}/health",
        ),
        Endpoint(
            name="metrics",
            address=", ".join(metrics),
            example=f"{tools.curl}{tools.certificate} {tools.scheme}://127.0.0.1:{ports.ingest_admin}/metrics",
        ),
        Endpoint(
            name="Envoy",
            address=f"http://127.0.0.1:{ports.envoy_admin}",
            example=f"curl http://127.0.0.1:{ports.envoy_admin}/clusters",
        ),
    ]
    return [*found, *sink_endpoints(wiring)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tools:
    """How a person's tools are called, up to the address."""

    scheme: str
    curl: str
    grpcurl: str
    key: str = ""
    certificate: str = ""


def _tools(secure: SecureFiles | None) -> _Tools:
    if secure is None:
        return _Tools(scheme="http", curl="curl", grpcurl="grpcurl -plaintext")
    ca, reader = _shown(secure.ca), secure.certificate("prometheus")
    return _Tools(
        scheme="https",
        curl=f"curl --cacert {ca}",
        grpcurl=f"grpcurl -cacert {ca}",
        key=f' -H "Authorization: Bearer {_contents_of(secure.admin_key)}"',
        certificate=f" --cert {_shown(reader.certificate)} --key {_shown(reader.key)}",
    )


def _contents_of(path: Path) -> str:
    """Return what a shell replaces with the file's contents, which are in no output then."""
    return f"$(cat {_shown(path)})"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


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
        headers = {} if wiring.secure is None else wiring.secure.edge_headers()
        rules = json.loads(http_get(wiring.ports.edge, "/api/alert-rules", wiring.client_context(), headers))[
            "alertRules"
        ]
        names = sorted(str(rule["name"]) for rule in rules)
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return []
    text = ", ".join(names) if len(names) <= _MAX_NAMED_RULES else f"{', '.join(names[:_MAX_NAMED_RULES])} and more"
    tocsin = Path(sys.executable).with_name("tocsin")
    return [_server("rules", text or "none yet", tocsin, "rules", "list")]


def _server(name: str, address: str, program: Path, *arguments: str) -> Endpoint:
    """Return a server's endpoint with a program of this installation, since others may be missing."""
    return Endpoint(name=name, address=address, example=" ".join([_shown(program), shlex.join(arguments)]))
