"""The usual batch is read straight into columns, the usual event at once, and each is what the exact reader reads."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.event_columns import EVENT_SCHEMA
from services.domain.event_time import parse_rfc3339
from services.ingest.core.json_columns import read_columns, read_event
from services.ingest.core.json_events import JsonEvents
from services.ingest.core.json_text import JsonError

MAX_ATTRIBUTES = 4
PLAIN: dict[str, Any] = {
    "recordId": "r-1",
    "eventTime": "2026-03-01T12:00:00.123456789Z",
    "service": "payments",
    "level": "ERROR",
    "message": 'a "quoted": {"value": 1} \\ of é🔔',
    "statusCode": 503,
    "responseTime": 12.5,
    "host": "web-1",
    "traceId": "ab" * 16,
    "attributes": {"region": "eu", "code": "51"},
}
BARE = {"service": "a", "level": "info", "message": "m"}


def read(body: bytes) -> pa.RecordBatch | None:
    return read_columns(body, EVENT_SCHEMA, max_events=100, max_attributes=MAX_ATTRIBUTES)


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    times = batch.column("event_time").view(pa.int64()).to_pylist()
    others = batch.drop_columns(["event_time"]).to_pylist()
    return [row | {"event_time": time} for row, time in zip(others, times, strict=True)]


def exact_rows(body: bytes) -> list[dict[str, Any]]:
    """What the exact reader reads, which must have nothing to say about any event."""
    found = []
    for event in JsonEvents(body, MAX_ATTRIBUTES).each():
        assert not event.adjustments
        assert not event.found_values
        row: dict[str, Any] = dict.fromkeys(("record_id", "service", "message", "host", "trace_id"), "")
        row |= dict.fromkeys(("status_code", "response_time", "event_time")) | {"level": 0} | event.fields
        if row["event_time"]:
            row["event_time"] = row["event_time"]["seconds"] * 1_000_000_000 + row["event_time"]["nanos"]
        found.append(row | {"attributes": list(event.attributes.items())})
    return found


def agrees(body: bytes) -> bool:
    """Return whether the fast reader takes the text; then it must have read what the exact one reads."""
    batch = read(body)
    if batch is None:
        return False
    assert rows(batch) == exact_rows(body)
    return True


@pytest.mark.parametrize("indent", [None, 1, "\t"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_events_as_the_contract_has_them_are_read(*, indent: int | str | None, is_ascii: bool) -> None:
    assert agrees(json.dumps([PLAIN, BARE], indent=indent, ensure_ascii=is_ascii).encode())
    assert agrees(b'[{"service":"a"},{}]')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level", "warn"),
        ("level", "Fatal"),
        ("level", "5"),
        ("eventTime", "2026-03-01T12:00:00Z"),
        ("eventTime", "1999-12-31T23:59:59.5+13:45"),
        ("eventTime", "2024-02-29T23:59:59.000001-00:30"),
        ("statusCode", 100),
        ("statusCode", 599),
        ("responseTime", 0),
        ("responseTime", 1e300),
        ("attributes", {}),
        ("attributes", {"k" * 128: "v"}),
        ("host", ""),
        ("message", '"a":"b"'),
        ("message", "a\0b"),
        ("message", "ends in a backslash\\"),
        ("message", "INFO [main] c.e.App : Started"),
    ],
)
def test_further_usual_values_are_read(name: str, value: object) -> None:
    assert agrees(json.dumps([PLAIN | {name: value}]).encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("level", 5, id="a level as a number"),
        pytest.param("level", "LOUD", id="no level"),
        pytest.param("eventTime", 1_772_366_400, id="a time as a number"),
        pytest.param("eventTime", "2026-03-01T12:00:60Z", id="a leap second"),
        pytest.param("eventTime", "2026-02-30T12:00:00Z", id="no day"),
        pytest.param("eventTime", "1970-01-01T00:00:00+05:00", id="before 1970"),
        pytest.param("eventTime", "2300-01-01T00:00:00Z", id="more nanoseconds than there are"),
        pytest.param("eventTime", "2026-03-01 12:00", id="a time that only Arrow knows"),
        pytest.param("statusCode", 1006, id="a status beyond the range"),
        pytest.param("statusCode", 10**30, id="a huge status"),
        pytest.param("statusCode", "500", id="a status as a string"),
        pytest.param("responseTime", -1, id="a negative time"),
        pytest.param("responseTime", "12ms", id="a time with its unit"),
        pytest.param("host", None, id="null"),
        pytest.param("service", "", id="an empty service"),
        pytest.param("message", "", id="an empty message"),
        pytest.param("host", 5, id="a host as a number"),
        pytest.param("colour", "red", id="a name that is not in the contract"),
        pytest.param("status_code", 500, id="the other spelling"),
        pytest.param("attributes", {"a": 1}, id="an attribute that is a number"),
        pytest.param("attributes", {"a": {"b": "c"}}, id="an attribute that is an object"),
        pytest.param("attributes", {str(n): "" for n in range(5)}, id="too many attributes"),
        pytest.param("attributes", {"k" * 129: "v"}, id="a long key"),
        pytest.param("attributes", {"k\\": "v"}, id="a key that ends in a backslash"),
        pytest.param("message", 'a "b" : c', id="what may be a name with a blank behind it"),
    ],
)
def test_what_is_not_usual_is_left_to_the_exact_reader(name: str, value: object) -> None:
    assert not agrees(json.dumps([PLAIN, PLAIN | {name: value}]).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"[{}",
        b"[{}] x",
        b"[null]",
        b'\xef\xbb\xbf[{"service":"a"}]',
        b'[{"service":"a\xff"}]',
        b'[{"service":"a","service":"b"}]',
        b'[{"service" :"a","service":"b"}]',
        b'[{"service"\n  :"a"}]',
        b'[{"attributes":{"a":"b","a":"c"}}]',
        b'[{"service":"a","x":"\xff"}]',
        b'[{"message":"\\ud83d"}]',
        b'[{"message":"a\tb"}]',
        b'[{"responseTime":NaN}]',
        b'[{"responseTime":1e400}]',
        b'[{"x":' + b"[" * 100_000,
        b"[" + b"{}," * 100 + b"{}]",
        b"[" + b"{}," * 200 + b"{}]",
    ],
)
def test_other_texts_are_left_to_the_exact_reader(body: bytes) -> None:
    assert read(body) is None


def agrees_alone(body: bytes) -> bool:
    """Return whether the fast reader takes the text as one event; then it must be the exact reader's."""
    event = read_event(body, MAX_ATTRIBUTES)
    return event is not None and event == JsonEvents(body, MAX_ATTRIBUTES).one()


