"""Events are shown whatever form their record has, and none of them can deceive whoever reads them."""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cli.events.decoding import UnreadableEventsError, decode_events, selected_events
from cli.events.event_lines import format_event, print_event
from cli.output import OutputFormat
from services.chassis.kafka import Record
from services.contract.event_columns import EVENT_SCHEMA, encode_log_batch
from services.rule_language.checking import check_filter
from tests.unit.cli.test_hostile_text import HOSTILE, hidden
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch, LogEvent

ARRIVAL_MS = 1_700_000_000_123
ROW: dict[str, Any] = {
    "record_id": "r-1",
    "event_time": 1_600_000_000_123_456_789,
    "service": "payments",
    "level": 5,
    "message": "card refused",
    "status_code": 503,
    "response_time": 12.5,
    "host": "web-1",
    "trace_id": "ab" * 16,
    "attributes": [("region", "eu"), ("code", "51")],
}
BARE: dict[str, Any] = ROW | dict.fromkeys(("event_time", "status_code", "response_time")) | {"attributes": []}


def record(value: bytes) -> Record:
    return Record("log-events", 3, 17, None, value, (), ARRIVAL_MS)


def columns(*rows: dict[str, Any]) -> bytes:
    return encode_log_batch(pa.RecordBatch.from_pylist(list(rows), schema=EVENT_SCHEMA))


def event(row: dict[str, Any]) -> LogEvent:
    """The same event as a message."""
    fields = {name: value for name, value in row.items() if value is not None and name != "event_time"}
    made = LogEvent(**fields | {"attributes": dict(row["attributes"])})
    if row["event_time"] is not None:
        seconds, nanos = divmod(row["event_time"], 1_000_000_000)
        made.event_time.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    return made


def select(text: str, *events: LogEvent) -> list[str]:
    value = LogBatch(events=events).SerializeToString()
    return [each.service for each in selected_events([record(value)], check_filter(text), print)]


def test_columns_and_single_events_are_the_same_events() -> None:
    singly = LogBatch(events=[event(ROW), event(BARE)]).SerializeToString()
    in_columns = decode_events(record(columns(ROW, BARE)))
    assert in_columns == decode_events(record(singly))
    assert in_columns[0] == event(ROW)


def test_an_event_without_a_time_happened_when_its_record_arrived() -> None:
    (bare,) = decode_events(record(columns(BARE)))
    assert bare.event_time.ToMilliseconds() == ARRIVAL_MS
    assert not bare.HasField("status_code")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param(b"\xff", "it is no LogBatch", id="no message"),
        pytest.param(
            LogBatch(columns=EventColumns(schema_version=9)).SerializeToString(),
            "its columns: expected schema version 1, got 9",
            id="columns of a later version",
        ),
        pytest.param(
            LogBatch(events=[LogEvent()], columns=EventColumns()).SerializeToString(),
            "it has events in two forms",
            id="two forms",
        ),
        pytest.param(
            LogBatch(events=[LogEvent(event_time=Timestamp(seconds=2**62))]).SerializeToString(),
            "out of range",
            id="a time that is none",
        ),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_the_next_one_follows(value: bytes, problem: str) -> None:
    with pytest.raises(UnreadableEventsError, match=problem):
        decode_events(record(value))
    notices: list[str] = []
    found = list(selected_events([record(value), record(columns(ROW))], None, notices.append))
    assert found == [event(ROW)]
    assert notices == [f"log-events, partition 3, offset 17 cannot be read: {problem}"]


def test_a_filter_selects_as_a_rule_does() -> None:
    slow, bare = event(ROW | {"service": "slow"}), event(BARE | {"service": "bare"})
    assert select("response_time > 12.0", slow, bare) == ["slow"]
    assert select("status_code >= 500 || level >= ERROR", slow, bare) == ["slow", "bare"]
    assert select('attributes["region"] == "eu"', slow, bare) == ["slow"]
    # What is absent makes neither of them true.
    assert select("!(status_code < 500)", slow, bare) == ["slow"]


def test_a_filter_that_takes_too_many_steps_selects_nothing() -> None:
    many = event(ROW | {"attributes": [(str(number), "x") for number in range(150)]})
    text = "attributes.all(a, attributes.all(b, a != service && b != service))"
    few = event(ROW | {"service": "few"})
    assert select(text, many, few) == ["few"]


def test_a_line_has_time_level_service_and_message() -> None:
    line = format_event(event(ROW), wide=False)
    assert str(line) == "2020-09-13 12:26:40.123 ERROR payments card refused"
    short = format_event(event(ROW | {"level": 3}), wide=False)
    assert str(short) == "2020-09-13 12:26:40.123 INFO  payments card refused"
    unknown = format_event(event(ROW | {"level": 77}), wide=False)
    assert " 77    payments" in str(unknown)


def test_a_wide_line_has_every_field() -> None:
    assert str(format_event(event(ROW), wide=True)) == (
        "2020-09-13 12:26:40.123 ERROR payments card refused host=web-1 trace_id=" + "ab" * 16 + " record_id=r-1 "
        "status_code=503 response_time=12.5 attributes.code=51 attributes.region=eu"
    )
    bare = format_event(event(BARE | {"event_time": 0, "host": "", "trace_id": "", "record_id": ""}), wide=True)
    assert str(bare) == "1970-01-01 00:00:00.000 ERROR payments card refused"


@pytest.mark.parametrize("output", OutputFormat)
def test_hostile_text_stays_text(output: OutputFormat, capsys: pytest.CaptureFixture[str]) -> None:
    texts = dict.fromkeys(("service", "message", "host", "trace_id", "record_id"), HOSTILE)
    print_event(event(ROW | texts | {"attributes": [(HOSTILE, HOSTILE)]}), output)
    printed = capsys.readouterr().out
    assert hidden(printed) == []
    if output is OutputFormat.JSON:
        assert json.loads(printed)["attributes"] == {HOSTILE: HOSTILE}
    if output in {OutputFormat.TABLE, OutputFormat.WIDE}:
        assert printed.count("\n") == 1


def test_a_line_of_json_is_what_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    print_event(event(ROW), OutputFormat.JSON)
    line = json.loads(capsys.readouterr().out)
    assert line["eventTime"] == "2020-09-13T12:26:40.123456789Z"
    assert (line["level"], line["statusCode"], line["attributes"]) == ("ERROR", 503, {"region": "eu", "code": "51"})
    assert datetime.fromisoformat(line["eventTime"][:19] + "Z").tzinfo == UTC
