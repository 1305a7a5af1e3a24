"""Hostile input at every endpoint of a running system: no crash, no internal error, no words of what runs inside.

`make fuzz` sends 100,000 inputs; a run of all tests a short form, the same each time. The share of a kind is what it is
worth: REST inputs are dear to make.
"""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pyarrow as pa
import pytest
import schemathesis
from google.protobuf import descriptor_pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from services.access.methods import own_methods
from services.contract.public_services import PUBLIC_SERVICES
from services.domain.roles import Role
from services.notifier.core.routes_file import RoutesError
from services.notifier.settings import load_routes
from stack.servers import Addresses
from stack.system import System
from stack.testing import isolated_wiring, temporary_system
from tests.fakes.log_events import an_event, columns_of
from tests.fuzz.findings import finding_in_call, finding_in_response
from tests.fuzz.messages import damaged, random_message
from tests.unit.notifier.routes_documents import ENVIRON, EXAMPLE, SECRETS
from tocsin.logs.v1.log_ingest_service_pb2 import IngestColumnsRequest
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import ValidateAlertRuleRequest

INPUTS = int(os.environ.get("TOCSIN_FUZZ_INPUTS", "1000"))
SEED = int(os.environ.get("TOCSIN_FUZZ_SEED", "1"))
OPENAPI = Path(__file__).parents[2] / "gen" / "openapi.json"
INGEST = "/tocsin.logs.v1.LogIngestService"
# Calls on their way at once.
WIDTH = 16
SECONDS = 30
PATTERNS = ("(a*)*b", "[", "(?=x)", r"\\1", ".{1,900}", "(?i)ÄÖ", "x{1000}")


