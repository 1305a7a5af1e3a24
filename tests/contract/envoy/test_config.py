"""The configuration agrees with the contracts, and Envoy finds it valid."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor

from stack.envoy import EnvoySettings, envoy_command, render_config, validate_config
from tests.contract.envoy.upstream import CONTRACTS

JsonObject = dict[str, Any]

NO_SIDE_EFFECTS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
# Services call it; the edge has no route to it.
MESH_ONLY = {"ReportRuleStatistics", "ReportTraces", "GetKeySnapshot", "ReportKeyUses"}
METHODS = [
    pytest.param(owner, method, id=method.name)
    for owner, services in CONTRACTS.items()
    for service in services
    for method in service.methods
]


@pytest.mark.parametrize("otlp", ["", "127.0.0.1:4317"], ids=["without traces", "with traces"])
def test_envoy_finds_it_valid(tmp_path: Path, otlp: str) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(render_config(EnvoySettings(otlp=otlp)))
    validate_config(config)
    assert ("OpenTelemetryConfig" in config.read_text()) == bool(otlp)


def test_envoys_errors_are_reported(tmp_path: Path) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(render_config(EnvoySettings()).replace('"ingest_admin"', '"nowhere"', 1))
    with pytest.raises(ValueError, match="nowhere"):
        validate_config(config)


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="not host:port: manager"):
        render_config(EnvoySettings(manager="manager"))


def test_at_least_one_thread_is_needed() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        EnvoySettings(concurrency=0)
    assert envoy_command(Path("c"), concurrency=2)[3:5] == ["--concurrency", "2"]


@pytest.mark.parametrize(("owner", "method"), [each for each in METHODS if each.id not in MESH_ONLY])
def test_each_public_rpc_leads_to_its_service(owner: str, method: MethodDescriptor) -> None:
    route = route_of("edge", method)
    assert route["route"]["cluster"] == owner
    assert route_of("mesh", method) | {"name": ""} == route | {"name": ""}
    if owner != "ingest":
        assert route_of(owner, method) == route


@pytest.mark.parametrize(("owner", "method"), METHODS)
def test_only_queries_are_retried_after_the_service_may_have_received_them(
    owner: str, method: MethodDescriptor
) -> None:
    policy = route_of("mesh", method)["route"]["retry_policy"]["retry_on"].split(",")
    assert {"connect-failure", "refused-stream"} <= set(policy)
    assert ("reset" in policy) == (method.GetOptions().idempotency_level == NO_SIDE_EFFECTS), owner


@pytest.mark.parametrize(("owner", "method"), METHODS)
def test_only_streams_have_no_deadline(owner: str, method: MethodDescriptor) -> None:
    assert (route_of("mesh", method)["route"]["timeout"] == "0s") == method.server_streaming, owner


def route_of(listener: str, method: MethodDescriptor) -> JsonObject:
    path = f"/{method.containing_service.full_name}/{method.name}"
    return next(route for route in routes(listener) if fits(route["match"], path))


def routes(listener: str) -> Iterator[JsonObject]:
    (found,) = [each for each in config()["static_resources"]["listeners"] if each["name"] == listener]
    manager = found["filter_chains"][0]["filters"][0]["typed_config"]
    yield from manager["route_config"]["virtual_hosts"][0]["routes"]


@cache
def config() -> JsonObject:
    loaded: JsonObject = json.loads(render_config(EnvoySettings()))
    return loaded


def fits(match: JsonObject, path: str) -> bool:
    if "safe_regex" in match:
        return re.fullmatch(match["safe_regex"]["regex"], path) is not None
    return path == match["path"] if "path" in match else path.startswith(match["prefix"])