@pytest.mark.parametrize("indent", [None, 1, "\t"])
def test_one_event_as_the_contract_has_it_is_read(indent: int | str | None) -> None:
    events: tuple[dict[str, Any], ...] = (
        PLAIN | {"message": "é: 🔔"},
        BARE,
        BARE | {"attributes": {}},
        BARE | {"host": ""},
    )
    for event in events:
        assert agrees_alone(json.dumps(event, indent=indent, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"service":"a","level":"INFO","message":"m"} x',
        b'{"service":"","level":"INFO","message":"m"}',
        b'{"service":"a","level":"LOUD","message":"m"}',
        b'{"service":"a","level":3,"message":"m"}',
        b'{"service":"a","level":"INFO","message":""}',
        b'{"service":"a","level":"INFO","message":"a \\"quoted\\" m"}',
        b'{"service":"a","level" :"INFO","level":"ERROR","message":"m"}',
        b'{"service":"a","level":"INFO","message":"m","host":null}',
        b'{"service":"a","level":"INFO","message":"m","colour":1}',
        b'{"service":"a","level":"INFO","message":"m","statusCode":600}',
        b'{"service":"a","level":"INFO","message":"m","responseTime":-1}',
        b'{"service":"a","level":"INFO","message":"m","eventTime":""}',
        b'{"service":"a","level":"INFO","message":"m","eventTime":"1772366400"}',
        b'{"service":"a","level":"INFO","message":"m","attributes":{"a":"","b":"","c":"","d":"","e":""}}',
        b'{"service":"a","level":"INFO","message":"m","attributes":{"' + b"k" * 129 + b'":"v"}}',
        b'{"service":"a","level":"INFO","message":"m","attributes":{"k":"v","k":"w"}}',
    ],
)
def test_another_event_is_left_to_the_exact_reader(body: bytes) -> None:
    assert read_event(body, MAX_ATTRIBUTES) is None


texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ['":', '\\"', '\\":"', "\\", '" :', "x" * 130]
)
plain_values: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("recordId", "service", "message", "host", "traceId"), texts),
    "level": st.sampled_from(["ERROR", "error", "eRRor", "3", "LOUD", ""]),
    "statusCode": st.integers(98, 601),
    "responseTime": st.floats(allow_nan=False) | st.integers(-1, 10**20),
    "eventTime": st.datetimes().map(lambda time: time.isoformat() + "Z")
    | st.from_regex(
        r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\d(\.\d{1,9})?(Z|[+-][0-2]\d:[0-6]\d)", fullmatch=True
    ),
    "attributes": st.dictionaries(texts, texts, max_size=5),
}
anything = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.dictionaries(texts, texts, max_size=2)
usual = st.fixed_dictionaries({}, optional=plain_values)
odd = st.tuples(usual, st.dictionaries(st.sampled_from([*plain_values, "x", "status_code"]), anything, max_size=1)).map(
    lambda pair: pair[0] | pair[1]
)
bodies = st.builds(
    lambda events, is_ascii, separators: json.dumps(events, ensure_ascii=is_ascii, separators=separators).encode(),
    st.lists(usual, max_size=3) | st.lists(odd, max_size=2),
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
)


@given(bodies)
def test_whatever_is_read_is_what_the_exact_reader_reads(body: bytes) -> None:
    agrees(body)


@given(bodies, st.data())
def test_a_changed_text_is_read_as_the_exact_reader_reads_it_or_not_at_all(body: bytes, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(begin, min(len(body), begin + 3)))
    middle = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b'":', b"\\", b" ", b",", b"null", b"\\u0041"]))
    changed = body[:begin] + middle + body[end:]
    try:
        agrees(changed)
    except JsonError:
        pytest.fail(f"the exact reader refuses {changed!r}")


single = st.builds(
    lambda event, is_ascii, separators: json.dumps(event, ensure_ascii=is_ascii, separators=separators).encode(),
    st.builds(lambda event: BARE | event, usual) | st.builds(lambda event: BARE | event, odd),
    st.booleans(),
    st.sampled_from([(",", ":"), (" , ", " : ")]),
)


@given(single, st.data())
def test_a_single_event_is_read_as_the_exact_reader_reads_it_or_not_at_all(body: bytes, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(begin, min(len(body), begin + 3)))
    middle = data.draw(st.binary(max_size=3) | st.sampled_from([b"", b'"', b'":', b" ", b",", b"null"]))
    for text in (body, body[:begin] + middle + body[end:]):
        event = read_event(text, MAX_ATTRIBUTES)
        assert event is None or event == JsonEvents(text, MAX_ATTRIBUTES).one()


@given(plain_values["eventTime"])
def test_times_are_those_of_the_exact_reader(text: str) -> None:
    batch = read(json.dumps([BARE | {"eventTime": text}]).encode())
    if batch is not None:
        seconds, nanos = parse_rfc3339(text) or (-1, -1)
        assert rows(batch)[0]["event_time"] == seconds * 1_000_000_000 + nanos
