"""One trace from the client's call to the channel, span by span."""

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bench.measures import read_counter
from stack.servers import Addresses
from stack.testing import isolated_wiring, temporary_system
from tests.e2e.moments import together
from tests.e2e.world import World, until
from tests.fakes.otlp import SpanReceiver

ERROR = {"service": "trace-single", "level": "ERROR", "message": "it broke"}
SLOW = {"service": "trace-batch", "level": "WARN", "message": "it took long", "responseTime": 3000}
# The default rules: more than 100 errors, more than 50 slow responses of one service in five minutes.
ERRORS, SLOW_ONES = 100, 50


@dataclass(frozen=True, slots=True)
class Client:
    """A caller's own span: what it is called in the traceparent that it sends."""

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
    """What a receiver has, read as traces."""

    def __init__(self, receiver: SpanReceiver) -> None:
        self._receiver = receiver

    def of(self, trace: str) -> list[tuple[str, Span]]:
        """The spans of a trace, with the services that made them."""
        return [(service, span) for service, span in self._receiver.spans if span.trace_id.hex() == trace]

    def named(self, service: str, name: str, *, trace: str | None = None) -> list[Span]:
        return [
            span
            for maker, span in self._receiver.spans
            if (maker, span.name) == (service, name) and trace in {None, span.trace_id.hex()}
        ]

    def way(self, trace: str, span: str) -> list[str]:
        """The way to a span from the caller, who has none here: each step's service and name."""
        known = {each.span_id.hex(): (service, each) for service, each in self.of(trace)}
        found: list[str] = []
        while span in known:
            service, each = known[span]
            found.insert(0, f"{service}: {each.name}")
            span = each.parent_span_id.hex()
        return [span, *found]


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
    """A system that sends its traces to the receiver."""
    servers, folder = Addresses(kafka=kafka, postgres=postgres, redis=redis_url), tmp_path_factory.mktemp("traced")
    with isolated_wiring(servers) as wiring, temporary_system(wiring, folder, print, otlp=receiver.address) as system:
        yield World(system)


@pytest.fixture(scope="module")
def by_a_single_event(traced: World) -> tuple[Client, str]:
    """A caller whose one event, on top of what another had sent before, decides an alert; and that alert's id."""
    port = traced.system.wiring.ports.evaluator_admin
    before = read_counter(port, "events_evaluated_total")
    *errors, deciding = together([ERROR] * (ERRORS + 1))
    Client.new().post(traced, "/api/logs/batch", errors)
    until(lambda: read_counter(port, "events_evaluated_total") - before >= ERRORS, what="the first events are judged")
    client = Client.new()
    client.post(traced, "/api/logs", deciding)
    return client, alert_of(traced, "trace-single", channels=3)


@pytest.fixture(scope="module")
def by_a_batch(traced: World) -> tuple[Client, str]:
    """A caller whose batch decides an alert; and that alert's id."""
    client = Client.new()
    client.post(traced, "/api/logs/batch", together([SLOW] * (SLOW_ONES + 1)))
    return client, alert_of(traced, "trace-batch", channels=2)


def alert_of(world: World, resource: str, *, channels: int) -> str:
    (alert,) = until(lambda: world.alerts(f"&resource={resource}"), what=f"an alert of {resource}")
    until(lambda: len(told(world, alert["id"])) == channels, what=f"{channels} channels are told of {resource}")
    return str(alert["id"])


def told(world: World, alert: str, channel: str = "") -> list[dict]:
    return [each for each in world.deliveries(channel) if each["alert"] == alert]


def seen_by(world: World, alert: str, channel: str) -> tuple[str, str]:
    """The trace and the span that a channel's sink was told."""
    (delivery,) = told(world, alert, channel)
    _, trace, span, flags = delivery["headers"]["traceparent"].split("-")
    assert flags == "01"
    return trace, span


FLUSHED = ["ingest: tocsin.logs.v1.LogIngestService/IngestJson", "ingest: log-events flush"]
AT_ONCE = ["ingest: tocsin.logs.v1.LogIngestService/IngestJsonBatch"]


@pytest.mark.parametrize(
    ("sent", "taken", "channel"),
    [
        ("by_a_single_event", FLUSHED, "pagerduty"),
        ("by_a_single_event", FLUSHED, "slack"),
        ("by_a_batch", AT_ONCE, "slack"),
    ],
)
def test_the_channel_stands_at_the_end_of_the_callers_trace(
    traced: World, receiver: SpanReceiver, request: pytest.FixtureRequest, sent: str, taken: list[str], channel: str
) -> None:
    client, alert = request.getfixturevalue(sent)
    trace, span = seen_by(traced, alert, channel)
    assert trace == client.trace
    spans = Spans(receiver)
    until(lambda: spans.way(trace, span)[0] == client.span, what=f"the way is whole: {spans.way(trace, span)}")
    way = spans.way(trace, span)[1:]
    gateway = [step for step in way if step.startswith("api-gateway: ")]
    assert len(gateway) in {1, 2}
    assert way == [*gateway, *taken, "evaluator: judge", "manager: alert fired", f"notifier: deliver {channel}"]


