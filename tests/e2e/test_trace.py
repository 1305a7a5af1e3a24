"""One trace from the client's call to the channel, span by span."""

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bench.measures import read_counter
from stack.servers import Addresses
from stack.testing import isolated_wiring, temporary_system
from tests.e2e.event_times import at_one_time
from tests.e2e.world import World, wait_until
from tests.fakes.otlp import SpanReceiver

ERROR = {"service": "trace-single", "level": "ERROR", "message": "it broke"}
SLOW = {"service": "trace-batch", "level": "WARN", "message": "it took long", "responseTime": 3000}
# The default rules: more than 100 errors, more than 50 slow responses of one service in five minutes.
ERRORS, SLOW_ONES = 100, 50


@dataclass(frozen=True, slots=True)
class Client:
    """A caller's own span, as in the traceparent that it sends."""

    trace: str
    span: str

    @classmethod
    def new(cls) -> "Client":
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace}-{self.span}-01"

    def post(self, world: World, path: str, body: object) -> None:
        connection = HTTPConnection(world.address, timeout=30)
        try:
            headers = {"Content-Type": "application/json", "traceparent": self.traceparent}
            connection.request("POST", path, json.dumps(body), headers)
            assert connection.getresponse().status == 200
        finally:
            connection.close()


class Spans:
    """The spans of a receiver, read as traces."""

    def __init__(self, receiver: SpanReceiver) -> None:
        self._receiver = receiver

    def of(self, trace: str) -> list[tuple[str, Span]]:
        """Return the spans of a trace, with their services."""
        return [(service, span) for service, span in self._receiver.spans if span.trace_id.hex() == trace]

    def named(self, service: str, name: str, *, trace: str | None = None) -> list[Span]:
        return [
            span
            for maker, span in self._receiver.spans
            if (maker, span.name) == (service, name) and trace in {None, span.trace_id.hex()}
        ]

    def path(self, trace: str, span: str) -> list[str]:
        """Return the spans from the caller's, which is not received, to this one: each one's service and name."""
        known = {each.span_id.hex(): (service, each) for service, each in self.of(trace)}
        path: list[str] = []
        while span in known:
            service, each = known[span]
            path.insert(0, f"{service}: {each.name}")
            span = each.parent_span_id.hex()
        return [span, *path]


def linked(span: Span) -> set[tuple[str, str]]:
    return {(link.trace_id.hex(), link.span_id.hex()) for link in span.links}


def id_of(span: Span) -> tuple[str, str]:
    return span.trace_id.hex(), span.span_id.hex()