@pytest.fixture(scope="module")
def system(kafka: str, postgres: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give a system of its own: what is made up here may silence the alerts of others."""
    servers = Addresses(kafka=kafka, postgres=postgres, redis=redis_url)
    with (
        isolated_wiring(servers) as wiring,
        temporary_system(wiring, tmp_path_factory.mktemp("fuzz"), print) as running,
    ):
        yield running
        for name in ("ingest", "evaluator", "manager", "notifier"):
            log = running.log(name).read_text(errors="replace")
            crashes = [line for line in log.splitlines() if "rpc_crashed" in line or "service_crashed" in line]
            assert crashes == [], f"{name}: {crashes[0][:2000]}"


@pytest.fixture(scope="module")
def channel(system: System) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{system.wiring.ports.edge}", [("grpc.enable_http_proxy", 0)]) as opened:
        yield opened


def unary_rpcs() -> list[tuple[str, Any]]:
    """Return path and request of each rpc of the edge that is no stream."""
    needed, pool = own_methods(), descriptor_pool.Default()
    return [
        (path, method.input_type)
        for service in map(pool.FindServiceByName, PUBLIC_SERVICES)
        for method in service.methods
        if (path := f"/{service.full_name}/{method.name}") in needed
        and needed[path].role is not Role.SERVICE
        and not method.server_streaming
    ]


def share(fraction: float) -> int:
    return max(20, int(INPUTS * fraction))


def send(channel: grpc.Channel, inputs: Iterator[tuple[str, bytes]]) -> list[str]:
    """Call with all inputs, some at once; return what is wrong with the answers."""
    found: list[str] = []
    waiting: list[tuple[str, bytes, Any]] = []
    for path, content in inputs:
        call = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        waiting.append((path, content, call.future(content, timeout=SECONDS)))
        if len(waiting) == WIDTH:
            found += _answers(waiting)
    return found + _answers(waiting)


def _answers(waiting: list[tuple[str, bytes, Any]]) -> list[str]:
    found = []
    for path, content, future in waiting:
        problem = finding_in_call(future.code(), future.details() or "")
        if problem:
            found.append(f"{path} {content[:200]!r}: {problem}")
    waiting.clear()
    return found


def test_no_bytes_to_any_rpc_do_harm(channel: grpc.Channel) -> None:
    random, rpcs = Random(SEED), unary_rpcs()

    def inputs() -> Iterator[tuple[str, bytes]]:
        for n in range(share(0.4)):
            path, request = rpcs[n % len(rpcs)]
            yield path, damaged(random, random_message(random, request).SerializeToString())

    assert send(channel, inputs()) == []


def test_no_columns_do_harm(channel: grpc.Channel) -> None:
    random = Random(SEED)
    stream = pa.BufferOutputStream()
    batch = columns_of(*(an_event(message=f"m{n}", attributes={"a": str(n)}) for n in range(20)))
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    whole = stream.getvalue().to_pybytes()

    def inputs() -> Iterator[tuple[str, bytes]]:
        for _ in range(share(0.1)):
            yield f"{INGEST}/IngestColumns", IngestColumnsRequest(stream=damaged(random, whole)).SerializeToString()

    assert send(channel, inputs()) == []


def test_no_expression_does_harm(channel: grpc.Channel) -> None:
    random = Random(SEED)

    def inputs() -> Iterator[tuple[str, bytes]]:
        for _ in range(share(0.1)):
            rule = AlertRule(
                name="x",
                type=random.choice(list(AlertRule.Type.values())),
                condition=_expression(random, ("count", "threshold", "sum", "avg", "rate", "share")),
                filter=_expression(random, ("message", "level", "service", "attributes.a", "statusCode", "host")),
                threshold=1,
                window_minutes=1,
                severity=AlertRule.HIGH,
            )
            request = ValidateAlertRuleRequest(alert_rule=rule)
            yield "/tocsin.rules.v1.AlertRuleService/ValidateAlertRule", request.SerializeToString()

    assert send(channel, inputs()) == []


def _expression(random: Random, names: tuple[str, ...], depth: int = 0) -> str:
    """Return a text that is nearly an expression."""
    deeper = partial(_expression, random, names, depth + 1)
    if depth > 4 or random.random() < 0.25:
        return random.choice((*names, "1", "-1.5e308", '"x"', "'\\u0000'", "true", "null", "[]", "{}", "b'\\xff'", ""))
    makers: tuple[Callable[[], str], ...] = (
        lambda: f"({deeper()} {random.choice(('>', '==', '&&', '||', '+', '/', '%', 'in', '?', ':', ''))} {deeper()})",
        lambda: f"!{deeper()}",
        lambda: f"{deeper()}.matches({deeper()})",
        lambda: f'message.matches("{random.choice(PATTERNS)}")',
        lambda: f"{deeper()}.contains({deeper()})",
        lambda: f"has({deeper()})",
        lambda: f"{deeper()} ? {deeper()} : {deeper()}",
        lambda: f"[{deeper()}, {deeper()}].exists(x, x == {deeper()})",
        lambda: "(" * random.randrange(300) + deeper(),
    )
    return random.choice(makers)()


def test_no_json_does_harm(system: System) -> None:
    random, found = Random(SEED), []
    texts = (
        '{"service":"s","level":"ERROR","message":"m","statusCode":500,"responseTime":"5ms","a":{"b":[1,{"c":null}]}}',
        '[{"service":"s","level":5,"message":"m","timestamp":1e300},{"service":"\\ud800","@timestamp":"2026-02-30"}]',
        '[{"service":"s","message":"' + "x" * 400 + '","attributes":{"k":"v","k":"w"},"eventTime":"now"}]',
        "[" * 200 + "]" * 200,
    )
    for _ in range(share(0.2)):
        body = damaged(random, random.choice(texts).encode())
        path = random.choice(("/api/logs", "/api/logs/batch"))
        status, text = post(system.wiring.ports.edge, path, body)
        problem = finding_in_response(status, text, body.decode(errors="replace"))
        if problem:
            found.append(f"{path} {body[:200]!r}: {problem}")
    assert found == []


def post(port: int, path: str, body: bytes) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def test_no_receivers_file_does_harm(tmp_path: Path) -> None:
    random, found, path = Random(SEED), [], tmp_path / "receivers.yaml"
    whole = EXAMPLE.read_bytes()
    for _ in range(share(0.1)):
        content = damaged(random, whole)
        path.write_bytes(content)
        try:
            load_routes(path, ENVIRON)
        except RoutesError as error:
            text = "\n".join(error.problems)
            if not text or any(ENVIRON[name] in text for name in SECRETS):
                found.append(f"{content[:200]!r}: {text}")
    assert found == []


def test_no_request_that_the_openapi_document_allows_or_forbids_does_harm(system: System) -> None:
    schema = schemathesis.openapi.from_dict(json.loads(OPENAPI.read_text()))
    operations: list[Any] = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]
    # A stream has no end.
    finite = [each for each in operations if not each.path.endswith("/watch")]
    cases = st.one_of([each.as_strategy(generation_mode=mode) for each in finite for mode in GenerationMode])

    @settings(
        max_examples=share(0.1), database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases)
    def no_harm(case: Any) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{system.wiring.ports.edge}", timeout=SECONDS)
        assert finding_in_response(response.status_code, response.text, json.dumps(str(case.body))) == ""

    no_harm()


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (finding_in_call(grpc.StatusCode.INTERNAL, "internal error"), "INTERNAL: internal error"),
        (finding_in_call(grpc.StatusCode.INVALID_ARGUMENT, "name: is required"), ""),
        (finding_in_call(grpc.StatusCode.INVALID_ARGUMENT, "asyncpg: no"), "leaked 'asyncpg': asyncpg: no"),
        (finding_in_response(500, "{}"), "500: {}"),
        (finding_in_response(400, 'File "/x.py", line 1'), 'leaked \'File "/\': File "/x.py", line 1'),
        (finding_in_response(400, "redis.exceptions", "redis.exceptions"), ""),
        (finding_in_response(404, "there is nothing at this path"), ""),
    ],
)
def test_a_crash_and_a_leak_are_findings(finding: str, expected: str) -> None:
    assert finding == expected