@pytest.mark.parametrize("sent", ["by_a_single_event", "by_a_batch"])
def test_the_alert_names_the_trace_of_its_deliveries(traced: World, request: pytest.FixtureRequest, sent: str) -> None:
    client, alert = request.getfixturevalue(sent)

    def traces() -> dict[str, str]:
        return {entry["kind"]: entry["traceId"] for entry in traced.edge.get(f"/api/alerts/{alert}")["history"]}

    until(lambda: traces() == {"FIRED": client.trace, "NOTIFIED": client.trace}, what=f"{alert} says where it was told")
    assert client.trace in traced.command("alerts", "show", alert).stdout


@pytest.mark.parametrize("sent", ["by_a_single_event", "by_a_batch"])
def test_what_handles_many_at_once_is_linked(receiver: SpanReceiver, request: pytest.FixtureRequest, sent: str) -> None:
    client, _ = request.getfixturevalue(sent)
    spans = Spans(receiver)
    (judged,) = until(lambda: spans.named("evaluator", "judge", trace=client.trace), what="the judging is told")
    (record,) = [span for _, span in spans.of(client.trace) if span.span_id == judged.parent_span_id]

    def one_linked_to(origin: Span, service: str, name: str) -> Span:
        found = until(
            lambda: [span for span in spans.named(service, name) if id_of(origin) in linked(span)],
            what=f"{service}'s {name} is linked to {origin.name}",
        )
        assert len(found) == 1
        return found[0]

    # The match stage: of many records one flush, to which the judging links back.
    flush = one_linked_to(record, "evaluator", "flush window-partials")
    assert id_of(flush) in linked(judged)
    # The manager: one transaction for many transitions, each of which goes on in its own trace.
    handled = one_linked_to(judged, "manager", "alerts process")
    (fired,) = spans.named("manager", "alert fired", trace=client.trace)
    assert id_of(handled) in linked(fired)
    # And back: what became of a delivery is noted in the alert's history.
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


def test_the_spans_name_what_they_are_about(receiver: SpanReceiver, by_a_batch: tuple[Client, str]) -> None:
    client, alert = by_a_batch
    spans = Spans(receiver)
    (fired,) = until(lambda: spans.named("manager", "alert fired", trace=client.trace), what="the manager's span")
    assert attributes(fired)["tocsin.alert.id"] == alert
    (judged,) = spans.named("evaluator", "judge", trace=client.trace)
    assert attributes(judged)["tocsin.rule"]
    (delivered,) = until(lambda: spans.named("notifier", "deliver slack", trace=client.trace), what="the delivery's")
    assert attributes(delivered)["tocsin.outcome"] == "DELIVERED"
    assert all(span.status.code != span.status.STATUS_CODE_ERROR for _, span in spans.of(client.trace))


def test_a_command_is_told_in_its_callers_trace(
    traced: World, receiver: SpanReceiver, by_a_single_event: tuple[Client, str]
) -> None:
    _, alert = by_a_single_event
    client = Client.new()
    client.post(traced, f"/api/alerts/{alert}/acknowledge", {"actor": "ann"})
    (delivery,) = until(
        lambda: [each for each in told(traced, alert, "pagerduty") if each["kind"] == "ACKNOWLEDGED"],
        what="PagerDuty hears of the acknowledgement",
    )
    _, trace, span, _ = delivery["headers"]["traceparent"].split("-")
    assert trace == client.trace
    spans = Spans(receiver)
    until(lambda: spans.way(trace, span)[0] == client.span, what="the way is whole")
    way = [step for step in spans.way(trace, span)[1:] if not step.startswith("api-gateway: ")]
    assert way == ["manager: tocsin.alerts.v1.AlertService/AcknowledgeAlert", "notifier: deliver pagerduty"]


def attributes(span: Span) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


def test_the_alerts_evidence_names_the_trace(traced: World, by_a_batch: tuple[Client, str]) -> None:
    client, alert = by_a_batch
    samples = traced.edge.get(f"/api/alerts/{alert}")["alert"]["samples"]
    assert {sample["traceId"] for sample in samples} == {client.trace}


@pytest.mark.parametrize(
    ("service", "events"),
    [
        ("evaluator", {"group_moved"}),
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

    until(lambda: named() >= events, within=5, what=f"{service} logs {events} with the trace")


def lines(log: Path) -> Iterable[dict]:
    """The whole lines of a log that are JSON."""
    for line in log.read_text().splitlines():
        if line.startswith("{") and line.endswith("}"):
            yield json.loads(line)
