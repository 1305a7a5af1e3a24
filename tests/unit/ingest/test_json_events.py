"""Events as JSON: how values are read, and what becomes of those that do not fit."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.json_text import JsonText, format_json
from tests.fakes.ingest import Bench, a_bench
from tests.fakes.log_events import NOW, an_event
from tests.unit.ingest.json_bodies import OWN, adjusted_fields, with_members
from tocsin.logs.v1.log_event_pb2 import LogEvent


@pytest.fixture
def bench() -> Bench:
    return a_bench(max_attributes=32, max_message_bytes=200)


@pytest.mark.parametrize(
    ("text", "fields", "changes"),
    [
        pytest.param(
            '"status_code":"500","response_time":"1.5"', {"status_code": 500, "response_time": 1.5}, "", id="1"
        ),
        pytest.param('"statusCode":5e2', {"status_code": 500}, "", id="an integer as a double"),
        pytest.param('"statusCode":null,"host":null,"attributes":null,"x":null', {}, "", id="null is absent"),
        pytest.param(
            '"traceId":"a3ce929d0e0e4736"', {"trace_id": "0" * 16 + "a3ce929d0e0e4736"}, "traceId PADDED", id="short"
        ),
        pytest.param(
            '"statusCode":1006', {"attributes": {"status_code": "1006"}}, "statusCode KEPT_AS_ATTRIBUTE", id="1006"
        ),
        pytest.param(
            '"statusCode":"abc"', {"attributes": {"status_code": "abc"}}, "statusCode KEPT_AS_ATTRIBUTE", id="word"
        ),
        pytest.param(
            '"statusCode":"5_00","responseTime":"\\u0662\\u0660"',
            {"attributes": {"status_code": "5_00", "response_time": "\u0662\u0660"}},
            "statusCode KEPT_AS_ATTRIBUTE, responseTime KEPT_AS_ATTRIBUTE",
            id="numbers of Python only",
        ),
        pytest.param(
            '"statusCode":500.5', {"attributes": {"status_code": "500.5"}}, "statusCode KEPT_AS_ATTRIBUTE", id="half"
        ),
        pytest.param(
            '"statusCode":1e400', {"attributes": {"status_code": "1e400"}}, "statusCode KEPT_AS_ATTRIBUTE", id="1e400"
        ),
        pytest.param(
            f'"statusCode":{"9" * 5000}',
            {"attributes": {"status_code": "9" * 1024}},
            "statusCode KEPT_AS_ATTRIBUTE, attributes CUT",
            id="a huge integer",
        ),
        pytest.param(
            '"statusCode":true', {"attributes": {"status_code": "true"}}, "statusCode KEPT_AS_ATTRIBUTE", id="true"
        ),
        pytest.param(
            '"statusCode":{"a":1}', {"attributes": {"status_code.a": "1"}}, "statusCode KEPT_AS_ATTRIBUTE", id="object"
        ),
        pytest.param('"responseTime":"12ms"', {"response_time": 12.0}, "responseTime CONVERTED", id="12ms"),
        pytest.param('"responseTime":"1.5 s"', {"response_time": 1500.0}, "responseTime CONVERTED", id="seconds"),
        pytest.param('"responseTime":"2m"', {"response_time": 120_000.0}, "responseTime CONVERTED", id="minutes"),
        pytest.param('"responseTime":"250us"', {"response_time": 0.25}, "responseTime CONVERTED", id="us"),
        pytest.param('"responseTime":"250µs"', {"response_time": 0.25}, "responseTime CONVERTED", id="micro sign"),
        pytest.param('"responseTime":"250μs"', {"response_time": 0.25}, "responseTime CONVERTED", id="Greek mu"),
        pytest.param('"responseTime":"5e5ns"', {"response_time": 0.5}, "responseTime CONVERTED", id="ns"),
        pytest.param(
            '"responseTime":"-5ms"',
            {"attributes": {"response_time": "-5ms"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="-5ms",
        ),
        pytest.param(
            '"responseTime":-1', {"attributes": {"response_time": "-1"}}, "responseTime KEPT_AS_ATTRIBUTE", id="-1"
        ),
        pytest.param(
            '"responseTime":NaN', {"attributes": {"response_time": "NaN"}}, "responseTime KEPT_AS_ATTRIBUTE", id="NaN"
        ),
        pytest.param(
            '"responseTime":-Infinity',
            {"attributes": {"response_time": "-Infinity"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="-Infinity",
        ),
        pytest.param(
            f'"responseTime":"{"9" * 300_000}x"',
            {"attributes": {"response_time": "9" * 1024}},
            "responseTime KEPT_AS_ATTRIBUTE, attributes CUT",
            id="many digits and no unit",
        ),
        pytest.param(
            '"responseTime":[1]',
            {"attributes": {"response_time": "[1]"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="a list",
        ),
        pytest.param('"host":5', {"host": "5"}, "host CONVERTED", id="a number for a text"),
        pytest.param(
            '"host":{"name":"h"}', {"attributes": {"host.name": "h"}}, "host KEPT_AS_ATTRIBUTE", id="host as ECS has it"
        ),
        pytest.param('"recordId":false', {"record_id": "false"}, "recordId CONVERTED", id="false for a text"),
        pytest.param(
            '"attributes":["a"]', {"attributes": {"attributes": '["a"]'}}, "attributes KEPT_AS_ATTRIBUTE", id="no map"
        ),
        pytest.param(
            '"colour":"x","attributes":{"a":1,"b":true,"c":{"d":1.10}}',
            {"attributes": {"colour": "x", "a": "1", "b": "true", "c.d": "1.10"}},
            "",
            id="what the contract does not name",
        ),
        pytest.param(
            '"user":{"id":7,"tags":["a",{"b":[1e3,null,false,{},[]]}]}',
            {"attributes": {"user.id": "7", "user.tags": '["a",{"b":[1e3,null,false,{},[]]}]'}},
            "",
            id="objects and lists",
        ),
        pytest.param('"x":1,"x":2', {"attributes": {"x": "2"}}, "attributes LEFT_OUT", id="a key twice"),
        pytest.param('"host":"a","host":"b"', {"host": "b"}, "host LEFT_OUT", id="a field twice"),
        pytest.param(
            '"statusCode":500,"status_code":501', {"status_code": 501}, "statusCode LEFT_OUT", id="in both spellings"
        ),
        pytest.param('"statusCode":500,"status_code":null', {"status_code": 500}, "", id="null in one of them"),
        pytest.param(
            '"status_code":5,"status_code":501', {"status_code": 501}, "statusCode LEFT_OUT", id="twice in one"
        ),
        pytest.param(
            '"a.b":1,"a":{"b":2}', {"attributes": {"a.b": "1"}}, "attributes LEFT_OUT", id="one dotted name twice"
        ),
        pytest.param('"x":{}', {"attributes": {"x": "{}"}}, "", id="an empty object"),
        pytest.param(
            '"x":' + '{"a":' * 9 + "1" + "}" * 9,
            {"attributes": {"x.a.a.a.a.a.a.a": '{"a":{"a":1}}'}},
            "",
            id="deep objects",
        ),
        pytest.param('"x":' + "[" * 10 + "]" * 10, {"attributes": {"x": "[" * 8 + "…" + "]" * 8}}, "", id="deep lists"),
        pytest.param(
            f'"x":["{"y" * 2000}",1,2]', {"attributes": {"x": '["' + "y" * 1022}}, "attributes CUT", id="a long list"
        ),
        pytest.param(
            f'"{"k" * 200}":{{"{"l" * 200}":1}}', {"attributes": {"k" * 128: "1"}}, "attributes CUT", id="long keys"
        ),
        pytest.param('"x":"\\ud83d\\udd14"', {"attributes": {"x": "🔔"}}, "", id="a surrogate pair"),
        pytest.param('"x":"a\\ud83d"', {"attributes": {"x": "a\ufffd"}}, "attributes CONVERTED", id="half of one"),
        pytest.param('"host":"\\uDC00b"', {"host": "\ufffdb"}, "host CONVERTED", id="the other half"),
        pytest.param('"host":"a\\u0000b"', {"host": "a\0b"}, "", id="NUL"),
        pytest.param('"host":"a\tb"', {"host": "a\tb"}, "", id="a bare tab"),
        pytest.param('"eventTime":"2016-12-31T23:59:60Z"', {"event_time": (1483228800, 0)}, "", id="a leap second"),
        pytest.param(
            '"eventTime":"2017-01-01T00:59:60+01:00"', {"event_time": (1483228800, 0)}, "", id="and with a zone"
        ),
        pytest.param(
            '"event_time":"2026-03-01t11:30:00.123456789-00:30"',
            {"event_time": (1772366400, 123456789)},
            "",
            id="nanoseconds",
        ),
        pytest.param('"timestamp":"2026-03-01T12:00:00Z"', {"event_time": (1772366400, 0)}, "", id="timestamp"),
        pytest.param('"@timestamp":"2026-03-01T12:00:00Z"', {"event_time": (1772366400, 0)}, "", id="@timestamp"),
        pytest.param(
            '"time":1772366400.5', {"event_time": (1772366400, 500000000)}, "eventTime CONVERTED", id="seconds"
        ),
        pytest.param('"time":1772366400123', {"event_time": (1772366400, 123000000)}, "eventTime CONVERTED", id="pino"),
        pytest.param(
            '"time":"1772366400123456"', {"event_time": (1772366400, 123456000)}, "eventTime CONVERTED", id="micros"
        ),
        pytest.param(
            '"time":1772366400123456789', {"event_time": (1772366400, 123456789)}, "eventTime CONVERTED", id="nanos"
        ),
        pytest.param(
            '"time":"12ms","@timestamp":"2026-03-01T12:00:00Z"',
            {"event_time": (1772366400, 0), "attributes": {"time": "12ms"}},
            "",
            id="the first that is a time",
        ),
        pytest.param(
            '"time":0.25,"timestamp":[1]',
            {"attributes": {"time": "0.25", "timestamp": "[1]"}},
            "eventTime KEPT_AS_ATTRIBUTE",
            id="a time that takes time",
        ),
        pytest.param(
            '"eventTime":"2026-03-01T12:00:00Z","time":"x"',
            {"event_time": (1772366400, 0), "attributes": {"time": "x"}},
            "",
            id="beside the own one",
        ),
    ],
)
async def test_a_value_is_read_or_adjusted(bench: Bench, text: str, fields: dict[str, Any], changes: str) -> None:
    when = fields.pop("event_time", None)
    expected = an_event(**fields)
    if when:
        expected.event_time.MergeFrom(Timestamp(seconds=when[0], nanos=when[1]))
    single = await bench.ingest_json(with_members(text))
    batch = await bench.ingest_json_batch(b"[" + with_members(text) + b"," + json.dumps(OWN).encode() + b"]")
    assert list(bench.producer.events) == [expected, expected, an_event()]
    wanted = set(changes.split(", ")) - {""}
    assert adjusted_fields(single.adjusted) == adjusted_fields(batch.adjusted) == wanted
    assert batch.adjusted.event_count == bool(wanted)


async def test_a_message_that_is_an_object_is_kept_as_its_json(bench: Bench) -> None:
    response = await bench.ingest_json(json.dumps(OWN | {"message": {"a": [1, "é"]}}).encode())
    assert adjusted_fields(response.adjusted) == {"message CONVERTED"}
    assert bench.producer.events[0].message == '{"a":[1,"é"]}'


async def test_attributes_beyond_the_limit_are_left_out_and_reported(bench: Bench) -> None:
    response = await bench.ingest_json(json.dumps(OWN | {f"k{n}": n for n in range(33)} | {"o": {"p": 1}}).encode())
    assert adjusted_fields(response.adjusted) == {"attributes LEFT_OUT"}
    assert dict(bench.producer.events[0].attributes) == {f"k{n}": str(n) for n in range(32)}


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
names = texts | st.sampled_from(
    [name for each in LogEvent.DESCRIPTOR.fields for name in (each.name, each.json_name)] + ["time", "timestamp"]
)
required = {"service", "level", "message", "eventTime", "event_time"}


@given(st.lists(st.dictionaries(names, values, max_size=8), min_size=1, max_size=3))
async def test_no_other_field_refuses_an_event(given_events: list[dict[str, Any]]) -> None:
    bench = a_bench(max_message_bytes=200)
    events = [OWN | {name: value for name, value in each.items() if name not in required} for each in given_events]
    for event in events:
        event.pop("time", None)
        event.pop("timestamp", None)
    response = await bench.ingest_json_batch(json.dumps(events).encode())
    assert response.accepted_count == len(events)


@given(values)
def test_json_is_written_as_it_was_read(value: Any) -> None:
    text = json.dumps(value)
    written = format_json(JsonText(text.encode()).one(), None)
    assert "…" in written or json.dumps(json.loads(written)) == text


async def test_what_protobuf_writes_as_json_is_read_as_the_same_event(bench: Bench) -> None:
    event = an_event(
        record_id="r", status_code=204, response_time=1.25, host="h", trace_id="a1" * 16, attributes={"a": "b"}
    )
    event.event_time.FromDatetime(NOW)
    for keeps_names in (True, False):
        response = await bench.ingest_json(
            json.dumps(MessageToDict(event, preserving_proto_field_name=keeps_names)).encode()
        )
        assert not response.HasField("adjusted")
    assert list(bench.producer.events) == [event, event]