@pytest.fixture(scope="module")
def receiver() -> Iterator[SpanReceiver]:
    with SpanReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(
    kafka: str, postgres: str, redis_url: str, receiver: SpanReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Give a system that sends its traces to the receiver."""
    servers, folder = Addresses(kafka=kafka, postgres=postgres, redis=redis_url), tmp_path_factory.mktemp("traced")
    with isolated_wiring(servers) as wiring, temporary_system(wiring, folder, print, otlp=receiver.address) as system:
        yield World(system)


@pytest.fixture(scope="module")
def by_a_single_event(traced: World) -> tuple[Client, str]:
    """Give a caller whose single event, after events of another caller, decides an alert; and the alert's id."""
    port = traced.system.wiring.ports.evaluator_admin
    before = read_counter(port, "events_evaluated_total")
    *errors, deciding = at_one_time([ERROR] * (ERRORS + 1))
    Client.new().post(traced, "/api/logs/batch", errors)
    wait_until(
        lambda: read_counter(port, "events_evaluated_total") - before >= ERRORS, what="the first events are evaluated"
    )
    client = Client.new()
    client.post(traced, "/api/logs", deciding)
    return client, alert_of(traced, "trace-single", channels=3)


@pytest.fixture(scope="module")
def by_a_batch(traced: World) -> tuple[Client, str]:
    """Give a caller whose batch decides an alert, and the alert's id."""
    client = Client.new()
    client.post(traced, "/api/logs/batch", at_one_time([SLOW] * (SLOW_ONES + 1)))
    return client, alert_of(traced, "trace-batch", channels=2)


def alert_of(world: World, resource: str, *, channels: int) -> str:
    (alert,) = wait_until(lambda: world.alerts(f"&resource={resource}"), what=f"an alert of {resource}")
    wait_until(
        lambda: len(deliveries_of(world, alert["id"])) == channels,
        what=f"{channels} channels are notified of {resource}",
    )
    return str(alert["id"])


def deliveries_of(world: World, alert: str, channel: str = "") -> list[dict[str, Any]]:
    return [each for each in world.deliveries(channel) if each["alert"] == alert]


def delivered_span(world: World, alert: str, channel: str) -> tuple[str, str]:
    """Return the trace and the span in the traceparent that a channel's sink received."""
    (delivery,) = deliveries_of(world, alert, channel)
    _, trace, span, flags = delivery["headers"]["traceparent"].split("-")
    assert flags == "01"
    return trace, span


FLUSHED = ["ingest: tocsin.logs.v1.LogIngestService/IngestJson", "ingest: log-events flush"]
DIRECT = ["ingest: tocsin.logs.v1.LogIngestService/IngestJsonBatch"]


@pytest.mark.parametrize(
    ("sent", "taken", "channel"),
    [
        ("by_a_single_event", FLUSHED, "pagerduty"),
        ("by_a_single_event", FLUSHED, "slack"),
        ("by_a_batch", DIRECT, "slack"),
    ],
)
def test_the_callers_trace_ends_at_the_channel(
    traced: World, receiver: SpanReceiver, request: pytest.FixtureRequest, sent: str, taken: list[str], channel: str
) -> None:
    client, alert = request.getfixturevalue(sent)
    trace, span = delivered_span(traced, alert, channel)
    assert trace == client.trace
    spans = Spans(receiver)
    wait_until(
        lambda: spans.path(trace, span)[0] == client.span, what=f"the path is complete: {spans.path(trace, span)}"
    )
    path = spans.path(trace, span)[1:]
    gateway = [step for step in path if step.startswith("api-gateway: ")]
    assert len(gateway) in {1, 2}
    assert path == [*gateway, *taken, "evaluator: judge", "manager: alert fired", f"notifier: deliver {channel}"]


@pytest.mark.parametrize("sent", ["by_a_single_event", "by_a_batch"])
def test_the_alert_names_the_trace_of_its_deliveries(traced: World, request: pytest.FixtureRequest, sent: str) -> None:
    client, alert = request.getfixturevalue(sent)

    def traces() -> dict[str, str]:
        return {entry["kind"]: entry["traceId"] for entry in traced.edge.get(f"/api/alerts/{alert}")["history"]}

    wait_until(
        lambda: traces() == {"FIRED": client.trace, "NOTIFIED": client.trace},
        what=f"{alert} has the traces of its deliveries",
    )
    assert client.trace in traced.command("alerts", "show", alert).stdout


@pytest.mark.parametrize("sent", ["by_a_single_event", "by_a_batch"])
def test_spans_of_batches_are_linked(receiver: SpanReceiver, request: pytest.FixtureRequest, sent: str) -> None:
    client, _ = request.getfixturevalue(sent)
    spans = Spans(receiver)
    (judged,) = wait_until(lambda: spans.named("evaluator", "judge", trace=client.trace), what="the evaluation's span")
    (record,) = [span for _, span in spans.of(client.trace) if span.span_id == judged.parent_span_id]

    def one_linked_to(origin: Span, service: str, name: str) -> Span:
        matches = wait_until(
            lambda: [span for span in spans.named(service, name) if id_of(origin) in linked(span)],
            what=f"{service}'s {name} is linked to {origin.name}",
        )
        assert len(matches) == 1
        return matches[0]

    # The match stage: one flush of many records, to which the evaluation links back.
    flush = one_linked_to(record, "evaluator", "flush window-partials")
    assert id_of(flush) in linked(judged)
    # The manager: one transaction for many transitions, each of which continues its own trace.
    handled = one_linked_to(judged, "manager", "alerts process")
    (fired,) = spans.named("manager", "alert fired", trace=client.trace)
    assert id_of(handled) in linked(fired)
    # And back: the result of a delivery goes into the alert's history.
    delivered = spans.named("notifier", "deliver slack", trace=client.trace)
    one_linked_to(delivered[0], "manager", "notification-results process")


def test_a_flushed_event_is_linked_to_its_own_call(
    receiver: SpanReceiver, by_a_single_event: tuple[Client, str]
) -> None:
    client, _ = by_a_single_event
    spans = Spans(receiver)
    (call,) = spans.named("ingest", "tocsin.logs.v1.LogIngestService/IngestJson", trace=client.trace)
    (flush,) = spans.named("ingest", "log-events flush", trace=client.trace)
    assert id_of(call) in linked(flush)


def test_the_spans_have_the_ids_of_their_subjects(receiver: SpanReceiver, by_a_batch: tuple[Client, str]) -> None:
    client, alert = by_a_batch
    spans = Spans(receiver)
    (fired,) = wait_until(lambda: spans.named("manager", "alert fired", trace=client.trace), what="the manager's span")
    assert attributes(fired)["tocsin.alert.id"] == alert
    (judged,) = spans.named("evaluator", "judge", trace=client.trace)
    assert attributes(judged)["tocsin.rule"]
    (delivered,) = wait_until(
        lambda: spans.named("notifier", "deliver slack", trace=client.trace), what="the delivery's"
    )
    assert attributes(delivered)["tocsin.outcome"] == "DELIVERED"
    assert all(span.status.code != span.status.STATUS_CODE_ERROR for _, span in spans.of(client.trace))


def test_the_notification_of_a_command_is_in_its_callers_trace(
    traced: World, receiver: SpanReceiver, by_a_single_event: tuple[Client, str]
) -> None:
    _, alert = by_a_single_event
    client = Client.new()
    client.post(traced, f"/api/alerts/{alert}/acknowledge", {"actor": "ann"})
    (delivery,) = wait_until(
        lambda: [each for each in deliveries_of(traced, alert, "pagerduty") if each["kind"] == "ACKNOWLEDGED"],
        what="PagerDuty gets the acknowledgement",
    )
    _, trace, span, _ = delivery["headers"]["traceparent"].split("-")
    assert trace == client.trace
    spans = Spans(receiver)
    wait_until(lambda: spans.path(trace, span)[0] == client.span, what="the path is complete")
    path = [step for step in spans.path(trace, span)[1:] if not step.startswith("api-gateway: ")]
    assert path == ["manager: tocsin.alerts.v1.AlertService/AcknowledgeAlert", "notifier: deliver pagerduty"]


def attributes(span: Span) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


def test_the_callers_trace_is_not_taken_for_that_of_an_event(traced: World, by_a_batch: tuple[Client, str]) -> None:
    _, alert = by_a_batch
    samples = traced.edge.get(f"/api/alerts/{alert}")["alert"]["samples"]
    assert {sample["traceId"] for sample in samples} == {""}


@pytest.mark.parametrize(
    ("service", "events"),
    [
        ("evaluator", {"transition_published"}),
        ("manager", {"transition_recorded"}),
        ("notifier", {"notification_planned", "delivery_ended"}),
    ],
)
def test_each_services_log_names_the_trace(
    traced: World, by_a_batch: tuple[Client, str], service: str, events: set[str]
) -> None:
    client, _ = by_a_batch

    def named() -> set[str]:
        return {line["event"] for line in lines(traced.system.log(service)) if line.get("trace_id") == client.trace}

    wait_until(lambda: named() >= events, timeout=5, what=f"{service} logs {events} with the trace")


def lines(log: Path) -> Iterable[dict[str, Any]]:
    """Return the complete lines of a log that are JSON."""
    for line in log.read_text().splitlines():
        if line.startswith("{") and line.endswith("}"):
            yield json.loads(line)
