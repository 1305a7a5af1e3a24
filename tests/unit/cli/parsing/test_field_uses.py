"""What becomes of each field of a line."""

import json
from typing import Any

import pytest

from cli.parsing.event import ParsedEvent
from cli.parsing.field_uses import field_uses
from services.domain.level import Level
from tests.unit.cli.parsing.log_lines import event_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def parsed(**fields: Any) -> ParsedEvent:
    return event_of(json.dumps({"message": "m", **fields}))


def uses_of(event: ParsedEvent) -> dict[str, tuple[str, str]]:
    return {use.name: (use.field, use.change) for use, _ in field_uses(event)}


@pytest.mark.parametrize(
    ("name", "value", "field", "change"),
    [
        ("duration_ms", 12.5, "responseTime", ""),
        ("request_time", "0.25", "responseTime", "from seconds to milliseconds"),
        ("event.duration", 250_000_000, "responseTime", "from nanoseconds to milliseconds"),
        ("latency", "1.5s", "responseTime", "from the unit in the text to milliseconds"),
        ("duration_ms", "soon", "attributes.response_time", "not a duration"),
        ("log.level", "warning", "level", "is WARN"),
        ("severity_text", "ERROR", "level", ""),
        ("level", "sev5", "level", "not understood, sent as INFO"),
        ("level", "-", "level", "is INFO"),
        ("@timestamp", "2026-11-27T10:00:00Z", "eventTime", ""),
        ("@timestamp", "soon", "eventTime", "not understood"),
        ("status", "503", "statusCode", ""),
        ("status", "1006", "attributes.status_code", "not a status from 100 to 599"),
        ("trace.id", TRACE, "traceId", ""),
        ("trace_id", TRACE[16:], "traceId", "padded with zeros"),
        ("trace_id", "none", "attributes.trace_id", "not a trace id"),
        ("host.name", "h" * 300, "host", "cut"),
        ("host", "-", "", "means no value"),
        ("service.name", "shop", "service", ""),
        ("recordId", "7", "recordId", ""),
        ("user.tier", "silver", "attributes.user.tier", ""),
        ("tags", ["a", "b"], "attributes.tags", "a list, as JSON text"),
        ("text", "[not a list]", "attributes.text", ""),
        ("long", "x" * 2000, "attributes.long", "cut"),
    ],
)
def test_the_use_of_a_field_says_what_it_became(name: str, value: object, field: str, change: str) -> None:
    assert uses_of(parsed(**{name: value}))[name] == (field, change)


def test_defaults_and_a_message_that_is_the_whole_line_are_said_as_well() -> None:
    uses = field_uses(event_of('{"a":1}'))
    assert [(use.name, use.field, text) for use, text in uses] == [
        ("a", "attributes.a", "1"),
        ("(the whole line)", "message", '{"a":1}'),
        ("(no field)", "service", "s"),
        ("(no field)", "level", "INFO"),
    ]


def test_of_two_names_of_one_field_the_other_becomes_an_attribute() -> None:
    times = {"@timestamp": "2026-11-27T10:00:00Z", "time": "2026-11-27T09:00:00Z"}
    event = parsed(**times, duration_ms=3, duration_s=4)
    assert event.attributes == {"time": times["time"], "duration_s": "4"}
    uses = uses_of(event)
    assert uses["time"] == ("attributes.time", "")
    assert uses["duration_s"] == ("attributes.duration_s", "another field has the duration")


def test_attributes_beyond_the_limit_are_said_to_be_left_out() -> None:
    uses = uses_of(parsed(**{f"a{number}": "x" for number in range(40)}))
    assert uses["a31"] == ("attributes.a31", "")
    assert uses["a32"] == ("", "left out: too many attributes")


ECS = {
    "@timestamp": "2026-11-27T10:00:00Z",
    "log": {"level": "error"},
    "message": "no space left",
    "service": {"name": "shop"},
    "host": {"name": "web-1"},
    "trace": {"id": TRACE},
    "http": {"response": {"status_code": 503}},
    "event": {"duration": 250_000_000},
}
FLAT_ECS = {
    "@timestamp": "2026-11-27T10:00:00Z",
    "log.level": "error",
    "message": "no space left",
    "service.name": "shop",
    "host.name": "web-1",
    "trace.id": TRACE,
    "http.response.status_code": 503,
    "event.duration": 250_000_000,
}
OPEN_TELEMETRY = {
    "timestamp": "2026-11-27T10:00:00Z",
    "severity_text": "ERROR",
    "severity_number": 17,
    "body": "no space left",
    "resource": {"service.name": "shop", "host.name": "web-1"},
    "trace_id": TRACE,
    "attributes": {"http.response.status_code": 503, "http.server.request.duration": 0.25},
}
OTLP = {
    "timeUnixNano": "1795773600000000000",
    "severityText": "ERROR",
    "body": {"stringValue": "no space left"},
    "traceId": TRACE,
    "resource": {
        "attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "host.name", "value": {"stringValue": "web-1"}},
        ]
    },
    "attributes": [
        {"key": "http.response.status_code", "value": {"intValue": "503"}},
        {"key": "http.server.request.duration", "value": {"doubleValue": 0.25}},
    ],
}


@pytest.mark.parametrize("record", [ECS, FLAT_ECS, OPEN_TELEMETRY, OTLP], ids=["ecs", "flat", "otel", "otlp"])
def test_names_of_ecs_and_opentelemetry_are_recognised_nested_and_dotted(record: dict[str, Any]) -> None:
    event = event_of(json.dumps(record))
    assert (event.message, event.level, event.service, event.host) == ("no space left", Level.ERROR, "shop", "web-1")
    assert event.event_time is not None
    assert event.event_time.isoformat() == "2026-11-27T10:00:00+00:00"
    assert (event.trace_id, event.status_code, event.response_time) == (TRACE, 503, 250.0)
    assert event.attributes.keys() <= {"severity_number"}
